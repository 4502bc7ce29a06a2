"""mgmtd of 1,000 nodes and 20,000 chains: the size of what it publishes, the cost of a heartbeat.

Heartbeats come over TCP, each with new measures of 60 targets. What counts is mgmtd's own CPU time:
at 500 µs each, 2,000 a second are one core.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from kvstore.addresses import Address
from kvstore.cluster.chains import remove_target
from kvstore.cluster.codec import encode_delta, encode_routing
from kvstore.cluster.delta import delta_between
from kvstore.cluster.ids import ChainId, ChainVersion, NodeId, RoutingVersion, TargetId
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.cluster.mgmtd.messages import Heartbeat, TargetReport
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


def beat_once(play: Play, turn: int) -> Sample:
    """Start mgmtd, let every node beat, and return what one heartbeat cost."""
    directory = play.folder(f"metadata-{turn}")
    with subprocess.Popen(
        [sys.executable, "-m", "tools.bench.mgmtd_large", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise ContestantError("mgmtd did not start")
            cpu_s = asyncio.run(beat_all(Address("127.0.0.1", int(port)), process.pid))
            return Sample(cpu_s / (NODES * BEATS_A_NODE) * 1e6)
        finally:
            process.stdin.close()
            process.wait()


async def beat_all(address: Address, pid: int) -> float:
    """Return the CPU seconds that all heartbeats took."""
    clients = [
        MgmtdClient([address], timeout_s=READY_TIMEOUT_S, connect_timeout_s=READY_TIMEOUT_S)
        for _ in range(CONNECTIONS)
    ]
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
