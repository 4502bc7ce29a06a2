"""Entries of kv_store_list and kv_store_verify, and of KV_CONTROL_LIST_STORED, parsed.

0          2        4       8          16           24
| key_size | flags  | size  | version  | expiry_ms  | key ...        little-endian, packed

0          2        4       8          12        20          28
| key_size | flags  | size  | checksum | version | expiry_ms | stored key ...

    stored key    | size, u8 | tenant | size, u8 | namespace | key |      size 0: "default"
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from kvstore.types import BadObject, ListedObject, Status

ENTRY = Struct("<HHIQQ")
STORED_ENTRY = Struct("<HHIIQQ")
LIST_BODY = Struct("<QI")
"""What a node is asked: a cursor, and how many bytes of entries may come; a prefix follows."""
LIST_REPLY = Struct("<Q")
"""What stands before the entries of an answer: the next cursor."""
DEFAULT_NAME = "default"
END = (1 << 64) - 1
"""The cursor behind the last object."""
PINNED = 1
"""The flag of a pinned object (KV_ITEM_PINNED)."""

assert ENTRY.size == 24
assert STORED_ENTRY.size == 28


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as a target stores it; equal where replicas agree."""

    stored_key: bytes
    size: int
    checksum: int
    version: int
    expiry_ms: int
    pinned: bool


def expiry_s_of(expiry_ms: int) -> float | None:
    """Return the Unix time in seconds; the core's 0 stands for never."""
    return expiry_ms / 1000 if expiry_ms else None


def entries_of(page: bytes) -> Iterator[tuple[bytes, int, int, int, int]]:
    """Yield (key, flags, size, version, expiry_ms)."""
    position = 0
    while position < len(page):
        key_size, flags, size, version, expiry_ms = ENTRY.unpack_from(page, position)
        position += ENTRY.size + key_size
        yield page[position - key_size : position], flags, size, version, expiry_ms
    assert position == len(page), "the core returns whole entries"


def parse_listing(page: bytes) -> tuple[ListedObject, ...]:
    """Return the objects of one page of a listing."""
    return tuple(
        ListedObject(key, size, version, expiry_s_of(expiry_ms), bool(flags & PINNED))
        for key, flags, size, version, expiry_ms in entries_of(page)
    )


def parse_bad_objects(page: bytes) -> tuple[BadObject, ...]:
    """Return the bad objects that one step of a verification found."""
    return tuple(
        BadObject(key, size, version, Status(status))
        for key, status, size, version, _ in entries_of(page)
    )


def parse_stored(page: bytes) -> Iterator[StoredObject]:
    """Yield the objects of one page of stored keys."""
    position = 0
    while position < len(page):
        key_size, flags, size, checksum, version, expiry_ms = STORED_ENTRY.unpack_from(
            page, position
        )
        position += STORED_ENTRY.size + key_size
        key = page[position - key_size : position]
        yield StoredObject(key, size, checksum, version, expiry_ms, bool(flags & PINNED))
    assert position == len(page), "a node returns whole entries"


def split_stored_key(stored_key: bytes) -> tuple[str, str, bytes]:
    """Return tenant, namespace and key."""
    tenant_end = 1 + stored_key[0]
    name_space_end = tenant_end + 1 + stored_key[tenant_end]
    return (
        stored_key[1:tenant_end].decode("ascii") or DEFAULT_NAME,
        stored_key[tenant_end + 1 : name_space_end].decode("ascii") or DEFAULT_NAME,
        stored_key[name_space_end:],
    )
