"""Entries of kv_store_list and kv_store_verify, parsed.

0          2        4       8          16           24
| key_size | flags  | size  | version  | expiry_ms  | key ...        little-endian, packed
"""

from collections.abc import Iterator
from struct import Struct

from kvstore.types import BadObject, ListedObject, Status

ENTRY = Struct("<HHIQQ")
END = (1 << 64) - 1
"""The cursor behind the last object."""
PINNED = 1
"""The flag of a pinned object (KV_ITEM_PINNED)."""

assert ENTRY.size == 24


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
