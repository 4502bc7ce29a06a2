"""Pages of entries are parsed to objects."""

from kvstore.native.listing import (
    ENTRY,
    STORED_ENTRY,
    StoredObject,
    parse_bad_objects,
    parse_listing,
    parse_stored,
    split_stored_key,
)
from kvstore.types import BadObject, ListedObject, Status


def test_a_page_of_objects() -> None:
    page = ENTRY.pack(3, 1, 7, 9, 1500) + b"abc" + ENTRY.pack(1, 0, 0, 1, 0) + b"d"

    expected = (ListedObject(b"abc", 7, 9, 1.5, True), ListedObject(b"d", 0, 1, None, False))
    assert expected == parse_listing(page)
    assert () == parse_listing(b"")


def test_bad_objects_have_their_status() -> None:
    page = ENTRY.pack(3, 10, 7, 9, 0) + b"abc"

    assert (BadObject(b"abc", 7, 9, Status.CORRUPT),) == parse_bad_objects(page)


def test_a_page_of_stored_keys() -> None:
    named, plain = b"\x01t\x02nsk", b"\x00\x00key"
    page = STORED_ENTRY.pack(6, 1, 7, 8, 9, 1500) + named
    page += STORED_ENTRY.pack(5, 0, 0, 0, 1, 0) + plain

    expected = [StoredObject(named, 7, 8, 9, 1500, True), StoredObject(plain, 0, 0, 1, 0, False)]
    assert expected == list(parse_stored(page))
    assert ("t", "ns", b"k") == split_stored_key(named)
    assert ("default", "default", b"key") == split_stored_key(plain)
