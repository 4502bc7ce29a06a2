"""Walks over all objects, one step at a time: listing and verification.

A step is one call into the core; who takes the steps decides on which thread.
"""

from collections.abc import Iterator

from kvstore.client.port import Port
from kvstore.native.listing import END
from kvstore.types import BadObject, Key, ListedObject, Verification

VERIFY_STEP_SIZE = 64 << 20
"""Bytes of values that one step of a verification reads, about."""


def checked_prefix(prefix: Key) -> bytes:
    """Return the bytes of a prefix."""
    if isinstance(prefix, str):
        return prefix.encode()
    if not isinstance(prefix, bytes):
        raise TypeError(f"prefix: expected bytes or str, got {type(prefix).__name__}")
    return prefix


def list_pages(port: Port, prefix: bytes) -> Iterator[tuple[ListedObject, ...]]:
    """Yield the objects whose keys begin with *prefix*, a page a step."""
    cursor = 0
    while cursor != END:
        cursor, page = port.list(cursor, prefix)
        yield page


def verify_steps(port: Port) -> Iterator[Verification]:
    """Yield what all steps so far have verified."""
    cursor, objects, size = 0, 0, 0
    bad: tuple[BadObject, ...] = ()
    while cursor != END:
        cursor, step_objects, step_size, step_bad = port.verify(cursor, VERIFY_STEP_SIZE)
        objects, size, bad = objects + step_objects, size + step_size, (*bad, *step_bad)
        yield Verification(objects, size, bad)
