"""Static routing: routing info made from nodes and targets alone, without mgmtd.

Every target serves a chain of its own, which has the target's number; one slot table is for all
namespaces. What only mgmtd knows (racks, disks, capacities) stays empty. Leaves to others: a file
that says it (kvstore.cluster.routing_file), and what clients make of it (kvstore.cluster.routes).
"""

from collections.abc import Mapping, Sequence

from kvstore.addresses import Address
from kvstore.cluster.chains import new_chain
from kvstore.cluster.ids import ChainId, NodeId, RoutingVersion, SlotTableId, TargetId
from kvstore.cluster.routing import Node, RoutingInfo, SlotTable, Target, problems_of
from kvstore.cluster.states import NodeKind, NodeState

SLOT_COUNT = 1024
"""Slots of a cluster that nobody chose a count for."""
SLOT_TABLE = SlotTableId(1)


def static_routing(
    version: int, nodes: Mapping[int, Address], targets: Mapping[int, int], slots: Sequence[int]
) -> RoutingInfo:
    """Return routing info of *targets*, with the node of each, and *slots*, the target of each."""
    on_nodes = [Target(TargetId(target), NodeId(node), 0, 0) for target, node in targets.items()]
    routing = RoutingInfo(
        version=RoutingVersion(version),
        nodes={NodeId(node): static_node(node, address) for node, address in nodes.items()},
        targets={target.id: target for target in on_nodes},
        chains={ChainId(on.id): new_chain(ChainId(on.id), [on]) for on in on_nodes},
        slot_tables={SLOT_TABLE: SlotTable(SLOT_TABLE, tuple(map(ChainId, slots)))},
    )
    assert not list(problems_of(routing)), list(problems_of(routing))
    return routing


def static_node(node: int, address: Address) -> Node:
    """Return a storage node that is taken to be there."""
    return Node(NodeId(node), NodeKind.STORAGE, NodeState.ACTIVE, (str(address),))


def even_slots(targets: Sequence[int], slot_count: int = SLOT_COUNT) -> tuple[int, ...]:
    """Return a target for each slot: runs whose lengths differ by one at most."""
    assert 0 < len(targets) <= slot_count
    return tuple(targets[slot * len(targets) // slot_count] for slot in range(slot_count))
