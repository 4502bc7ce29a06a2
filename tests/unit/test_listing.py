"""Pages of entries are parsed to objects."""

from kvstore.native.listing import ENTRY, parse_bad_objects, parse_listing
from kvstore.types import BadObject, ListedObject, Status


def test_a_page_of_objects() -> None:
    page = ENTRY.pack(3, 1, 7, 9, 1500) + b"abc" + ENTRY.pack(1, 0, 0, 1, 0) + b"d"

    expected = (ListedObject(b"abc", 7, 9, 1.5, True), ListedObject(b"d", 0, 1, None, False))
    assert expected == parse_listing(page)
    assert () == parse_listing(b"")


def test_bad_objects_have_their_status() -> None:
    page = ENTRY.pack(3, 10, 7, 9, 0) + b"abc"

    assert (BadObject(b"abc", 7, 9, Status.CORRUPT),) == parse_bad_objects(page)
