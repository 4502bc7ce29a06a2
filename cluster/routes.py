"""Routes: what a client needs of the routing info of one version, as the C core takes it.

slot ──slot table──► chain ──its head──► target ──► node ──► address

Guarantees: every slot has a target, every target a node, every node an address. A chain that
nobody serves is asked at its first target, which says so. Leaves to others: where routing info
comes from, which of two is newer, and what a node answers.
"""

from dataclasses import dataclass, field

from kvstore.addresses import Address
from kvstore.cluster.routing import Node, RoutingInfo, SlotTable
from kvstore.cluster.states import NodeKind
from kvstore.errors import InvalidOptionError, MalformedRoutingError

SLOT_COUNT_MAX = 65536
"""As the core limits it (KV_SLOT_COUNT_MAX)."""


@dataclass(frozen=True, slots=True)
class Routes:
    """Where the keys of one namespace are, by one version of the routing info."""

    routing_version: int
    nodes: dict[int, Address]
    """Every storage node, also one without a slot."""
    targets: dict[int, int]
    """The node of each target that some slot leads to."""
    slots: tuple[int, ...] = field(repr=False)
    """The target that a client asks for the keys of each slot."""

    def targets_of(self, node: int) -> tuple[int, ...]:
        """Return the targets of a node."""
        return tuple(target for target, of in self.targets.items() if of == node)


def routes_of(routing: RoutingInfo, name_space: str = "default") -> Routes:
    """Return the routes of a namespace; MalformedRoutingError for what no client can go by.

    *routing* is consistent: problems_of() names nothing.
    """
    table = table_of(routing, name_space)
    # The head is listed first, if any target serves.
    heads = {id: routing.chains[id].targets[0].target for id in sorted(set(table.chains))}
    storage = [node for node in routing.nodes.values() if node.kind is NodeKind.STORAGE]
    nodes: dict[int, Address] = {node.id: address_of(node) for node in storage}
    targets: dict[int, int] = {}
    for head in heads.values():
        node = routing.targets[head].node
        if node not in nodes:
            raise MalformedRoutingError(f"target {head} is on node {node}, which stores nothing")
        targets[head] = node
    return Routes(routing.version, nodes, targets, tuple(heads[id] for id in table.chains))


def table_of(routing: RoutingInfo, name_space: str) -> SlotTable:
    """Return the slot table of a namespace; the first one where nothing was said of it."""
    if not routing.slot_tables:
        raise MalformedRoutingError(f"version {routing.version} has no slots")
    policy = routing.namespaces.get(name_space)
    table = routing.slot_tables[min(routing.slot_tables) if policy is None else policy.slot_table]
    if len(table.chains) > SLOT_COUNT_MAX:
        raise MalformedRoutingError(
            f"slot table {table.id} has {len(table.chains)} slots, {SLOT_COUNT_MAX} is the limit"
        )
    return table


def address_of(node: Node) -> Address:
    """Return where clients connect: the first of a node's addresses."""
    if not node.addresses:
        raise MalformedRoutingError(f"node {node.id} has no address")
    try:
        return Address.parse(node.addresses[0])
    except InvalidOptionError as error:
        raise MalformedRoutingError(f"node {node.id}: {error}") from error
