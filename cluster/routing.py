"""Routing info: one version of all nodes, targets, chains, slots and namespaces, as values.

Nothing here is changed in place: a change makes new values and a higher version, and shares what
stayed. `problems_of` names what is inconsistent; decoders and mgmtd refuse what it names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from kvstore.cluster.ids import (
    CHAIN_VERSION_MAX,
    ChainId,
    ChainVersion,
    NodeId,
    RoutingVersion,
    SlotTableId,
    TargetId,
)
from kvstore.cluster.states import Durability, Eviction, NodeKind, NodeState, PublicState

ADDRESSES_MAX = 16
NAME_SIZE_MAX = 255
NODES_MAX = 1 << 16
TARGETS_MAX = 1 << 20
CHAINS_MAX = 1 << 18
CHAIN_TARGETS_MAX = 16
SLOT_TABLES_MAX = 64
SLOTS_MAX = 1 << 22
NAMESPACES_MAX = 1 << 14

NIL_UUID = UUID(int=0)
NO_CHAIN = ChainId(0)
"""Where a slot leads that is just moving to another chain: clients wait."""
VERSION_OF_NOTHING = RoutingVersion(0)


@dataclass(frozen=True, slots=True)
class Node:
    """A process with a stable id."""

    id: NodeId
    kind: NodeKind
    state: NodeState
    addresses: tuple[str, ...]
    """`host:port`, one for each network; every one leads to the node."""
    rack: str = ""
    """Nodes of one rack fail together; "" where racks do not matter."""
    incarnation: int = 0
    """Grows at every start of the process, so that a restart is never taken for a pause."""


@dataclass(frozen=True, slots=True)
class Target:
    """One replica's storage on one disk of one node. A target in no chain is a spare."""

    id: TargetId
    node: NodeId
    disk: int
    """Counts the disks of the node from 0."""
    capacity_mib: int


@dataclass(frozen=True, slots=True)
class ChainTarget:
    """A place in a chain."""

    target: TargetId
    state: PublicState


@dataclass(frozen=True, slots=True)
class Chain:
    """Ordered targets that hold the same data: serving ones first, the head at the front."""

    id: ChainId
    version: ChainVersion
    targets: tuple[ChainTarget, ...]

    def in_state(self, state: PublicState) -> tuple[TargetId, ...]:
        """Return the targets in one state, in the order of the chain."""
        return tuple(place.target for place in self.targets if place.state is state)

    @property
    def head(self) -> TargetId | None:
        """The target that takes updates from clients; None while none serves."""
        serving = self.in_state(PublicState.SERVING)
        return serving[0] if serving else None

    @property
    def tail(self) -> TargetId | None:
        """The target that commits first; None while none serves."""
        serving = self.in_state(PublicState.SERVING)
        return serving[-1] if serving else None


@dataclass(frozen=True, slots=True)
class SlotTable:
    """Which chain holds which fraction of the key space; the index in `chains` is the slot."""

    id: SlotTableId
    chains: tuple[ChainId, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class NamespacePolicy:
    """What holds for every key of a namespace. Zero means no limit."""

    name: str
    slot_table: SlotTableId
    replicas: int = 3
    durability: Durability = Durability.DISK
    eviction: Eviction = Eviction.NONE
    ttl_ms: int = 0
    size_max: int = 0
    """Quota: bytes of all values."""
    objects_max: int = 0
    """Quota: how many keys."""


@dataclass(frozen=True, slots=True)
class RoutingInfo:
    """All that a client needs to find any key, and a node to know its place."""

    version: RoutingVersion = VERSION_OF_NOTHING
    cluster: UUID = NIL_UUID
    nodes: Mapping[NodeId, Node] = field(default_factory=dict)
    targets: Mapping[TargetId, Target] = field(default_factory=dict, repr=False)
    chains: Mapping[ChainId, Chain] = field(default_factory=dict, repr=False)
    slot_tables: Mapping[SlotTableId, SlotTable] = field(default_factory=dict)
    namespaces: Mapping[str, NamespacePolicy] = field(default_factory=dict)


def problems_of(routing: RoutingInfo) -> Iterator[str]:
    """Name every inconsistency; nothing for routing info that can be used."""
    for target in routing.targets.values():
        if target.node not in routing.nodes:
            yield f"target {target.id} is on node {target.node}, which is not known"
    yield from _chain_problems(routing)
    for table in routing.slot_tables.values():
        yield from slot_problems(table, routing)
    for policy in routing.namespaces.values():
        if policy.slot_table not in routing.slot_tables:
            yield f"namespace {policy.name!r} uses slot table {policy.slot_table}: not known"


def is_power_of_two(count: int) -> bool:
    """Say whether a slot table may have this many slots."""
    return count > 0 and count & (count - 1) == 0


def _chain_problems(routing: RoutingInfo) -> Iterator[str]:
    owners: dict[TargetId, ChainId] = {}
    for chain in routing.chains.values():
        if not chain.targets:
            yield f"chain {chain.id} has no target"
        if not 0 < chain.version <= CHAIN_VERSION_MAX:
            yield (
                f"chain {chain.id} has version {chain.version}: objects carry 1 to"
                f" {CHAIN_VERSION_MAX}"
            )
        yield from _order_problems(chain)
        nodes: dict[NodeId, TargetId] = {}
        for place in chain.targets:
            owner = owners.setdefault(place.target, chain.id)
            if owner != chain.id:
                yield f"target {place.target} is in chain {owner} and in chain {chain.id}"
            target = routing.targets.get(place.target)
            if target is None:
                yield f"chain {chain.id} has target {place.target}, which is not known"
                continue
            other = nodes.setdefault(target.node, place.target)
            if other != place.target:
                yield (
                    f"chain {chain.id} has targets {other} and {place.target}"
                    f" on one node, {target.node}"
                )


def _order_problems(chain: Chain) -> Iterator[str]:
    states: Sequence[PublicState] = [place.state for place in chain.targets]
    if sorted(states) != list(states):
        yield f"chain {chain.id} does not list its targets in the order of their states"
    if len({place.target for place in chain.targets}) != len(chain.targets):
        yield f"chain {chain.id} has a target twice"


def slot_problems(table: SlotTable, routing: RoutingInfo) -> Iterator[str]:
    """Name every inconsistency of a slot table."""
    if not is_power_of_two(len(table.chains)):
        yield f"slot table {table.id} has {len(table.chains)} slots, which is no power of two"
    for chain in sorted(set(table.chains) - routing.chains.keys() - {NO_CHAIN}):
        yield f"slot table {table.id} names chain {chain}, which is not known"
