"""The room for values whose sizes nobody asked for."""

from kvstore.client.size_hint import BATCH_ROOM_MAX, HINT_FIRST, HINT_MIN, PATIENCE, SizeHint

MIB = 1 << 20


def test_the_hint_rises_at_once() -> None:
    hint = SizeHint()
    assert HINT_FIRST == hint.room_for(1)

    hint.note(4 * MIB)

    assert 4 * MIB == hint.room_for(16)


def test_the_hint_falls_when_all_values_have_been_small_for_long() -> None:
    hint = SizeHint()
    hint.note(4 * MIB)

    for _ in range(PATIENCE - 1):
        hint.note(100_000)
    assert 4 * MIB == hint.room_for(1)
    hint.note(5000)

    assert 100_000 == hint.room_for(1)


def test_one_large_value_keeps_the_hint() -> None:
    hint = SizeHint()
    for _ in range(10):
        for _ in range(PATIENCE - 1):
            hint.note(0)
        hint.note(HINT_FIRST)

    assert HINT_FIRST == hint.room_for(1)


def test_a_hint_has_bounds() -> None:
    hint = SizeHint()
    hint.note(64 * MIB)

    assert BATCH_ROOM_MAX >= 4096 * hint.room_for(4096)
    assert HINT_MIN == hint.room_for(1 << 20)
    for _ in range(PATIENCE):
        hint.note(0)
    assert HINT_MIN == hint.room_for(1)
