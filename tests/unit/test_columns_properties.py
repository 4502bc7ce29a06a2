"""Whatever the arguments, Columns either hold them exactly or raise and leave nothing behind."""

import sys

from hypothesis import given
from hypothesis import strategies as st
from unit.items import items_of, key_of, value_of

from kvstore._columns import Columns

good_keys = st.one_of(
    st.binary(min_size=1, max_size=1024),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=64),
)
good_values = st.binary(max_size=300).flatmap(
    lambda content: st.sampled_from((content, bytearray(content), memoryview(content)))
)
anything = st.one_of(
    good_keys,
    good_values,
    st.none(),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.tuples(st.integers(), st.integers(max_value=-1)),
    st.lists(st.integers(), max_size=2),
)


def encoded(key: bytes | str) -> bytes:
    return key.encode() if isinstance(key, str) else key


@given(st.lists(st.tuples(good_keys, good_values), max_size=40))
def test_good_arguments_are_held_exactly(pairs: list[tuple[bytes | str, bytes]]) -> None:
    columns = Columns([key for key, _ in pairs], (value for _, value in pairs))

    expected = [(encoded(key), bytes(value)) for key, value in pairs]
    assert expected == [(key_of(item), value_of(item)) for item in items_of(columns)]


@given(st.lists(st.tuples(anything, anything), max_size=6), st.booleans())
def test_bad_arguments_raise_and_leave_nothing(
    pairs: list[tuple[object, object]], writable: bool
) -> None:
    buffer = bytearray(8)
    keys = [b"first", *(key for key, _ in pairs)]
    values = [buffer, *(value for _, value in pairs)]
    before = sys.getrefcount(buffer)

    said = "keys["
    try:
        Columns(keys, values, writable=writable).release()  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError) as error:
        said = str(error)

    assert said.startswith(("keys[", "values[", "buffers["))
    buffer.append(1)
    assert before == sys.getrefcount(buffer)
