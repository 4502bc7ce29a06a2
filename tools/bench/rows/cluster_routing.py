"""mgmtd with a thousand nodes: how large routing info and its changes are, what heartbeats cost.

A real mgmtd; the nodes are names that this process registers and speaks for. They have addresses of
loopback at which nobody listens.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from uuid import UUID

from kvstore.addresses import Address
from kvstore.cluster.codec import encode_delta, encode_routing
from kvstore.cluster.delta import delta_between
from kvstore.cluster.ids import ChainVersion, NodeId, RoutingVersion, TargetId
from kvstore.cluster.mgmtd import wire
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.cluster.mgmtd.messages import (
    Heartbeat,
    NodeRegistration,
    TargetRegistration,
    TargetReport,
)
from kvstore.cluster.routing import RoutingInfo
from kvstore.cluster.states import LocalState, PublicState
from kvstore.errors import KVStoreError
from tools.bench.accounting import cpu_s
from tools.bench.cluster.members import Member, Shape, mgmtd_member
from tools.bench.failures import ContestantError
from tools.bench.result import OURS, LimitGoal, Row, Sample
from tools.bench.rounds import Outcome
from tools.bench.rows.play import Bench, Play
from tools.bench.settings import KIB, MIB

NODES, TARGETS_EACH, REPLICAS = 1_000, 60, 3
CHAINS = NODES * TARGETS_EACH // REPLICAS
SLOTS = 1 << 18
ROUTING_MIB, DELTA_KIB = 2.0, 1.0
RATE = 2_000
"""Heartbeats that one core is to take in a second."""
CONNECTIONS = 20
LEASE_MS = 600_000
PRIMARY_LEASE_S = 120
"""Nor is mgmtd to lose its office while it makes all chains in one step."""
"""No node is to run out of it: this process is busy, too."""
SETTLING = 10
"""Heartbeats of every node before those that count: new chains are still looked at, and stored."""
CAPACITY = 1 << 40
CHAINS_TIMEOUT_S = 300.0
CALL_TIMEOUT_S = 120.0


class Joining(MgmtdClient):
    """A client that speaks for nodes, and does not read what each of them is told on joining."""

    async def join(self, registration: NodeRegistration) -> None:
        """Register a node; a thousand of them would decode the routing info a thousand times."""
        await self._call(wire.REGISTER, wire.encode_registration(registration), None)


Step = Callable[[Joining, NodeId], Awaitable[None]]


@dataclass(slots=True)
class Figures:
    """What was measured."""

    routing_size: int = 0
    delta_size: int = 0
    heartbeat_us: Sequence[float] = ()


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the rows."""
    figures = Figures()
    with bench.play("cluster-routing") as play:
        with play.attempt(OURS):
            figures = with_mgmtd(play)
        text = f"{NODES:,} nodes, {CHAINS:,} chains"
        for name, what, value, goal in (
            ("full", "routing info", figures.routing_size / MIB, LimitGoal(ROUTING_MIB, "MiB")),
            ("delta", "a change", figures.delta_size / KIB, LimitGoal(DELTA_KIB, "KiB")),
        ):
            play.outcome = Outcome(samples([value]), play.outcome.problems)
            yield play.row(f"cluster-routing-{name}", f"{what}, {text}", goal.unit, goal)
        goal = LimitGoal(1e6 / RATE, "µs")
        play.outcome = Outcome(samples(figures.heartbeat_us), play.outcome.problems)
        text = f"CPU time of mgmtd for a heartbeat of {TARGETS_EACH} targets, {text}"
        yield play.row("cluster-heartbeats", text, "µs", goal)


def samples(values: Sequence[float]) -> dict[str, list[Sample]]:
    """Return the samples; none where nothing was measured."""
    return {OURS: [Sample(value) for value in values]} if any(values) else {}


def with_mgmtd(play: Play) -> Figures:
    """Start mgmtd, and measure."""
    options: dict[str, str | int] = {"slots": SLOTS, "lease-ms": LEASE_MS}
    options |= {"expected-targets": NODES * TARGETS_EACH, "primary-lease-s": PRIMARY_LEASE_S}
    shape = Shape(nodes=NODES, replicas=REPLICAS, mgmtd_options=options)
    mgmtd = mgmtd_member(play.folder("mgmtd"), shape, "mgmtd-1")
    mgmtd.start()
    try:
        mgmtd.wait()
        return asyncio.run(measured(play, mgmtd))
    except KVStoreError as error:
        raise ContestantError(f"mgmtd: {error}") from error
    finally:
        mgmtd.kill()


