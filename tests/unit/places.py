"""Places for tests of placement."""

from kvstore.cluster.ids import NodeId, TargetId
from kvstore.cluster.placement.layout import Place


def node_ids(count: int) -> list[NodeId]:
    return [NodeId(id) for id in range(1, count + 1)]


def places_of(nodes: int, targets: int, *, racks: int = 1) -> list[Place]:
    """Equal nodes, ids from 1; a node's targets have ids in a row."""
    return [
        Place(TargetId((node - 1) * targets + index + 1), node, f"rack-{node % racks}")
        for node in node_ids(nodes)
        for index in range(targets)
    ]
