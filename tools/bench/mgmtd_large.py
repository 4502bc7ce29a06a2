"""mgmtd of a cluster of 1,000 nodes and 20,000 chains, as a process of its own.

Run as `python -m tools.bench.mgmtd_large DIRECTORY`: prints the port once it is primary, and runs
until its stdin ends.
"""

import asyncio
import sys
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


async def run(directory: Path) -> None:
    """Run until stdin ends."""
    store = await seeded(directory)
    # Nodes beat when the benchmark gets to it: nothing is to happen by itself meanwhile.
    terms = LeaseTerms(heartbeat_ms=HEARTBEAT_MS, lease_ms=3 * HEARTBEAT_MS)
    settings = Settings(terms=terms)
    mgmtd = Mgmtd(store, settings, secret=b"", log=Quiet(), primary_lease_s=READY_TIMEOUT_S)
    address = await mgmtd.listen(LOOPBACK)
    running = asyncio.ensure_future(mgmtd.run())
    print(address.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    running.cancel()
    await asyncio.wait((running,))
    await mgmtd.close()
    await store.close()


if __name__ == "__main__":
    uvloop.run(run(Path(sys.argv[1])))
