"""What mgmtd remembers beside the routing info: who each target is, and which are to leave.

Nothing here is changed in place. Each entry is a record of its own in the metadata store; `records`
and `ledger_of` lead there and back.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

import msgpack

from kvstore.cluster.fields import Fields
from kvstore.cluster.ids import ID_MAX, SlotTableId, TargetId
from kvstore.cluster.routing import CHAIN_TARGETS_MAX
from kvstore.errors import MalformedRoutingError, MetadataError

Id = TypeVar("Id", bound=int)
Value = TypeVar("Value")

PREFIX = b"ledger/"
IDENTITY = "identity"
LEAVING = "leaving"
TABLE = "table"
NO_TARGET = TargetId(0)


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a target's directory."""

    uuid: UUID
    used: bool = False
    """Whether it has been in a chain and left it: what it holds is out of date."""
    replaced_by: UUID | None = None
    """An empty directory that stands in its place, while the chain still counts on the data of the
    one before: the target does not count as open until another target has taken that claim."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """All of it."""

    identities: Mapping[TargetId, Identity] = field(default_factory=dict, repr=False)
    leaving: Mapping[TargetId, TargetId] = field(default_factory=dict)
    """Targets that are to leave their chains, each with the one that joins first, or NO_TARGET."""
    replicas: Mapping[SlotTableId, int] = field(default_factory=dict)
    """How many targets the chains of a slot table are to have."""


def records_between(before: Ledger, after: Ledger) -> dict[bytes, bytes | None]:
    """Return the records that differ; None stands for one that goes."""
    return {
        **_differences(IDENTITY, before.identities, after.identities),
        **_differences(LEAVING, before.leaving, after.leaving),
        **_differences(TABLE, before.replicas, after.replicas),
    }


def ledger_of(records: Iterable[tuple[bytes, bytes]]) -> Ledger:
    """Return the ledger that records make; MetadataError where one is damaged."""
    identities: dict[TargetId, Identity] = {}
    leaving: dict[TargetId, TargetId] = {}
    replicas: dict[SlotTableId, int] = {}
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
            else:
                raise MalformedRoutingError(f"{name}: no such record")
        except (ValueError, msgpack.UnpackException) as error:
            raise MetadataError(f"the record {key!r} of mgmtd is damaged: {error}") from error
    return Ledger(identities, leaving, replicas)


def _differences(
    name: str, old: Mapping[Id, Value], new: Mapping[Id, Value]
) -> dict[bytes, bytes | None]:
    if old is new:
        return {}
    changed: dict[bytes, bytes | None] = {
        _key(name, id): _encode(value) for id, value in new.items() if old.get(id) != value
    }
    changed.update((_key(name, id), None) for id in old.keys() - new.keys())
    return changed


def _key(name: str, id: int) -> bytes:
    return PREFIX + f"{name}/{id:08x}".encode()


def _encode(value: object) -> bytes:
    if isinstance(value, Identity):
        replaced_by = value.replaced_by.bytes if value.replaced_by else b""
        encoded = msgpack.packb([value.uuid.bytes, int(value.used), replaced_by])
    else:
        encoded = msgpack.packb([value])
    assert isinstance(encoded, bytes)
    return encoded


def _opened(name: str, value: bytes) -> Fields:
    return Fields(msgpack.unpackb(value, raw=False), name, 3 if name == IDENTITY else 1)


def _identity(fields: Fields) -> Identity:
    uuid = UUID(bytes=fields.binary("uuid", 16))
    used = bool(fields.integer("used", 1))
    replaced_by = fields.any()
    if replaced_by == b"":
        return Identity(uuid, used)
    if not isinstance(replaced_by, bytes) or len(replaced_by) != 16:
        raise MalformedRoutingError("replaced by: 16 bytes, or none")
    return Identity(uuid, used, UUID(bytes=replaced_by))


def blocked(ledger: Ledger) -> Iterator[TargetId]:
    """Yield the targets whose data is gone, while their chains still count on it."""
    for id, identity in ledger.identities.items():
        if identity.replaced_by is not None:
            yield id
