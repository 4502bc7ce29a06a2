"""mgmtd of 1,000 nodes: the size of what it publishes, the cost of heartbeats and of a first start.

Heartbeats come over TCP, each with new measures of 60 targets. What counts is mgmtd's own CPU time:
at 500 µs each, 2,000 a second are one core. A new cluster's nodes register 8 targets each; its
first chains get 262,144 slots, while the event loop goes on with everything else.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from kvstore.addresses import Address
from kvstore.cluster.chains import remove_target
from kvstore.cluster.codec import encode_delta, encode_routing
from kvstore.cluster.delta import delta_between
from kvstore.cluster.ids import ChainId, ChainVersion, NodeId, RoutingVersion, TargetId
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.cluster.mgmtd.messages import (
    Heartbeat,
    NodeRegistration,
    TargetRegistration,
    TargetReport,
)
from kvstore.cluster.states import LocalState
from tools.bench.failures import ContestantError
from tools.bench.mgmtd_large import (
    CLUSTER,
    NODES,
    READY_TIMEOUT_S,
    TARGETS_A_NODE,
    large_routing,
)
from tools.bench.result import OURS, LimitGoal, Row, Sample
from tools.bench.rows.play import Bench, Play

MIB = 1 << 20
CONNECTIONS = 50
BEATS_A_NODE = 8
NEW_TARGETS_A_NODE = 8
NEWEST = 1 << 30
"""A version of routing info that is above all that there will be."""
REGISTER_CPU_S_MAX = 5.0
BLOCK_MS_MAX = 100.0
CPU_US_MAX = 500.0
FULL_MIB_MAX = 2.0
DELTA_B_MAX = 1024.0


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the rows."""
    with bench.play("routing-size") as play:
        before = large_routing(CLUSTER, 1)
        play.outcome.samples[OURS] = [Sample(len(encode_routing(before)) / MIB)]
        goal = LimitGoal(FULL_MIB_MAX, "MiB")
        yield play.row("routing-full", "routing info, 1,000 nodes, 20,000 chains", "MiB", goal)
    with bench.play("routing-delta") as play:
        chain = before.chains[ChainId(1)]
        changed = remove_target(chain, chain.targets[-1].target)
        chains = {**before.chains, chain.id: changed}
        after = replace(before, version=RoutingVersion(2), chains=chains)
        play.outcome.samples[OURS] = [Sample(len(encode_delta(delta_between(before, after))))]
        goal = LimitGoal(DELTA_B_MAX, "B")
        yield play.row("routing-delta", "a change of one of 20,000 chains", "B", goal)
    yield from measure_start(bench)
    with bench.play("heartbeats") as play:
        with play.attempt(OURS):
            samples = [beat_once(play, turn) for turn in range(bench.settings.rounds)]
            play.outcome.samples[OURS] = samples
        yield play.row(
            "heartbeats",
            "CPU of mgmtd for a heartbeat, 1,000 nodes of 60 targets",
            "µs",
            LimitGoal(CPU_US_MAX, "µs"),
        )


def measure_start(bench: Bench) -> Iterator[Row]:
    """Yield what it costs until a new cluster has its chains, and how long anybody waits."""
    with bench.play("first-chains") as play:
        starts: list[Start] = []
        with play.attempt(OURS):
            starts = [start_once(play, turn) for turn in range(bench.settings.rounds)]
        what = "CPU of mgmtd, 1,000 nodes of 8 targets register"
        play.outcome.samples[OURS] = [Sample(start.register_s) for start in starts]
        yield play.row("registration", what, "s", LimitGoal(REGISTER_CPU_S_MAX, "s"))
        what = "longest block of mgmtd's loop, first chains of 262,144 slots"
        play.outcome.samples[OURS] = [Sample(start.block_ms) for start in starts]
        yield play.row("first-chains-block", what, "ms", LimitGoal(BLOCK_MS_MAX, "ms"))


@dataclass(frozen=True, slots=True)
class Start:
    """What a new cluster of 1,000 nodes took."""

    register_s: float
    """CPU time of mgmtd."""
    block_ms: float


def start_once(play: Play, turn: int) -> Start:
    """Start mgmtd, let every node register and beat, and wait for the chains."""
    with mgmtd(play.folder(f"new-{turn}"), "new") as process:
        register_s = asyncio.run(start_all(process.address, process.pid))
    return Start(register_s, process.block_ms)


def beat_once(play: Play, turn: int) -> Sample:
    """Start mgmtd, let every node beat, and return what one heartbeat cost."""
    with mgmtd(play.folder(f"metadata-{turn}"), "seeded") as process:
        cpu_s = asyncio.run(beat_all(process.address, process.pid))
    return Sample(cpu_s / (NODES * BEATS_A_NODE) * 1e6)


