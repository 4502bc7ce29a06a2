"""Routing info and deltas as bytes: msgpack lists of columns, opened by kind and format version.

    [kind, format version, ...versions, cluster, nodes, targets, chains, slot tables, namespaces]

Nodes, targets and chains are sorted by id and laid out by column, which is several times smaller
and faster than records. A decoder accepts exactly what an encoder of its format version writes, and
says what is wrong with anything else; but a record of a later release may have more fields at its
end, which are passed over. The whole routing info is also checked for consistency.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from itertools import islice
from typing import TypeVar
from uuid import UUID

import msgpack

from kvstore.cluster.columns import (
    decode_column,
    decode_ids,
    encode_column,
    encode_ids,
)
from kvstore.cluster.delta import Delta
from kvstore.cluster.fields import Fields
from kvstore.cluster.ids import (
    CHAIN_VERSION_MAX,
    ID_MAX,
    ROUTING_VERSION_MAX,
    ChainId,
    ChainVersion,
    NodeId,
    RoutingVersion,
    SlotTableId,
    TargetId,
)
from kvstore.cluster.routing import (
    ADDRESSES_MAX,
    CHAIN_TARGETS_MAX,
    CHAINS_MAX,
    NAME_SIZE_MAX,
    NAMESPACES_MAX,
    NODES_MAX,
    SLOT_TABLES_MAX,
    SLOTS_MAX,
    TARGETS_MAX,
    Chain,
    ChainTarget,
    NamespacePolicy,
    Node,
    RoutingInfo,
    SlotTable,
    Target,
    problems_of,
)
from kvstore.cluster.states import Durability, Eviction, NodeKind, NodeState, PublicState
from kvstore.errors import MalformedRoutingError

FORMAT_VERSION = 1
KIND_ROUTING = "routing"
KIND_DELTA = "delta"
ENCODED_SIZE_MAX = 64 << 20
DISK_MAX = 2**16 - 1
PROBLEMS_NAMED_MAX = 3

State = TypeVar("State", bound=IntEnum)


def encode_routing(routing: RoutingInfo) -> bytes:
    """Return the whole routing info as bytes."""
    return _packed(
        [
            KIND_ROUTING,
            FORMAT_VERSION,
            routing.version,
            routing.cluster.bytes,
            *_encode_parts(routing),
        ]
    )


def decode_routing(encoded: bytes) -> RoutingInfo:
    """Return the routing info; raise MalformedRoutingError on anything that is not."""
    fields = _opened(encoded, KIND_ROUTING, 7)
    routing = RoutingInfo(
        RoutingVersion(fields.integer("version", ROUTING_VERSION_MAX)),
        UUID(bytes=fields.binary("cluster", 16)),
        _decode_nodes(fields.nested("nodes", 7)),
        _decode_targets(fields.nested("targets", 4)),
        _decode_chains(fields.nested("chains", 5)),
        _decode_tables(fields.items("slot tables", SLOT_TABLES_MAX)),
        _decode_namespaces(fields.items("namespaces", NAMESPACES_MAX)),
    )
    if problems := list(islice(problems_of(routing), PROBLEMS_NAMED_MAX)):
        raise MalformedRoutingError("inconsistent: " + "; ".join(problems))
    return routing


def encode_delta(delta: Delta) -> bytes:
    """Return a delta as bytes."""
    return _packed(
        [
            KIND_DELTA,
            FORMAT_VERSION,
            delta.base,
            delta.version,
            delta.cluster.bytes,
            *_encode_parts(delta),
            encode_ids(sorted(delta.removed_nodes)),
            encode_ids(sorted(delta.removed_targets)),
            encode_ids(sorted(delta.removed_chains)),
            encode_ids(sorted(delta.removed_slot_tables)),
            sorted(delta.removed_namespaces),
            [_encode_moves(id, moves) for id, moves in sorted(delta.moves.items())],
        ]
    )


def decode_delta(encoded: bytes) -> Delta:
    """Return the delta; raise MalformedRoutingError on anything that is not."""
    fields = _opened(encoded, KIND_DELTA, 14)
    return Delta(
        base=RoutingVersion(fields.integer("base", ROUTING_VERSION_MAX)),
        version=RoutingVersion(fields.integer("version", ROUTING_VERSION_MAX)),
        cluster=UUID(bytes=fields.binary("cluster", 16)),
        nodes=_decode_nodes(fields.nested("nodes", 7)),
        targets=_decode_targets(fields.nested("targets", 4)),
        chains=_decode_chains(fields.nested("chains", 5)),
        slot_tables=_decode_tables(fields.items("slot tables", SLOT_TABLES_MAX)),
        namespaces=_decode_namespaces(fields.items("namespaces", NAMESPACES_MAX)),
        removed_nodes=frozenset(map(NodeId, _ids(fields, "removed nodes", NODES_MAX))),
        removed_targets=frozenset(map(TargetId, _ids(fields, "removed targets", TARGETS_MAX))),
        removed_chains=frozenset(map(ChainId, _ids(fields, "removed chains", CHAINS_MAX))),
        removed_slot_tables=frozenset(
            map(SlotTableId, _ids(fields, "removed slot tables", SLOT_TABLES_MAX))
        ),
        removed_namespaces=frozenset(
            _texts("removed namespaces", fields.items("removed namespaces", NAMESPACES_MAX))
        ),
        moves=_decode_moves(fields.items("moves", SLOT_TABLES_MAX)),
    )


def _packed(message: list[object]) -> bytes:
    encoded = msgpack.packb(message, use_bin_type=True)
    assert isinstance(encoded, bytes)
    assert len(encoded) <= ENCODED_SIZE_MAX
    return encoded


def _opened(encoded: bytes, kind: str, count: int) -> Fields:
    """Unpack the outer list, and check what it says it is."""
    if len(encoded) > ENCODED_SIZE_MAX:
        raise MalformedRoutingError(f"{len(encoded)} bytes, {ENCODED_SIZE_MAX} is the limit")
    try:
        message = msgpack.unpackb(encoded, raw=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedRoutingError(f"not msgpack: {error}") from error
    except RecursionError:
        raise MalformedRoutingError("lists are nested too deep") from None
    if not isinstance(message, list) or message[:1] != [kind]:
        raise MalformedRoutingError(f"this is no {kind}")
    if message[1:2] != [FORMAT_VERSION]:
        raise MalformedRoutingError(
            f"a {kind} of format version {message[1:2]}, this release reads {FORMAT_VERSION}"
        )
    return Fields(message[2:], kind, count)


def _encode_parts(parts: RoutingInfo | Delta) -> list[object]:
    return [
        _encode_nodes([parts.nodes[id] for id in sorted(parts.nodes)]),
        _encode_targets([parts.targets[id] for id in sorted(parts.targets)]),
        _encode_chains([parts.chains[id] for id in sorted(parts.chains)]),
        [[id, encode_column(table.chains)] for id, table in sorted(parts.slot_tables.items())],
        [_encode_namespace(policy) for _, policy in sorted(parts.namespaces.items())],
    ]


def _encode_nodes(nodes: Sequence[Node]) -> list[object]:
    return [
        encode_ids([node.id for node in nodes]),
        encode_column([node.kind for node in nodes]),
        encode_column([node.state for node in nodes]),
        encode_column([node.incarnation for node in nodes]),
        encode_column([len(node.addresses) for node in nodes]),
        [address for node in nodes for address in node.addresses],
        [node.rack for node in nodes],
    ]


def _decode_nodes(fields: Fields) -> dict[NodeId, Node]:
    ids = _ids(fields, "ids", NODES_MAX)
    kinds = _states(fields, "kinds", NodeKind, len(ids))
    states = _states(fields, "states", NodeState, len(ids))
    incarnations = _column(fields, "incarnations", len(ids), ROUTING_VERSION_MAX)
    counts = _column(fields, "address counts", len(ids), ADDRESSES_MAX)
    addresses = iter(_texts("addresses", fields.values("addresses", sum(counts))))
    racks = _texts("racks", fields.values("racks", len(ids)))
    rows = zip(ids, kinds, states, incarnations, counts, racks, strict=True)
    return {
        NodeId(id): Node(
            NodeId(id), kind, state, tuple(islice(addresses, count)), rack, incarnation
        )
        for id, kind, state, incarnation, count, rack in rows
    }


def _encode_targets(targets: Sequence[Target]) -> list[object]:
    return [
        encode_ids([target.id for target in targets]),
        encode_column([target.node for target in targets]),
        encode_column([target.disk for target in targets]),
        encode_column([target.capacity_mib for target in targets]),
    ]


def _decode_targets(fields: Fields) -> dict[TargetId, Target]:
    ids = _ids(fields, "ids", TARGETS_MAX)
    nodes = _column(fields, "nodes", len(ids), ID_MAX)
    disks = _column(fields, "disks", len(ids), DISK_MAX)
    capacities = _column(fields, "capacities", len(ids), ROUTING_VERSION_MAX)
    return {
        TargetId(id): Target(TargetId(id), NodeId(node), disk, capacity)
        for id, node, disk, capacity in zip(ids, nodes, disks, capacities, strict=True)
    }


def _encode_chains(chains: Sequence[Chain]) -> list[object]:
    return [
        encode_ids([chain.id for chain in chains]),
        encode_column([chain.version for chain in chains]),
        encode_column([len(chain.targets) for chain in chains]),
        encode_column([place.target for chain in chains for place in chain.targets]),
        encode_column([place.state for chain in chains for place in chain.targets]),
    ]


def _decode_chains(fields: Fields) -> dict[ChainId, Chain]:
    ids = _ids(fields, "ids", CHAINS_MAX)
    versions = _column(fields, "versions", len(ids), CHAIN_VERSION_MAX)
    counts = _column(fields, "target counts", len(ids), CHAIN_TARGETS_MAX)
    targets = _column(fields, "targets", sum(counts), ID_MAX)
    states = _states(fields, "states", PublicState, len(targets))
    places = (
        ChainTarget(TargetId(target), state) for target, state in zip(targets, states, strict=True)
    )
    return {
        ChainId(id): Chain(ChainId(id), ChainVersion(version), tuple(islice(places, count)))
        for id, version, count in zip(ids, versions, counts, strict=True)
    }


def _decode_tables(items: Iterator[object]) -> dict[SlotTableId, SlotTable]:
    tables: dict[SlotTableId, SlotTable] = {}
    for item in items:
        fields = Fields(item, "slot table", 2)
        id = SlotTableId(fields.integer("id", ID_MAX))
        chains = decode_column(fields.any(), f"slot table {id}", SLOTS_MAX, ID_MAX)
        if tables and id <= max(tables):
            raise MalformedRoutingError("slot tables are sorted by id, and none comes twice")
        tables[id] = SlotTable(id, tuple(map(ChainId, chains)))
    return tables


def _encode_namespace(policy: NamespacePolicy) -> list[object]:
    return [
        policy.name,
        policy.slot_table,
        policy.replicas,
        policy.durability,
        policy.eviction,
        policy.ttl_ms,
        policy.size_max,
        policy.objects_max,
    ]


def _decode_namespaces(items: Iterator[object]) -> dict[str, NamespacePolicy]:
    policies: dict[str, NamespacePolicy] = {}
    for item in items:
        fields = Fields(item, "namespace", 8)
        policy = NamespacePolicy(
            fields.text("name", NAME_SIZE_MAX),
            SlotTableId(fields.integer("slot table", ID_MAX)),
            fields.integer("replicas", CHAIN_TARGETS_MAX),
            fields.state("durability", Durability),
            fields.state("eviction", Eviction),
            fields.integer("ttl_ms", ROUTING_VERSION_MAX),
            fields.integer("size_max", ROUTING_VERSION_MAX),
            fields.integer("objects_max", ROUTING_VERSION_MAX),
        )
        if policy.name in policies:
            raise MalformedRoutingError(f"namespace {policy.name!r} comes twice")
        policies[policy.name] = policy
    return policies


def _encode_moves(id: SlotTableId, moves: Mapping[int, ChainId]) -> list[object]:
    slots = sorted(moves)
    return [id, encode_column(slots), encode_column([moves[slot] for slot in slots])]


def _decode_moves(items: Iterator[object]) -> dict[SlotTableId, dict[int, ChainId]]:
    tables: dict[SlotTableId, dict[int, ChainId]] = {}
    for item in items:
        fields = Fields(item, "moves", 3)
        id = SlotTableId(fields.integer("slot table", ID_MAX))
        slots = decode_column(fields.any(), "moved slots", SLOTS_MAX, SLOTS_MAX - 1)
        chains = _column(fields, "chains of moved slots", len(slots), ID_MAX)
        if id in tables or len(set(slots)) != len(slots):
            raise MalformedRoutingError(f"a slot of table {id} moves twice")
        tables[id] = dict(zip(slots, map(ChainId, chains), strict=True))
    return tables


def _ids(fields: Fields, name: str, count_max: int) -> list[int]:
    return decode_ids(fields.any(), f"{fields.name}: {name}", count_max, ID_MAX)


def _column(fields: Fields, name: str, count: int, value_max: int) -> list[int]:
    """Decode a column that must have exactly as many values as the one that it goes with."""
    values = decode_column(fields.any(), f"{fields.name}: {name}", count, value_max)
    if len(values) != count:
        raise MalformedRoutingError(f"{fields.name}: {name}: {len(values)} of {count} values")
    return values


def _states(fields: Fields, name: str, kind: type[State], count: int) -> list[State]:
    values = _column(fields, name, count, ID_MAX)
    try:
        return [kind(value) for value in values]
    except ValueError as error:
        raise MalformedRoutingError(f"{fields.name}: {name}: {error}") from None


def _texts(name: str, items: Iterable[object]) -> list[str]:
    texts: list[str] = []
    for item in items:
        if not isinstance(item, str) or len(item.encode()) > NAME_SIZE_MAX:
            raise MalformedRoutingError(f"{name}: {item!r:.80} is no short text")
        texts.append(item)
    return texts
