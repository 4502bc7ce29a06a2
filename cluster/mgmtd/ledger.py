"""What mgmtd remembers beside the routing info: who each target is, what leaves and what moves.

Nothing here is changed in place. Each entry is a record of its own in the metadata store;
`records_of` and `ledger_of` lead there and back.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, unique
from typing import NewType, TypeVar
from uuid import UUID

import msgpack

from kvstore.cluster.columns import decode_column, encode_column
from kvstore.cluster.fields import Fields
from kvstore.cluster.ids import (
    CHAIN_VERSION_MAX,
    ID_MAX,
    ROUTING_VERSION_MAX,
    SlotTableId,
    TargetId,
)
from kvstore.cluster.routing import CHAIN_TARGETS_MAX, SLOTS_MAX
from kvstore.errors import MalformedRoutingError, MetadataError

Id = TypeVar("Id", bound=int)

PREFIX = b"ledger/"
IDENTITY = "identity"
LEAVING = "leaving"
TABLE = "table"
MOVE = "move"
NO_TARGET = TargetId(0)
DISSOLVES = TargetId(ID_MAX)
"""In the place of a target that joins: the chain gives its slots away, and goes."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a target's directory."""

    uuid: UUID
    used: bool = False
    """Whether it has been in a chain and left it: what it holds is out of date."""
    replaced_by: UUID | None = None
    """An empty directory that stands in its place, while the chain still counts on the data of the
    one before: the target does not count as open until another target has taken that claim."""


MoveKey = NewType("MoveKey", int)
"""The chain that gives slots in the upper 32 bits, the one that takes them in the lower."""


@unique
class MovePhase(IntEnum):
    """How far slots are on their way to another chain; see `slot_moves`."""

    WAITING = 0
    CLEARING = 1
    COPYING = 2
    FROZEN = 3
    CLEANING = 4


@dataclass(frozen=True, slots=True)
class SlotMove:
    """Slots that move from one chain to another."""

    table: SlotTableId
    slots: tuple[int, ...]
    phase: MovePhase = MovePhase.WAITING
    serial: int = 0
    """The version of the routing info by which this attempt began."""
    gives_version: int = 0
    """Of the chain that gives, as this step goes by it."""
    takes_version: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """All of it."""

    identities: Mapping[TargetId, Identity] = field(default_factory=dict, repr=False)
    leaving: Mapping[TargetId, TargetId] = field(default_factory=dict)
    """Targets that are to leave their chains, each with the one that joins first,
    NO_TARGET or DISSOLVES."""
    replicas: Mapping[SlotTableId, int] = field(default_factory=dict)
    """How many targets the chains of a slot table are to have."""
    slot_moves: Mapping[MoveKey, SlotMove] = field(default_factory=dict)


def records_of(name: str, changed: Mapping[Id, object]) -> dict[bytes, bytes | None]:
    """Return the records of entries that differ; None stands for one that goes."""
    return {
        PREFIX + f"{name}/{id:08x}".encode(): None if value is None else _encode(value)
        for id, value in changed.items()
    }


def ledger_of(records: Iterable[tuple[bytes, bytes]]) -> Ledger:
    """Return the ledger that records make; MetadataError where one is damaged."""
    identities: dict[TargetId, Identity] = {}
    leaving: dict[TargetId, TargetId] = {}
    replicas: dict[SlotTableId, int] = {}
    slot_moves: dict[MoveKey, SlotMove] = {}
    for key, value in records:
        try:
            name, _, number = key.removeprefix(PREFIX).decode("ascii").partition("/")
            id = int(number, 16)
            fields = _opened(name, value)
            if name == IDENTITY:
                identities[TargetId(id)] = _identity(fields)
            elif name == LEAVING:
                leaving[TargetId(id)] = TargetId(fields.integer("joins", ID_MAX))
            elif name == TABLE:
                replicas[SlotTableId(id)] = fields.integer("replicas", CHAIN_TARGETS_MAX)
            elif name == MOVE:
                slot_moves[MoveKey(id)] = _slot_move(fields)
            else:
                raise MalformedRoutingError(f"{name}: no such record")
        except (ValueError, msgpack.UnpackException) as error:
            raise MetadataError(f"the record {key!r} of mgmtd is damaged: {error}") from error
    return Ledger(identities, leaving, replicas, slot_moves)


def _encode(value: object) -> bytes:
    if isinstance(value, Identity):
        replaced_by = value.replaced_by.bytes if value.replaced_by else b""
        encoded = msgpack.packb([value.uuid.bytes, int(value.used), replaced_by])
    elif isinstance(value, SlotMove):
        versions = [value.gives_version, value.takes_version]
        slots = encode_column(value.slots)
        encoded = msgpack.packb([value.table, slots, value.phase, value.serial, *versions])
    else:
        encoded = msgpack.packb([value])
    assert isinstance(encoded, bytes)
    return encoded


def _opened(name: str, value: bytes) -> Fields:
    count = {IDENTITY: 3, MOVE: 6}.get(name, 1)
    return Fields(msgpack.unpackb(value, raw=False), name, count)


def _identity(fields: Fields) -> Identity:
    uuid = UUID(bytes=fields.binary("uuid", 16))
    used = bool(fields.integer("used", 1))
    replaced_by = fields.any()
    if replaced_by == b"":
        return Identity(uuid, used)
    if not isinstance(replaced_by, bytes) or len(replaced_by) != 16:
        raise MalformedRoutingError("replaced by: 16 bytes, or none")
    return Identity(uuid, used, UUID(bytes=replaced_by))


def _slot_move(fields: Fields) -> SlotMove:
    return SlotMove(
        table=SlotTableId(fields.integer("table", ID_MAX)),
        slots=tuple(decode_column(fields.any(), "slots", SLOTS_MAX, SLOTS_MAX)),
        phase=fields.state("phase", MovePhase),
        serial=fields.integer("serial", ROUTING_VERSION_MAX),
        gives_version=fields.integer("version of the giver", CHAIN_VERSION_MAX),
        takes_version=fields.integer("version of the taker", CHAIN_VERSION_MAX),
    )


def blocked(ledger: Ledger) -> Iterator[TargetId]:
    """Yield the targets whose data is gone, while their chains still count on it."""
    for id, identity in ledger.identities.items():
        if identity.replaced_by is not None:
            yield id
