"""Routing info for tests: small and drawn by hypothesis, or as large as a cluster may get."""

from uuid import UUID

from hypothesis import strategies as st

from kvstore.cluster.ids import (
    CHAIN_VERSION_MAX,
    ChainId,
    ChainVersion,
    NodeId,
    RoutingVersion,
    SlotTableId,
    TargetId,
)
from kvstore.cluster.routing import (
    Chain,
    ChainTarget,
    NamespacePolicy,
    Node,
    RoutingInfo,
    SlotTable,
    Target,
)
from kvstore.cluster.states import Durability, Eviction, NodeKind, NodeState, PublicState

CLUSTER = UUID("6c1f2a6e-5a0b-4d8e-9d0c-2f4f1a3b5c7d")

nodes = st.builds(
    Node,
    st.integers(1, 12).map(NodeId),
    st.sampled_from(NodeKind),
    st.sampled_from(NodeState),
    st.lists(st.text(max_size=20), max_size=3).map(tuple),
    st.text(max_size=5),
    st.integers(0, 2**63 - 1),
)


@st.composite
def routing_infos(draw: st.DrawFn) -> RoutingInfo:
    """Consistent routing info: every chain's targets are known, and on nodes of their own."""
    known = {node.id: node for node in draw(st.lists(nodes, min_size=1, max_size=6))}
    targets: dict[TargetId, Target] = {}
    chains: dict[ChainId, Chain] = {}
    for chain_id in draw(st.sets(st.integers(1, 2**32 - 1), max_size=5)):
        places: list[ChainTarget] = []
        for node in draw(st.lists(st.sampled_from(sorted(known)), unique=True, min_size=1)):
            id = TargetId(len(targets) + draw(st.integers(1, 2)) * 100_000)
            targets[id] = Target(id, node, draw(st.integers(0, 40)), draw(st.integers(0, 2**60)))
            places.append(ChainTarget(id, draw(st.sampled_from(PublicState))))
        places.sort(key=lambda place: place.state)
        version = ChainVersion(draw(st.integers(1, CHAIN_VERSION_MAX)))
        chains[ChainId(chain_id)] = Chain(ChainId(chain_id), version, tuple(places))
    tables: dict[SlotTableId, SlotTable] = {}
    namespaces: dict[str, NamespacePolicy] = {}
    if chains:
        for table in draw(st.sets(st.integers(1, 4), max_size=2)):
            count = draw(st.sampled_from([1, 4, 8]))
            drawn = draw(st.lists(st.sampled_from(sorted(chains)), min_size=count, max_size=count))
            tables[SlotTableId(table)] = SlotTable(SlotTableId(table), tuple(drawn))
    if tables:
        for name in draw(st.sets(st.text(max_size=8), max_size=3)):
            namespaces[name] = NamespacePolicy(
                name,
                draw(st.sampled_from(sorted(tables))),
                draw(st.integers(1, 16)),
                draw(st.sampled_from(Durability)),
                draw(st.sampled_from(Eviction)),
                draw(st.integers(0, 2**63 - 1)),
                draw(st.integers(0, 2**63 - 1)),
                draw(st.integers(0, 2**63 - 1)),
            )
    routing_version = RoutingVersion(draw(st.integers(0, 2**63 - 1)))
    return RoutingInfo(routing_version, CLUSTER, known, targets, chains, tables, namespaces)


def large_routing(node_count: int, chain_count: int, slot_count: int) -> RoutingInfo:
    """Routing info of a large cluster: chains of three, unequal disks, two networks."""
    nodes = {
        NodeId(id): Node(
            NodeId(id),
            NodeKind.STORAGE,
            NodeState.ACTIVE,
            (f"10.{id >> 8}.{id & 255}.11:7411", f"10.{id >> 8}.{id & 255}.12:7411"),
            f"rack-{id % 40}",
            1_790_000_000_000_000_000 + id * 7919,
        )
        for id in range(1, node_count + 1)
    }
    targets: dict[TargetId, Target] = {}
    chains: dict[ChainId, Chain] = {}
    for id in range(1, chain_count + 1):
        places: list[ChainTarget] = []
        for replica in range(3):
            target = TargetId(len(targets) + 1)
            node = NodeId((id * 7 + replica * 331) % node_count + 1)
            targets[target] = Target(target, node, id % 16, 3_500_000 + id * 17 % 400_000)
            state = PublicState.OFFLINE if id % 50 == 0 and replica == 2 else PublicState.SERVING
            places.append(ChainTarget(target, state))
        chains[ChainId(id)] = Chain(ChainId(id), ChainVersion(1 + id * 31 % 900), tuple(places))
    table = SlotTable(
        SlotTableId(1), tuple(ChainId(slot % chain_count + 1) for slot in range(slot_count))
    )
    policy = NamespacePolicy("default", table.id)
    return RoutingInfo(
        RoutingVersion(1000),
        CLUSTER,
        nodes,
        targets,
        chains,
        {table.id: table},
        {"default": policy},
    )
