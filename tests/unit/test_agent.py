"""A node's agent against an mgmtd that a test plays: leases, the gate after a start, retiring."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from unit.chained_nodes import routing, state

from kvstore.cluster.ids import Epoch, NodeId, RoutingVersion, TargetId
from kvstore.cluster.leases import LeaseTerms
from kvstore.cluster.mgmtd.messages import (
    Heartbeat,
    HeartbeatAnswer,
    NodeRegistration,
    RegisterAnswer,
    TargetRegistration,
)
from kvstore.cluster.routing import NIL_UUID, RoutingInfo
from kvstore.cluster.states import LocalState
from kvstore.errors import MgmtdUnavailableError, NotRegisteredError, RegistrationError
from kvstore.node.agent import Agent
from kvstore.node.config import LogLevel, LogStyle
from kvstore.node.devices import STUCK_MS
from kvstore.node.log import make_log
from kvstore.types import ChainPlace, ChainState, NodeEvent, NodeEventKind, SlotMoveOrder

DEADLINE_S = 20.0
TERMS = LeaseTerms(heartbeat_ms=100, lease_ms=60_000)
REGISTRATION = NodeRegistration(
    id=NodeId(1),
    incarnation=5,
    addresses=("n1:7400",),
    targets=(TargetRegistration(id=TargetId(1), uuid=NIL_UUID),),
)


class Core:
    """A node that remembers what it was told."""

    def __init__(self) -> None:
        self.configured: list[tuple[int, tuple[ChainPlace, ...]]] = []
        self.leases: list[int] = []
        self.moves: list[tuple[SlotMoveOrder, ...]] = []
        self.state = state(1, LocalState.UPTODATE, chain_version=3)

    def set_chains(
        self, routing_version: int, places: Sequence[ChainPlace], addresses: Sequence[str]
    ) -> None:
        self.configured.append((routing_version, tuple(places)))

    def set_moves(self, moves: Sequence[SlotMoveOrder]) -> None:
        self.moves.append(tuple(moves))

    def set_lease(self, end_ns: int) -> None:
        self.leases.append(end_ns)

    def chain_states(self) -> list[ChainState]:
        return [self.state]


class Mgmtd:
    """A primary whose words a test chooses."""

    def __init__(self, first: RoutingInfo) -> None:
        self.first = first
        self.registered: asyncio.Queue[NodeRegistration] = asyncio.Queue()
        self.heartbeats: asyncio.Queue[Heartbeat] = asyncio.Queue()
        self.answers: asyncio.Queue[HeartbeatAnswer | Exception] = asyncio.Queue()
        self.routing: asyncio.Queue[RoutingInfo] = asyncio.Queue()
        self.suspicions: asyncio.Queue[tuple[int, int | None]] = asyncio.Queue()
        self.refusals: list[Exception] = []
        self.left = asyncio.Event()

    async def register(
        self, registration: NodeRegistration, *, timeout_s: float | None = None
    ) -> RegisterAnswer:
        if self.refusals:
            raise self.refusals.pop(0)
        self.registered.put_nowait(registration)
        return RegisterAnswer(TERMS, NIL_UUID, Epoch(1), self.first)

    async def heartbeat(
        self, heartbeat: Heartbeat, *, timeout_s: float | None = None
    ) -> HeartbeatAnswer:
        self.heartbeats.put_nowait(heartbeat)
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def leave(
        self, node: NodeId, incarnation: int, *, timeout_s: float | None = None
    ) -> None:
        self.left.set()

    async def suspect(
        self, node: NodeId, target: TargetId | None, why: str, *, timeout_s: float | None = None
    ) -> None:
        self.suspicions.put_nowait((node, target))

    async def subscribe(
        self, known: RoutingInfo | None = None
    ) -> AsyncGenerator[RoutingInfo, None]:
        while True:
            yield await self.routing.get()


def answer(
    lease_ms: int = 60_000, epoch: int = 1, retire: Sequence[int] = (), version: int = 1
) -> HeartbeatAnswer:
    targets = tuple(map(TargetId, retire))
    return HeartbeatAnswer(Epoch(epoch), RoutingVersion(version), lease_ms, targets)


async def until_it_reports(mgmtd: "Mgmtd", local: LocalState, reply: HeartbeatAnswer) -> Heartbeat:
    """Answer heartbeats until the target is reported so."""
    while local is not (heartbeat := await mgmtd.heartbeats.get()).targets[0].local:
        mgmtd.answers.put_nowait(reply)
    return heartbeat


@asynccontextmanager
async def running(first: RoutingInfo) -> AsyncIterator[tuple[Agent, Core, Mgmtd]]:
    core, mgmtd = Core(), Mgmtd(first)
    agent = Agent(core, mgmtd, REGISTRATION, make_log(LogStyle.JSON, LogLevel.ERROR))
    async with asyncio.timeout(DEADLINE_S):
        await agent.join()
        task = asyncio.create_task(agent.run())
        try:
            yield agent, core, mgmtd
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_node_that_starts_serves_nothing_until_it_is_out_of_its_chains() -> None:
    async with running(routing(1, c1="v1 1S 2S")) as (_, core, mgmtd):
        starting = await mgmtd.heartbeats.get()
        mgmtd.routing.put_nowait(routing(2, c1="v2 2S 1O"))
        mgmtd.answers.put_nowait(answer())
        returned = await mgmtd.heartbeats.get()

        assert LocalState.OFFLINE is starting.targets[0].local
        assert LocalState.UPTODATE is returned.targets[0].local
        assert (1, 2) == (starting.routing_version, returned.routing_version)
        assert [2] == [version for version, _ in core.configured]


async def test_a_lease_counts_from_before_the_heartbeat_was_sent() -> None:
    async with running(routing(1)) as (agent, core, mgmtd):
        await mgmtd.heartbeats.get()
        heard_ns = time.monotonic_ns()
        mgmtd.answers.put_nowait(answer(lease_ms=30_000))
        await agent.renewed()

        assert core.leases[-1] <= heard_ns + 30_000_000_000
        assert 0 < agent.lease_left_s <= 30


async def test_without_a_lease_the_next_heartbeat_follows_the_configuration() -> None:
    async with running(routing(1, c1="v1 2S 1O")) as (_, core, mgmtd):
        await mgmtd.heartbeats.get()
        mgmtd.answers.put_nowait(answer(lease_ms=0))
        mgmtd.routing.put_nowait(routing(2, c1="v2 2S 1Y"))
        while (heartbeat := await mgmtd.heartbeats.get()).routing_version < 2:
            mgmtd.answers.put_nowait(answer(lease_ms=0))

        assert [] == core.leases
        assert 2 == heartbeat.routing_version == core.configured[-1][0]


async def test_the_answer_of_an_earlier_primary_is_worth_nothing() -> None:
    async with running(routing(1)) as (agent, core, mgmtd):
        await mgmtd.heartbeats.get()
        mgmtd.answers.put_nowait(answer(epoch=3, lease_ms=10_000))
        await mgmtd.heartbeats.get()
        mgmtd.answers.put_nowait(answer(epoch=2, lease_ms=60_000))
        await mgmtd.heartbeats.get()

        assert 1 == len(core.leases)
        assert agent.lease_left_s <= 10


async def test_a_target_that_retires_is_offline_until_it_is_in_no_chain() -> None:
    async with running(routing(1, c1="v1 2S 1O")) as (_, core, mgmtd):
        mgmtd.routing.put_nowait(routing(2, c1="v2 2S 1S"))
        mgmtd.answers.put_nowait(answer(retire=[1]))
        while LocalState.OFFLINE is not (await mgmtd.heartbeats.get()).targets[0].local:
            mgmtd.answers.put_nowait(answer(retire=[1]))
        places = core.configured[-1][1]
        mgmtd.routing.put_nowait(routing(3, c1="v3 2S"))
        mgmtd.answers.put_nowait(answer())
        while LocalState.UPTODATE is not (await mgmtd.heartbeats.get()).targets[0].local:
            mgmtd.answers.put_nowait(answer())

        assert () == places


async def test_a_target_that_is_not_to_retire_any_more_serves_again() -> None:
    async with running(routing(1, c1="v1 2S 1O")) as (_, core, mgmtd):
        mgmtd.routing.put_nowait(routing(2, c1="v2 2S 1S"))
        await until_it_reports(mgmtd, LocalState.UPTODATE, answer())
        mgmtd.answers.put_nowait(answer(retire=[1], version=2))
        await until_it_reports(mgmtd, LocalState.OFFLINE, answer(retire=[1], version=2))
        mgmtd.answers.put_nowait(answer(version=3))  # newer than what the node knows
        still = await mgmtd.heartbeats.get()
        mgmtd.answers.put_nowait(answer(version=2))
        await until_it_reports(mgmtd, LocalState.UPTODATE, answer(version=2))

        assert LocalState.OFFLINE is still.targets[0].local
        assert [1] == [place.target for place in core.configured[-1][1]]


async def test_a_target_whose_device_does_not_answer_is_out_before_it_is_reported() -> None:
    async with running(routing(1, c1="v1 2S 1O")) as (_, core, mgmtd):
        mgmtd.routing.put_nowait(routing(2, c1="v2 2S 1S"))
        await until_it_reports(mgmtd, LocalState.UPTODATE, answer())
        core.state = state(1, LocalState.UPTODATE, io_silent_ms=STUCK_MS, io_oldest_ms=STUCK_MS)
        mgmtd.answers.put_nowait(answer())
        heartbeat = await until_it_reports(mgmtd, LocalState.OFFLINE, answer())

        assert () == core.configured[-1][1]
        assert "its device does not answer" == heartbeat.targets[0].error


async def test_a_node_that_is_not_known_registers_again() -> None:
    async with running(routing(1)) as (_, _core, mgmtd):
        await mgmtd.registered.get()
        mgmtd.refusals.append(MgmtdUnavailableError("no primary"))
        mgmtd.answers.put_nowait(NotRegisteredError("who is that?"))

        assert REGISTRATION == await mgmtd.registered.get()


async def test_a_node_that_may_not_join_is_told() -> None:
    mgmtd = Mgmtd(routing(1))
    mgmtd.refusals.append(RegistrationError("another node has this id"))
    agent = Agent(Core(), mgmtd, REGISTRATION, make_log(LogStyle.JSON, LogLevel.ERROR))

    with pytest.raises(RegistrationError, match="another node"):
        await agent.join()


async def test_a_target_that_does_not_answer_is_suspected_once_in_a_while() -> None:
    async with running(routing(1, c1="v1 1S 2S 3S")) as (agent, _, mgmtd):
        lost = [NodeEvent(0.0, NodeEventKind.PEER_LOST, 0, target, "") for target in (2, 2, 9, 3)]
        agent.on_events(lost)

        assert (2, 2) == await mgmtd.suspicions.get()
        assert (3, 3) == await mgmtd.suspicions.get()


async def test_a_node_that_leaves_has_stopped_before_it_says_so() -> None:
    async with running(routing(1, c1="v1 2S 1O")) as (agent, core, mgmtd):
        mgmtd.routing.put_nowait(routing(2, c1="v2 2S 1S"))
        while not core.configured or core.configured[-1][0] < 2:
            mgmtd.answers.put_nowait(answer())
            await mgmtd.heartbeats.get()
        leaving = asyncio.create_task(agent.leave(DEADLINE_S))
        await mgmtd.left.wait()
        stopped = core.leases[-1]
        mgmtd.routing.put_nowait(routing(3, c1="v3 2S 1O"))

        assert 0 == stopped
        assert await leaving


async def test_leaving_ends_when_nobody_answers() -> None:
    async with running(routing(1, c1="v1 2S 1S")) as (agent, core, _):
        assert not await agent.leave(0.01)
        assert 0 == core.leases[-1]
