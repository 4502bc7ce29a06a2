"""mgmtd of a cluster of 1,000 nodes, as a process of its own.

Run as `python -m tools.bench.mgmtd_large DIRECTORY CLUSTER`, where the cluster is `seeded` with
20,000 chains or `new`: prints the port once it listens, runs until its stdin ends, and prints for
how long its event loop was kept from its work at most, in milliseconds.
"""

import asyncio
import sys
import time
from pathlib import Path
from uuid import UUID

import uvloop

from kvstore.addresses import Address
from kvstore.cluster.delta import delta_between
from kvstore.cluster.ids import ChainId, ChainVersion, NodeId, RoutingVersion, SlotTableId, TargetId
from kvstore.cluster.leases import LeaseTerms
from kvstore.cluster.metadata.election import campaign
from kvstore.cluster.metadata.rocks import RocksStore, open_rocks
from kvstore.cluster.mgmtd.basis import basis_of
from kvstore.cluster.mgmtd.draft import Proposal
from kvstore.cluster.mgmtd.ledger import Ledger
from kvstore.cluster.mgmtd.persistence import take_over
from kvstore.cluster.mgmtd.server import Mgmtd
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.routing import (
    Chain,
    ChainTarget,
    NamespacePolicy,
    Node,
    RoutingInfo,
    SlotTable,
    Target,
)
from kvstore.cluster.states import NodeKind, NodeState, PublicState

NODES = 1000
CHAINS = 20_000
REPLICAS = 3
SLOTS = 1 << 18
TARGETS_A_NODE = CHAINS * REPLICAS // NODES
INCARNATION = 1
STRIDES = (1, 7, 31)
CLUSTER = UUID(int=1)
READY_TIMEOUT_S = 120.0
HEARTBEAT_MS = 300_000
LOOK_S = 0.002
"""How often the event loop is looked at."""
LOOPBACK = Address("127.0.0.1", 0)


def large_routing(cluster: UUID, version: int) -> RoutingInfo:
    """Return routing info of the size; each node has as many targets as every other."""
    nodes = {
        NodeId(id): Node(
            NodeId(id),
            NodeKind.STORAGE,
            NodeState.ACTIVE,
            (f"10.0.{id // 250}.{id % 250 + 1}:7400", f"10.1.{id // 250}.{id % 250 + 1}:7400"),
            f"rack-{id % 40}",
            1_760_000_000_000_000_000 + INCARNATION,
        )
        for id in range(1, NODES + 1)
    }
    targets: dict[TargetId, Target] = {}
    chains: dict[ChainId, Chain] = {}
    for chain in range(CHAINS):
        stride = STRIDES[chain // NODES % len(STRIDES)]
        places = []
        for replica in range(REPLICAS):
            node = (chain + replica * stride) % NODES
            target = TargetId(node * TARGETS_A_NODE + chain // NODES * REPLICAS + replica + 1)
            targets[target] = Target(target, NodeId(node + 1), replica, 7_000_000)
            places.append(ChainTarget(target, PublicState.SERVING))
        id = ChainId(chain + 1)
        chains[id] = Chain(id, ChainVersion(1), tuple(places))
    table = SlotTableId(1)
    slots = tuple(ChainId(slot * 7919 % CHAINS + 1) for slot in range(SLOTS))
    return RoutingInfo(
        RoutingVersion(version),
        cluster,
        nodes,
        targets,
        chains,
        {table: SlotTable(table, slots)},
        {"default": NamespacePolicy("default", table)},
    )


async def seeded(directory: Path) -> RocksStore:
    """Return a store in which the cluster is."""
    store = await open_rocks(directory)
    session = await store.session(60.0)
    primary = await campaign(store, session, "seed")
    loaded = await take_over(primary, b"", CLUSTER)
    before = loaded.basis.routing
    after = large_routing(before.cluster, before.version + 1)
    basis = basis_of(after, Ledger(replicas={SlotTableId(1): REPLICAS}))
    await loaded.persistence.save(Proposal(basis, delta_between(before, after), {}))
    await session.close()
    return store


class Quiet:
    """A log that keeps nothing."""

    def info(self, event: str, **about: object) -> None:
        """Drop a line."""

    def warning(self, event: str, **about: object) -> None:
        """Drop a line."""

    def error(self, event: str, **about: object) -> None:
        """Write what must not happen to stderr."""
        sys.stderr.write(f"{event}: {about}\n")


async def longest_block(stopping: asyncio.Event) -> float:
    """Return for how many seconds the event loop worked on one thing at most.

    In its own CPU time, which does not count what other processes take of the machine.
    """
    longest_s, seen_s = 0.0, time.thread_time()
    while not stopping.is_set():
        await asyncio.sleep(LOOK_S)
        now_s = time.thread_time()
        longest_s, seen_s = max(longest_s, now_s - seen_s), now_s
    return longest_s


async def run(directory: Path, cluster: str) -> None:
    """Run until stdin ends."""
    store = await (seeded(directory) if cluster == "seeded" else open_rocks(directory))
    # Nodes beat when the benchmark gets to it: nothing is to happen by itself meanwhile.
    terms = LeaseTerms(heartbeat_ms=HEARTBEAT_MS, lease_ms=3 * HEARTBEAT_MS)
    settings = Settings(terms=terms, expected_nodes=NODES, slots=SLOTS)
    mgmtd = Mgmtd(store, settings, secret=b"", log=Quiet(), primary_lease_s=READY_TIMEOUT_S)
    address = await mgmtd.listen(LOOPBACK)
    running = asyncio.ensure_future(mgmtd.run())
    stopping = asyncio.Event()
    looking = asyncio.ensure_future(longest_block(stopping))
    print(address.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    stopping.set()
    print(await looking * 1000, flush=True)
    running.cancel()
    await asyncio.wait((running,))
    await mgmtd.close()
    await store.close()


if __name__ == "__main__":
    uvloop.run(run(Path(sys.argv[1]), sys.argv[2]))
