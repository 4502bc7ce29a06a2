"""Chains in the making: how much is computed at once, and what a primary leaves behind."""

from uuid import UUID

import pytest

from kvstore.cluster.ids import ChainVersion, Epoch, NodeId, RoutingVersion, TargetId
from kvstore.cluster.leases import LeaseTerms
from kvstore.cluster.mgmtd import forming
from kvstore.cluster.mgmtd.basis import Basis, basis_of
from kvstore.cluster.mgmtd.core import Core
from kvstore.cluster.mgmtd.events import (
    Answer,
    Ask,
    Beat,
    Continue,
    Effect,
    Event,
    Proceed,
    Refuse,
    Register,
    Save,
    Saved,
    Tick,
)
from kvstore.cluster.mgmtd.forming import UNITS_A_STEP
from kvstore.cluster.mgmtd.ledger import Ledger
from kvstore.cluster.mgmtd.messages import NodeRegistration, TargetRegistration, TargetReport
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.mgmtd.wire import encode_measures, encode_states
from kvstore.cluster.placement.design import CANDIDATES_MAX
from kvstore.cluster.placement.draws import DRAWS_A_UNIT, Draws
from kvstore.cluster.routing import RoutingInfo, problems_of
from kvstore.cluster.states import LocalState
from kvstore.errors import BusyError

NODES = 12
TARGETS = 6
SLOTS = 1 << 18
HOUR_MS = 3_600_000
DEADLINE_NS = 1 << 60


class Primary:
    """A core of a cluster whose nodes all registered, without chains."""

    def __init__(self, settings: Settings, basis: Basis | None = None) -> None:
        self.now_ns = 1
        empty = basis_of(RoutingInfo(RoutingVersion(1), UUID(int=1)), Ledger())
        self.core = Core(settings, Epoch(1), basis or empty, self.now_ns)
        self.drawn = self.drawn_max = self.steps = 0

    def step(self, event: Event) -> list[Effect]:
        self.now_ns += 1
        self.drawn = 0
        effects = self.core.step(event, self.now_ns)
        self.drawn_max = max(self.drawn_max, self.drawn)
        return effects

    def settle(self, effects: list[Effect]) -> list[Effect]:
        """Store and go on, until there is nothing to do; return all effects."""
        every = list(effects)
        while effects:
            more: list[Effect] = []
            if Continue() in effects:
                self.steps += 1
                more += self.step(Proceed())
            if any(isinstance(effect, Save) for effect in effects):
                more += self.step(Saved())
            every += more
            effects = more
        return every

    def join_all(self) -> None:
        for id in range(1, NODES + 1):
            targets = [TargetId(id * 100 + index) for index in range(TARGETS)]
            registration = NodeRegistration(
                id=NodeId(id),
                incarnation=1,
                addresses=(f"node{id}:1",),
                targets=tuple(
                    TargetRegistration(id=target, uuid=UUID(int=target), empty=True)
                    for target in targets
                ),
            )
            self.settle(self.step(Register(id, id, registration, DEADLINE_NS)))
            self.beat(id)

    def beat(self, id: int) -> list[Effect]:
        reports = [
            TargetReport(
                target=TargetId(id * 100 + index),
                local=LocalState.ONLINE,
                chain_version=ChainVersion(0),
            )
            for index in range(TARGETS)
        ]
        version = self.core.basis.routing.version
        states, measures = encode_states(reports), encode_measures(reports)
        return self.step(Beat(1000 + id, id, NodeId(id), 1, version, states, measures))


def settings_of(expected: int) -> Settings:
    terms = LeaseTerms(heartbeat_ms=HOUR_MS // 10, lease_ms=HOUR_MS)
    return Settings(terms=terms, expected_nodes=expected, slots=SLOTS)


def counted(monkeypatch: pytest.MonkeyPatch, primary: Primary) -> None:
    """Count what grows with chains and slots: the draws of each step."""
    word = Draws.word

    def count(draws: Draws) -> int:
        primary.drawn += 1
        return word(draws)

    monkeypatch.setattr(Draws, "word", count)


def test_no_step_of_the_first_chains_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    primary = Primary(settings_of(NODES))
    counted(monkeypatch, primary)
    primary.join_all()

    primary.settle(primary.step(Tick()))

    routing = primary.core.basis.routing
    assert NODES * TARGETS // 3 == len(routing.chains)
    assert [SLOTS] == [len(table.chains) for table in routing.slot_tables.values()]
    assert SLOTS // DRAWS_A_UNIT // UNITS_A_STEP <= primary.steps
    assert 0 < primary.drawn_max <= UNITS_A_STEP * max(DRAWS_A_UNIT, CANDIDATES_MAX)


def test_heartbeats_are_answered_between_the_steps() -> None:
    primary = Primary(settings_of(NODES))
    primary.join_all()
    effects = primary.step(Tick())

    for id in range(1, NODES + 1):
        assert Continue() in effects
        (answer,) = primary.beat(id)
        assert isinstance(answer, Answer)
        effects = primary.step(Proceed())


def test_other_chains_are_not_made_at_the_same_time() -> None:
    primary = Primary(settings_of(0))
    primary.join_all()

    first = primary.step(Ask(1, "create_chains", {}, DEADLINE_NS))
    (refused,) = primary.step(Ask(2, "create_chains", {}, DEADLINE_NS))

    assert Continue() in first
    assert isinstance(refused, Refuse)
    assert isinstance(refused.error, BusyError)
    every = primary.settle(first)
    assert [1] == [effect.ticket for effect in every if isinstance(effect, Answer)]


def test_chains_that_a_primary_left_behind_are_in_the_first_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forming, "CHAINS_A_DRAFT", 5)
    before = Primary(settings_of(NODES))
    before.join_all()
    effects = before.step(Tick())
    while not before.core.basis.routing.chains:
        effects = before.step(Saved() if any(isinstance(e, Save) for e in effects) else Proceed())
    assert 5 == len(before.core.basis.routing.chains)
    assert not before.core.basis.routing.slot_tables

    after = Primary(settings_of(NODES), before.core.basis)
    for id in range(1, NODES + 1):
        after.settle(after.beat(id))
    after.settle(after.step(Tick()))

    routing = after.core.basis.routing
    (table,) = routing.slot_tables.values()
    assert NODES * TARGETS // 3 == len(routing.chains)
    assert set(routing.chains) == set(table.chains)
    assert not list(problems_of(routing))
