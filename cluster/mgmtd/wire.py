"""Messages between nodes and mgmtd as lists of msgpack.

A heartbeat's reports are two byte strings of columns, the states and the measures of its targets:
whoever receives the same bytes again need not read them, and measures are read when asked for.
Decoders check everything, and raise MalformedRoutingError.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import msgpack

from kvstore.cluster.codec import DISK_MAX, decode_delta, decode_routing
from kvstore.cluster.columns import VALUE_MAX, decode_column, encode_column
from kvstore.cluster.delta import apply_delta
from kvstore.cluster.fields import Fields
from kvstore.cluster.ids import (
    CHAIN_VERSION_MAX,
    ID_MAX,
    ROUTING_VERSION_MAX,
    ChainVersion,
    Epoch,
    NodeId,
    RoutingVersion,
    TargetId,
)
from kvstore.cluster.leases import LeaseTerms
from kvstore.cluster.mgmtd.messages import (
    Heartbeat,
    HeartbeatAnswer,
    MoveFlag,
    MoveState,
    NodeRegistration,
    Order,
    RegisterAnswer,
    TargetRegistration,
    TargetReport,
)
from kvstore.cluster.routing import ADDRESSES_MAX, NAME_SIZE_MAX, SLOTS_MAX, RoutingInfo
from kvstore.cluster.states import LocalState, NodeKind
from kvstore.errors import InvalidOptionError, MalformedRoutingError

NODE_TARGETS_MAX = 256
ERROR_SIZE_MAX = 256
MS_MAX = 3_600_000

REGISTER = "register"
HEARTBEAT = "heartbeat"
LEAVE = "leave"
SUSPECT = "suspect"
ROUTING = "routing"
SUBSCRIBE = "subscribe"
ADMIN = "admin"
WHO = "who"
WHY_SIZE_MAX = 512

PUSH_WHOLE = 0
PUSH_DELTA = 1


@dataclass(frozen=True, slots=True)
class Measures:
    """What a node measures of a target."""

    used_bytes: int = 0
    free_bytes: int = 0
    capacity_bytes: int = 0
    objects: int = 0
    resync_done: int = 0
    resync_total: int = 0


NO_MEASURES = Measures()
NO_MOVE = (0, MoveState.NONE, 0)


def encode_registration(registration: NodeRegistration) -> list[object]:
    """Return a registration as a list."""
    return [
        registration.id,
        registration.kind,
        registration.incarnation,
        list(registration.addresses),
        registration.rack,
        [
            [on.id, on.uuid.bytes, on.disk, on.capacity_bytes, int(on.empty), on.cluster.bytes]
            for on in registration.targets
        ],
    ]


def decode_registration(raw: object) -> NodeRegistration:
    """Return the registration that a list is."""
    fields = Fields(raw, "registration", 6)
    id = NodeId(fields.integer("id", ID_MAX))
    kind = fields.state("kind", NodeKind)
    incarnation = fields.integer("incarnation", ROUTING_VERSION_MAX)
    addresses = tuple(map(_text, fields.items("addresses", ADDRESSES_MAX)))
    rack = fields.text("rack", NAME_SIZE_MAX)
    targets = tuple(map(_registered, fields.items("targets", NODE_TARGETS_MAX)))
    if not id or not all(target.id for target in targets):
        raise MalformedRoutingError("registration: ids count from 1")
    return NodeRegistration(
        id=id, kind=kind, incarnation=incarnation, addresses=addresses, rack=rack, targets=targets
    )


def _registered(raw: object) -> TargetRegistration:
    fields = Fields(raw, "target", 6)
    return TargetRegistration(
        id=TargetId(fields.integer("id", ID_MAX)),
        uuid=UUID(bytes=fields.binary("uuid", 16)),
        disk=fields.integer("disk", DISK_MAX),
        capacity_bytes=fields.integer("capacity", ROUTING_VERSION_MAX),
        empty=bool(fields.integer("empty", 1)),
        cluster=UUID(bytes=fields.binary("cluster", 16)),
    )


def decode_parts(raw: object) -> RoutingInfo:
    """Return the routing info that a base and the deltas since make."""
    if not isinstance(raw, list) or not raw:
        raise MalformedRoutingError("a base, and the deltas since, belong here")
    return apply_deltas(raw[1:], decode_routing(encoded_of(raw[0])))


def apply_deltas(raw: object, routing: RoutingInfo) -> RoutingInfo:
    """Return what deltas lead to."""
    if not isinstance(raw, list):
        raise MalformedRoutingError("a list of deltas belongs here")
    for part in raw:
        routing = apply_delta(decode_delta(encoded_of(part)), routing)
    return routing


def encode_register_answer(
    terms: LeaseTerms, epoch: Epoch, routing: Sequence[bytes]
) -> list[object]:
    """Return the answer to a registration; the parts of the routing info are encoded already."""
    return [[terms.heartbeat_ms, terms.lease_ms, terms.drift_ms_max], epoch, list(routing)]


def decode_register_answer(raw: object, secret: bytes) -> RegisterAnswer:
    """Return the answer to a registration."""
    fields = Fields(raw, "answer to a registration", 3)
    times = fields.nested("terms", 3)
    numbers = [times.integer(name, MS_MAX) for name in ("heartbeat", "lease", "drift")]
    try:
        terms = LeaseTerms(*numbers)
    except InvalidOptionError as error:
        raise MalformedRoutingError(f"terms: {error}") from error
    epoch = Epoch(fields.integer("epoch", ROUTING_VERSION_MAX))
    routing = decode_parts(fields.any())
    return RegisterAnswer(terms, routing.cluster, epoch, routing, secret)


def encode_heartbeat(heartbeat: Heartbeat) -> list[object]:
    """Return a heartbeat as a list."""
    reports = heartbeat.targets
    return [
        heartbeat.node,
        heartbeat.incarnation,
        heartbeat.routing_version,
        encode_states(reports),
        encode_measures(reports),
    ]


def encode_states(reports: Sequence[TargetReport]) -> bytes:
    """Return what reports say of states."""
    return _packed(
        [
            encode_column([on.target for on in reports]),
            encode_column([on.local for on in reports]),
            encode_column([on.chain_version for on in reports]),
            [
                [index, on.error.encode()[:ERROR_SIZE_MAX]]
                for index, on in enumerate(reports)
                if on.error
            ],
            [index for index, on in enumerate(reports) if not on.settled],
            [
                [index, on.move, on.move_state, on.move_objects]
                for index, on in enumerate(reports)
                if on.move
            ],
        ]
    )


def decode_states(encoded: bytes) -> dict[TargetId, TargetReport]:
    """Return the states of targets, without measures."""
    fields = Fields(_unpacked(encoded), "states", 6)
    targets = decode_column(fields.any(), "targets", NODE_TARGETS_MAX, ID_MAX)
    locals_ = decode_column(fields.any(), "local states", len(targets), LocalState.UPTODATE)
    versions = decode_column(fields.any(), "chain versions", len(targets), CHAIN_VERSION_MAX)
    if not len(targets) == len(set(targets)) == len(locals_) == len(versions):
        raise MalformedRoutingError("states: one local state and version for each target")
    errors: dict[int, str] = {}
    for item in fields.items("errors", len(targets)):
        error = Fields(item, "error", 2)
        index, text = error.integer("index", NODE_TARGETS_MAX), error.any()
        if not isinstance(text, bytes) or len(text) > ERROR_SIZE_MAX:
            raise MalformedRoutingError(f"errors: at most {ERROR_SIZE_MAX} bytes each")
        errors[index] = text.decode(errors="replace")
    count = len(targets)
    unsettled = {_index(item, count) for item in fields.items("unsettled", count)}
    moves = dict(_move_report(item) for item in fields.items("moves", len(targets)))
    rows = zip(targets, locals_, versions, strict=True)
    return {
        TargetId(target): TargetReport(
            target=TargetId(target),
            local=LocalState(local),
            chain_version=ChainVersion(version),
            error=errors.get(index, ""),
            settled=index not in unsettled,
            move=moves.get(index, NO_MOVE)[0],
            move_state=moves.get(index, NO_MOVE)[1],
            move_objects=moves.get(index, NO_MOVE)[2],
        )
        for index, (target, local, version) in enumerate(rows)
    }


def _move_report(raw: object) -> tuple[int, tuple[int, MoveState, int]]:
    fields = Fields(raw, "move", 4)
    index = fields.integer("index", NODE_TARGETS_MAX)
    id = fields.integer("id", ROUTING_VERSION_MAX)
    state = fields.state("state", MoveState)
    return index, (id, state, fields.integer("objects", ROUTING_VERSION_MAX))


def encode_measures(reports: Sequence[TargetReport]) -> bytes:
    """Return what reports measure."""
    return _packed(
        [
            encode_column([on.target for on in reports]),
            encode_column([on.used_bytes for on in reports]),
            encode_column([on.free_bytes for on in reports]),
            encode_column([on.capacity_bytes for on in reports]),
            encode_column([on.objects for on in reports]),
            encode_column([on.resync_done for on in reports]),
            encode_column([on.resync_total for on in reports]),
        ]
    )


def decode_measures(encoded: bytes) -> dict[TargetId, Measures]:
    """Return what a heartbeat measured."""
    raw = Fields(_unpacked(encoded), "measures", 7).rest()
    columns = [decode_column(column, "measures", NODE_TARGETS_MAX, VALUE_MAX) for column in raw]
    if len({len(column) for column in columns}) != 1:
        raise MalformedRoutingError("measures: one of each for each target")
    return {TargetId(row[0]): Measures(*row[1:]) for row in zip(*columns, strict=True)}


def encode_heartbeat_answer(answer: HeartbeatAnswer) -> list[object]:
    """Return the answer to a heartbeat as a list."""
    return [
        answer.epoch,
        answer.routing_version,
        answer.lease_ms,
        list(answer.retire),
        int(answer.haste),
        [
            [
                order.id,
                order.source,
                order.target,
                order.chain_version,
                order.address,
                order.flags,
                order.table_size,
                encode_column(order.slots),
            ]
            for order in answer.orders
        ],
    ]


def decode_heartbeat_answer(raw: object) -> HeartbeatAnswer:
    """Return the answer to a heartbeat."""
    fields = Fields(raw, "answer to a heartbeat", 6)
    epoch = Epoch(fields.integer("epoch", ROUTING_VERSION_MAX))
    version = RoutingVersion(fields.integer("routing version", ROUTING_VERSION_MAX))
    lease_ms = fields.integer("lease", MS_MAX)
    retire = [_id(item) for item in fields.items("retire", NODE_TARGETS_MAX)]
    haste = bool(fields.integer("haste", 1))
    orders = tuple(_order(item) for item in fields.items("orders", NODE_TARGETS_MAX))
    return HeartbeatAnswer(epoch, version, lease_ms, tuple(retire), orders, haste)


def _order(raw: object) -> Order:
    fields = Fields(raw, "order", 8)
    id = fields.integer("id", ROUTING_VERSION_MAX)
    source, target = _id(fields.any()), _id(fields.any())
    return Order(
        id=id,
        source=source,
        target=target,
        chain_version=ChainVersion(fields.integer("chain version", CHAIN_VERSION_MAX)),
        address=_text(fields.any()),
        flags=MoveFlag(fields.integer("flags", MoveFlag.DELETE | MoveFlag.LAST)),
        table_size=fields.integer("table size", SLOTS_MAX),
        slots=tuple(decode_column(fields.any(), "slots", SLOTS_MAX, SLOTS_MAX)),
    )


def encoded_of(raw: object) -> bytes:
    """Return bytes that carry something encoded."""
    if not isinstance(raw, bytes):
        raise MalformedRoutingError("encoded bytes belong here")
    return raw


def parameters_of(raw: object) -> Mapping[str, object]:
    """Return the parameters of an operation."""
    if not isinstance(raw, dict) or not all(isinstance(name, str) for name in raw):
        raise MalformedRoutingError("parameters: a map of names")
    return raw


def _packed(message: list[object]) -> bytes:
    encoded = msgpack.packb(message, use_bin_type=True)
    assert isinstance(encoded, bytes)
    return encoded


def _unpacked(encoded: bytes) -> object:
    try:
        message: object = msgpack.unpackb(encoded, raw=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise MalformedRoutingError(f"not msgpack: {error}") from error
    return message


def _text(raw: object) -> str:
    if not isinstance(raw, str) or not 0 < len(raw.encode()) <= NAME_SIZE_MAX:
        raise MalformedRoutingError(f"{raw!r:.80} is no short text")
    return raw


def _index(raw: object, count: int) -> int:
    if type(raw) is not int or not 0 <= raw < count:
        raise MalformedRoutingError(f"{raw!r:.80} is no index of a target")
    return raw


def _id(raw: object) -> TargetId:
    if type(raw) is not int or not 0 < raw <= ID_MAX:
        raise MalformedRoutingError(f"{raw!r:.80} is no id")
    return TargetId(raw)
