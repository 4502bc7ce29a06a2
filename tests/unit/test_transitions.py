"""The transition table over many random histories: no acknowledged update is ever lost."""

from dataclasses import replace
from random import Random

import pytest

from kvstore.cluster.chains import new_chain, remove_target
from kvstore.cluster.ids import CHAIN_VERSION_MAX, ChainId, ChainVersion, NodeId, TargetId
from kvstore.cluster.mgmtd.basis import basis_of
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.mgmtd.events import Note
from kvstore.cluster.mgmtd.judging import judge_chains
from kvstore.cluster.mgmtd.ledger import Ledger
from kvstore.cluster.routing import Chain, RoutingInfo, Target
from kvstore.cluster.states import LocalState, PublicState
from kvstore.cluster.transitions import NO_REPORT, Report, next_chain
from kvstore.errors import ChainChangeError

STEPS = 400
LEASE_NS = 3


class Replicas:
    """Targets that hold the number of the last update they saw, and die and return at random."""

    def __init__(self, seed: int, count: int) -> None:
        self.random = Random(seed)
        self.chain = new_chain(ChainId(1), targets_of(count))
        self.held = {place.target: 0 for place in self.chain.targets}
        self.acknowledged = 0
        self.reports: dict[TargetId, Report] = {}
        self.up = dict.fromkeys(self.held, True)
        self.synced: set[TargetId] = set()
        self.said: dict[TargetId, ChainVersion] = {}
        self.on_the_way: list[tuple[int, TargetId, Report]] = []

    def step(self, now_ns: int) -> None:
        for target in self.held:
            if self.random.random() < 0.15:
                self.up[target] = not self.up[target]
                self.synced.discard(target)
            if self.random.random() < 0.7:
                late_ns = now_ns + self.random.randrange(3)
                self.on_the_way.append((late_ns, target, self.report(target, now_ns)))
        self.deliver(now_ns)
        self.chain = next_chain(self.chain, self.reports, now_ns).chain
        serving = self.chain.in_state(PublicState.SERVING)
        assert all(self.held[target] == self.acknowledged for target in serving)
        self.update(serving)

    def update(self, serving: tuple[TargetId, ...]) -> None:
        """Acknowledge an update that all hold who serve, or have said that they are up to date.

        Without the latter, a target could become serving by a report that is late, and lack it.
        """
        syncing = self.chain.in_state(PublicState.SYNCING)
        said = [target for target in syncing if self.said.get(target) == self.chain.version]
        if not serving or not self.synced.issuperset(said):
            return
        if all(self.up[target] for target in (*serving, *said)):
            self.acknowledged += 1
            for target in (*serving, *said):
                self.held[target] = self.acknowledged

    def deliver(self, now_ns: int) -> None:
        """Hand over the reports whose time has come, each target's in their order."""
        due = [entry for entry in self.on_the_way if entry[0] <= now_ns]
        self.on_the_way = [entry for entry in self.on_the_way if entry[0] > now_ns]
        for _, target, report in sorted(due, key=lambda entry: entry[2].lease_end_ns):
            known = self.reports.get(target)
            if known is None or known.lease_end_ns < report.lease_end_ns:
                self.reports[target] = report

    def report(self, target: TargetId, now_ns: int) -> Report:
        """What an honest node says: a target is up to date once it has synced in this version."""
        local = LocalState.ONLINE if self.up[target] else LocalState.OFFLINE
        syncing = target in self.chain.in_state(PublicState.SYNCING)
        if self.up[target] and syncing and self.random.random() < 0.5:
            # From here on it gets every update too, as long as the chain stays as it is.
            self.synced.add(target)
            self.said[target] = self.chain.version
            self.held[target] = self.acknowledged
            local = LocalState.UPTODATE
        return Report(local, self.chain.version, now_ns + LEASE_NS)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(25))
def test_what_serves_holds_every_acknowledged_update(seed: int, count: int) -> None:
    replicas = Replicas(seed, count)

    for now_ns in range(STEPS):
        replicas.step(now_ns)

    assert replicas.acknowledged > 0


@pytest.mark.parametrize("seed", range(5))
def test_a_chain_heals_when_all_of_its_targets_are_back(seed: int) -> None:
    replicas = Replicas(seed, 3)
    for now_ns in range(STEPS):
        replicas.step(now_ns)

    chain = replicas.chain
    for now_ns in range(STEPS, STEPS + 20):
        for target in replicas.held:
            local = (
                LocalState.UPTODATE if chain.in_state(PublicState.SYNCING) else LocalState.ONLINE
            )
            replicas.reports[target] = Report(local, chain.version, now_ns + LEASE_NS)
        chain = next_chain(chain, replicas.reports, now_ns).chain

    assert 3 == len(chain.in_state(PublicState.SERVING))


def test_a_new_chain_serves_from_all_of_its_targets() -> None:
    chain = new_chain(ChainId(4), targets_of(3))

    assert (1, 1, 3) == (chain.version, chain.head, chain.tail)


def test_a_chain_of_no_target_is_refused() -> None:
    with pytest.raises(ChainChangeError, match="chain 4 would have no target: name at least one"):
        new_chain(ChainId(4), ())


def test_a_chain_with_two_targets_of_one_node_is_refused() -> None:
    first, second = targets_of(2)
    with pytest.raises(ChainChangeError, match="take a target of another node"):
        new_chain(ChainId(4), (first, Target(second.id, first.node, 1, 0)))


def test_a_chain_without_a_serving_target_has_neither_head_nor_tail() -> None:
    chain: Chain = next_chain(new_chain(ChainId(4), targets_of(2)), {}, 0).chain

    assert (None, None) == (chain.head, chain.tail)


def targets_of(count: int) -> tuple[Target, ...]:
    return tuple(Target(TargetId(id), NodeId(id), 0, 0) for id in range(1, count + 1))


def test_a_chain_that_has_had_its_last_version_stays_as_it_is() -> None:
    chain = replace(new_chain(ChainId(1), targets_of(2)), version=ChainVersion(CHAIN_VERSION_MAX))
    alive = {
        place.target: Report(LocalState.UPTODATE, chain.version, 10) for place in chain.targets
    }

    assert chain is next_chain(chain, alive, 1).chain
    with pytest.raises(ChainChangeError, match="move its slots to a new chain"):
        next_chain(chain, {}, 1)
    with pytest.raises(ChainChangeError, match=f"version {CHAIN_VERSION_MAX}"):
        remove_target(chain, chain.targets[0].target)


def test_the_other_chains_go_on_beside_one_without_a_next_version() -> None:
    ended = replace(new_chain(ChainId(1), targets_of(2)), version=ChainVersion(CHAIN_VERSION_MAX))
    draft = Draft(basis_of(RoutingInfo(chains={ended.id: ended}), Ledger()))

    (said,) = judge_chains(draft, [ended.id], lambda _: NO_REPORT, 1)

    assert isinstance(said, Note)
    assert "chain stays" == said.text
    assert not draft.chains.changed
