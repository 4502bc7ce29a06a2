"""Routes: what a client needs of the routing info of one version, as the C core takes it.

slot ──slot table──► chain ──► its targets, serving ones from head to tail ──► node ──► address

Guarantees: every slot has a chain, unless it is just moving to another one; every target has a
node, every node an address. Leaves to others: where routing info comes from, which of two is newer,
and what a node answers.
"""

from dataclasses import dataclass, field

from kvstore.addresses import Address
from kvstore.cluster.routing import NO_CHAIN, Chain, Node, RoutingInfo, SlotTable
from kvstore.cluster.states import NodeKind, PublicState
from kvstore.errors import InvalidOptionError, MalformedRoutingError

SLOT_COUNT_MAX = 65536
"""As the core limits it (KV_SLOT_COUNT_MAX)."""


@dataclass(frozen=True, slots=True)
class RoutedChain:
    """A chain as clients see it."""

    version: int
    members: tuple[int, ...]
    """The targets that serve: the first takes updates, each answers reads. May be empty."""
    others: tuple[int, ...] = ()
    """The targets that do not serve."""

    @property
    def first(self) -> int:
        """The target to ask where only one can be named: the head, or one that says it is none."""
        return (self.members + self.others)[0]


@dataclass(frozen=True, slots=True)
class Routes:
    """Where the keys of one namespace are, by one version of the routing info."""

    routing_version: int
    nodes: dict[int, Address]
    """Every storage node, also one without a slot."""
    targets: dict[int, int]
    """The node of each target of the chains."""
    chains: dict[int, RoutedChain]
    """Those that some slot leads to, in the order of their ids."""
    slots: tuple[int, ...] = field(repr=False)
    """The chain of each slot; NO_CHAIN while it moves to another one."""

    @property
    def members(self) -> list[int]:
        """Every target that serves, in the order of their ids."""
        return sorted(target for chain in self.chains.values() for target in chain.members)

    def targets_of(self, node: int) -> tuple[int, ...]:
        """Return the targets of a node."""
        return tuple(target for target, of in self.targets.items() if of == node)


def routes_of(routing: RoutingInfo, name_space: str = "default") -> Routes:
    """Return the routes of a namespace; MalformedRoutingError for what no client can go by.

    *routing* is consistent: problems_of() names nothing.
    """
    table = table_of(routing, name_space)
    used = sorted(set(table.chains) - {NO_CHAIN})
    chains: dict[int, RoutedChain] = {id: routed(routing.chains[id]) for id in used}
    storage = [node for node in routing.nodes.values() if node.kind is NodeKind.STORAGE]
    nodes: dict[int, Address] = {node.id: address_of(node) for node in storage}
    targets: dict[int, int] = {}
    for id in used:
        for place in routing.chains[id].targets:
            node = routing.targets[place.target].node
            if node not in nodes:
                raise MalformedRoutingError(
                    f"target {place.target} is on node {node}, which stores nothing"
                )
            targets[place.target] = node
    return Routes(routing.version, nodes, targets, chains, table.chains)


def routed(chain: Chain) -> RoutedChain:
    """Return a chain as clients see it."""
    members = chain.in_state(PublicState.SERVING)
    others = tuple(place.target for place in chain.targets if place.target not in members)
    return RoutedChain(chain.version, members, others)


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
