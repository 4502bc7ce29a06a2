"""What the replicas of a chain disagree on."""

from kvstore.commands.compare import differing, unexpired
from kvstore.native.listing import StoredObject


def stored(key: bytes, version: int = 1) -> StoredObject:
    return StoredObject(key, 10, 0xABC, version, 0, pinned=False)


A, B, C = stored(b"a"), stored(b"b"), stored(b"c")


def test_replicas_that_hold_the_same_do_not_differ() -> None:
    assert (3, {}) == differing([[A, B, C], [C, A, B], [B, C, A]])
    assert (2, {}) == differing([[A, B]])
    assert (0, {}) == differing([[], []])


def test_a_key_of_another_version_differs() -> None:
    newer = stored(b"b", version=2)

    assert (2, {b"b": (B, B, newer)}) == differing([[A, B], [A, B], [A, newer]])


def test_a_key_that_is_missing_differs() -> None:
    assert (2, {b"b": (B, None)}) == differing([[A, B], [A]])
    assert (1, {b"b": (None, None, B)}) == differing([[A], [A], [A, B]])


def test_what_has_expired_counts_as_absent() -> None:
    expired = StoredObject(b"b", 10, 0xABC, 1, 1000, pinned=False)
    lives = StoredObject(b"c", 10, 0xABC, 1, 1001, pinned=False)

    assert [A, lives] == list(unexpired([A, expired, lives], 1000))