async def measured(play: Play, mgmtd: Member) -> Figures:
    """Register every node, wait for the chains, and measure."""
    async with AsyncExitStack() as stack:
        address = [Address.parse(mgmtd.address)]
        clients = [
            await stack.enter_async_context(
                Joining(address, timeout_s=CALL_TIMEOUT_S, connect_timeout_s=CALL_TIMEOUT_S)
            )
            for _ in range(CONNECTIONS)
        ]
        before = time.monotonic()
        await each_node(clients, register)
        play.bench.say(f"  registered in {time.monotonic() - before:.0f} s")
        routing = await clients[0].routing()
        await beat_all(clients, heartbeats(routing, 0))
        routing = await with_chains(clients[0])
        play.bench.say(f"  chains after {time.monotonic() - before:.0f} s")
        for i in range(SETTLING):
            await beat_all(clients, heartbeats(routing, i))
        routing = await clients[0].routing()
        turns = range(play.bench.settings.rounds)
        return Figures(
            len(encode_routing(routing)),
            delta_size(routing),
            [await timed(mgmtd, clients, heartbeats(routing, MIB * (1 + i))) for i in turns],
        )


async def each_node(clients: Sequence[Joining], what: Step) -> None:
    """Do something for every node; a connection speaks for one of its nodes after the other."""

    async def some(place: int) -> None:
        for number in range(1 + place, NODES + 1, len(clients)):
            await what(clients[place], NodeId(number))

    await asyncio.gather(*(some(place) for place in range(len(clients))))


async def register(client: Joining, node: NodeId) -> None:
    """Have a node join."""
    targets = tuple(
        TargetRegistration(
            id=target, uuid=UUID(int=target), disk=i, capacity_bytes=CAPACITY, empty=True
        )
        for i, target in enumerate(targets_of(node))
    )
    address = f"127.1.{node >> 8}.{node & 255}:7400"
    await client.join(
        NodeRegistration(id=node, incarnation=1, addresses=(address,), targets=targets)
    )


def targets_of(node: NodeId) -> Sequence[TargetId]:
    """Return the targets of a node."""
    first = (node - 1) * TARGETS_EACH + 1
    return [TargetId(first + i) for i in range(TARGETS_EACH)]


async def with_chains(client: MgmtdClient) -> RoutingInfo:
    """Return the routing info once every chain is in it."""
    async with asyncio.timeout(CHAINS_TIMEOUT_S), aclosing(client.subscribe()) as versions:
        async for routing in versions:
            if len(routing.chains) == CHAINS:
                return routing
    raise ContestantError("mgmtd publishes no chains")


def heartbeats(routing: RoutingInfo, used: int) -> list[Heartbeat]:
    """Return a heartbeat of each node; targets in chains serve, and all hold so much."""
    versions = {
        place.target: chain.version for chain in routing.chains.values() for place in chain.targets
    }
    return [
        Heartbeat(
            node=NodeId(number),
            incarnation=1,
            routing_version=routing.version,
            targets=tuple(
                TargetReport(
                    target=target,
                    local=LocalState.UPTODATE if target in versions else LocalState.ONLINE,
                    chain_version=versions.get(target, ChainVersion(0)),
                    used_bytes=used,
                    free_bytes=CAPACITY - used,
                    capacity_bytes=CAPACITY,
                    objects=used >> 16,
                )
                for target in targets_of(NodeId(number))
            ),
        )
        for number in range(1, NODES + 1)
    ]


async def beat_all(clients: Sequence[Joining], beats: Sequence[Heartbeat]) -> None:
    """Send a heartbeat of every node."""

    async def beat(client: Joining, node: NodeId) -> None:
        await client.heartbeat(beats[node - 1])

    await each_node(clients, beat)


async def timed(mgmtd: Member, clients: Sequence[Joining], beats: Sequence[Heartbeat]) -> float:
    """Return what a heartbeat costs mgmtd, in microseconds of CPU time."""
    before = cpu_s([mgmtd.pid])
    await beat_all(clients, beats)
    return (cpu_s([mgmtd.pid]) - before) / len(beats) * 1e6


def delta_size(routing: RoutingInfo) -> int:
    """Return the size of what tells that one target has left the places that serve."""
    chain = next(iter(routing.chains.values()))
    *others, last = chain.targets
    places = (*others, replace(last, state=PublicState.OFFLINE))
    changed = replace(chain, version=ChainVersion(chain.version + 1), targets=places)
    after = replace(
        routing,
        version=RoutingVersion(routing.version + 1),
        chains={**routing.chains, chain.id: changed},
    )
    return len(encode_delta(delta_between(routing, after)))