@dataclass(slots=True)
class Running:
    """mgmtd as a process, and for how long its loop was blocked at most, once it has ended."""

    address: Address
    pid: int
    block_ms: float = 0.0


@contextmanager
def mgmtd(directory: Path, cluster: str) -> Iterator[Running]:
    """Run mgmtd while the context lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "tools.bench.mgmtd_large", str(directory), cluster],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise ContestantError("mgmtd did not start")
            running = Running(Address("127.0.0.1", int(port)), process.pid)
            yield running
            process.stdin.close()
            running.block_ms = float(process.stdout.readline() or "nan")
        finally:
            process.stdin.close()
            process.wait()


async def start_all(address: Address, pid: int) -> float:
    """Let all nodes register and beat, until there is a slot table; the CPU of registration."""
    clients = clients_of(address)
    await clients[0].admin("status")  # it is primary
    before_s = cpu_seconds(pid)

    async def register(client: MgmtdClient, first: int) -> None:
        for node in range(first, NODES + 1, CONNECTIONS):
            await client.register(registration_of(NodeId(node)))

    await asyncio.gather(*(register(each, first) for first, each in enumerate(clients, 1)))
    cpu_s = cpu_seconds(pid) - before_s
    for node in range(1, NODES + 1):
        reports = tuple(
            TargetReport(target=target, local=LocalState.ONLINE, chain_version=ChainVersion(0))
            for target in targets_of(NodeId(node))
        )
        await clients[node % CONNECTIONS].heartbeat(
            Heartbeat(
                node=NodeId(node),
                incarnation=node,
                routing_version=RoutingVersion(NEWEST),
                targets=reports,
            )
        )
    async with aclosing(clients[0].subscribe()) as versions:
        async for routing in versions:
            if routing.slot_tables:
                break
    for client in clients:
        await client.close()
    return cpu_s


def registration_of(node: NodeId) -> NodeRegistration:
    """Return what a node of a new cluster says of itself."""
    return NodeRegistration(
        id=node,
        incarnation=node,
        addresses=(f"10.0.{node // 250}.{node % 250 + 1}:7400",),
        targets=tuple(
            TargetRegistration(id=target, uuid=UUID(int=target), empty=True)
            for target in targets_of(node)
        ),
    )


def targets_of(node: NodeId) -> Iterator[TargetId]:
    """Yield the targets of a node of a new cluster."""
    return (TargetId(node * NEW_TARGETS_A_NODE + index) for index in range(NEW_TARGETS_A_NODE))


def clients_of(address: Address) -> list[MgmtdClient]:
    """Return as many clients as there are to be connections."""
    return [
        MgmtdClient([address], timeout_s=READY_TIMEOUT_S, connect_timeout_s=READY_TIMEOUT_S)
        for _ in range(CONNECTIONS)
    ]


async def beat_all(address: Address, pid: int) -> float:
    """Return the CPU seconds that all heartbeats took."""
    clients = clients_of(address)
    incarnations = {
        node.id: node.incarnation for node in (await clients[0].routing()).nodes.values()
    }

    async def beat(client: MgmtdClient, first: int, turn: int) -> None:
        for node in range(first, NODES + 1, CONNECTIONS):
            heartbeat = heartbeat_of(NodeId(node), incarnations[NodeId(node)], turn)
            answer = await client.heartbeat(heartbeat)
            if not answer.lease_ms:
                raise ContestantError(f"node {node} got no lease")

    async def beat_in_turn(turn: int) -> None:
        await asyncio.gather(
            *(beat(client, index + 1, turn) for index, client in enumerate(clients))
        )

    await beat_in_turn(0)  # the first of each node says of everything how it is
    before_s = cpu_seconds(pid)
    for turn in range(1, BEATS_A_NODE + 1):
        await beat_in_turn(turn)
    cpu_s = cpu_seconds(pid) - before_s
    for client in clients:
        await client.close()
    return cpu_s


def heartbeat_of(node: NodeId, incarnation: int, turn: int) -> Heartbeat:
    """Return a heartbeat with measures that differ from turn to turn."""
    first = (node - 1) * TARGETS_A_NODE + 1
    reports = tuple(
        TargetReport(
            target=TargetId(target),
            local=LocalState.UPTODATE,
            chain_version=ChainVersion(1),
            used_bytes=target * 1_000_000 + turn,
            objects=target * 10 + turn,
        )
        for target in range(first, first + TARGETS_A_NODE)
    )
    return Heartbeat(
        node=node, incarnation=incarnation, routing_version=RoutingVersion(2), targets=reports
    )


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
