"""Columns point items at keys and values, hold the memory, and name what is wrong with it."""

import array
import ctypes
import gc
import sys
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from unit.items import items_of, key_of, stats_of, value_of

from kvstore._columns import Columns
from kvstore.types import Status

VALUE = b"some bytes"


def test_keys_are_bytes_or_utf8() -> None:
    columns = Columns([b"a", "é", "𝄞", b"\0" * 1024])

    assert 4 == columns.count
    assert [b"a", "é".encode(), "𝄞".encode(), b"\0" * 1024] == list(map(key_of, items_of(columns)))
    assert (b"a", "é", "𝄞", b"\0" * 1024) == columns.keys


@pytest.mark.parametrize(
    "keys", [[b"a", b"b"], (b"a", b"b"), {b"a": 1, b"b": 2}, iter((b"a", b"b"))]
)
def test_any_iterable_of_keys(keys: object) -> None:
    columns = Columns(keys)  # type: ignore[arg-type]

    assert [b"a", b"b"] == list(map(key_of, items_of(columns)))


def test_a_generator_of_keys_and_values() -> None:
    columns = Columns((b"%d" % i for i in range(3)), (bytes([i]) for i in range(3)))

    assert [b"0", b"1", b"2"] == list(map(key_of, items_of(columns)))
    assert [b"\0", b"\1", b"\2"] == list(map(value_of, items_of(columns)))


def test_the_error_of_a_generator_passes() -> None:
    def keys() -> Iterator[bytes]:
        yield b"a"
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        Columns(keys())


@pytest.mark.parametrize(
    "value",
    [
        VALUE,
        bytearray(VALUE),
        memoryview(VALUE),
        memoryview(b"--" + VALUE)[2:],
        array.array("B", VALUE),
        array.array("H", VALUE),
        np.frombuffer(VALUE, "u1"),
        np.frombuffer(VALUE, "<u2").reshape(5, 1),
        np.frombuffer(VALUE, "<f2"),
        (ctypes.c_char * len(VALUE)).from_buffer_copy(VALUE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_of_every_buffer_type(value: object) -> None:
    assert [VALUE] == list(map(value_of, items_of(Columns([b"k"], [value]))))


@pytest.mark.parametrize("value", [b"", bytearray(), np.empty(0), memoryview(b""), (0, 0)])
def test_values_may_be_empty(value: object) -> None:
    (item,) = items_of(Columns([b"k"], [value]))

    assert 0 == item.value_size


def test_an_address_pair_is_taken_on_trust() -> None:
    memory = ctypes.create_string_buffer(VALUE, len(VALUE))

    for writable in (False, True):
        pair = (ctypes.addressof(memory), len(VALUE))
        columns = Columns([b"k"], [pair], writable=writable)
        assert [VALUE] == list(map(value_of, items_of(columns)))


def test_the_rows_of_a_matrix_are_buffers() -> None:
    matrix = np.zeros((3, 8), "u1")

    columns = Columns([b"a", b"b", b"c"], matrix, writable=True)

    assert [8, 8, 8] == [item.value_size for item in items_of(columns)]
    assert [matrix[i].ctypes.data for i in range(3)] == [item.value for item in items_of(columns)]


def test_the_same_key_and_buffer_may_come_twice() -> None:
    buffer = bytearray(4)

    columns = Columns([b"k", b"k"], [buffer, buffer], writable=True)
    columns.release()

    buffer.append(1)


def test_a_size_beyond_32_bits_is_cut_not_wrapped() -> None:
    (item,) = items_of(Columns([b"k"], [(4096, (1 << 32) + 5)]))

    assert (1 << 32) - 1 == item.value_size


def test_an_empty_batch() -> None:
    columns = Columns([], [])

    assert 0 == columns.count
    assert [] == columns.statuses() == columns.written()


# Bad input names the argument and the index.


@pytest.mark.parametrize(
    ("keys", "error", "says"),
    [
        ("abc", TypeError, "keys: expected a sequence, got one str"),
        (b"abc", TypeError, "keys: expected a sequence, got one bytes"),
        (7, TypeError, "keys: expected a sequence, got one int"),
        (None, TypeError, "keys: expected a sequence, got one NoneType"),
        ([b"a", b"b", b"c", 7], TypeError, r"keys\[3\]: expected bytes or str, got int"),
        ([None], TypeError, r"keys\[0\]: expected bytes or str, got NoneType"),
        ([bytearray(b"a")], TypeError, r"keys\[0\]: expected bytes or str, got bytearray"),
        ([b""], ValueError, r"keys\[0\]: a key has 1 to 1024 bytes, this one has 0"),
        (["a", ""], ValueError, r"keys\[1\]: a key has 1 to 1024 bytes, this one has 0"),
        ([b"x" * 1025], ValueError, r"keys\[0\]: a key has 1 to 1024 bytes, this one has 1025"),
        (["é" * 513], ValueError, r"keys\[0\]: .*this one has 1026"),
        (["a", "\ud800"], ValueError, r"keys\[1\]: .*UTF-8"),
        ([b"k"] * 65537, ValueError, "at most 65536 keys, this one has 65537"),
    ],
)
def test_bad_keys(keys: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Columns(keys)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        (b"v", TypeError, "values: expected a sequence, got one bytes"),
        (bytearray(b"v"), TypeError, "values: expected a sequence, got one bytearray"),
        (memoryview(b"v"), TypeError, "values: expected a sequence, got one memoryview"),
        (7, TypeError, "values: expected a sequence, got one int"),
        ([b"v"], ValueError, "2 keys but 1 values"),
        ([b"v", b"v", b"v"], ValueError, "2 keys but 3 values"),
        ([b"v", "v"], TypeError, r"values\[1\]: expected a buffer .*, got str"),
        ([b"v", None], TypeError, r"values\[1\]: expected a buffer .*, got NoneType"),
        ([b"v", np.zeros(4)[::2]], ValueError, r"values\[1\]: .*contiguous"),
        ([b"v", memoryview(b"1234")[::2]], BufferError, r"values\[1\]: .*contiguous"),
        ([b"v", (1,)], TypeError, r"values\[1\]: a tuple here is \(address, length\)"),
        ([b"v", (1, 2, 3)], TypeError, r"values\[1\]: a tuple here is \(address, length\)"),
        ([b"v", ("1", 2)], TypeError, r"values\[1\]: a tuple here is \(address, length\)"),
        ([b"v", (1.0, 2)], TypeError, r"values\[1\]: a tuple here is \(address, length\)"),
        ([b"v", (-1, 2)], ValueError, r"values\[1\]: \(-1, 2\) is no address and length"),
        ([b"v", (1, -2)], ValueError, r"values\[1\]: \(1, -2\) is no address and length"),
        ([b"v", (0, 2)], ValueError, r"values\[1\]: \(0, 2\) is no address and length"),
        ([b"v", (1 << 64, 1)], ValueError, "is no address and length"),
        ([b"v", ((1 << 64) - 1, 2)], ValueError, "is no address and length"),
    ],
)
def test_bad_values(values: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Columns([b"a", b"b"], values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "buffer", [b"read-only", memoryview(b"read-only"), np.frombuffer(b"read-only", "u1")]
)
def test_a_read_only_buffer_is_no_target(buffer: object) -> None:
    with pytest.raises(BufferError, match=r"buffers\[2\] is read-only"):
        Columns([b"a", b"b", b"c"], [bytearray(1), bytearray(1), buffer], writable=True)


def test_a_released_memoryview_is_a_value_error() -> None:
    view = memoryview(bytearray(4))
    view.release()

    for writable, name in ((False, "values"), (True, "buffers")):
        with pytest.raises(ValueError, match=rf"{name}\[0\]: .*released"):
            Columns([b"k"], [view], writable=writable)


def test_bad_arguments_leave_nothing_exported() -> None:
    buffer = bytearray(4)

    with pytest.raises(TypeError):
        Columns([b"a", b"b"], [buffer, 7], writable=True)

    buffer.append(1)


# Lifetime.


def test_an_exported_bytearray_cannot_be_resized() -> None:
    buffer = bytearray(4)
    columns = Columns([b"k"], [buffer], writable=True)

    with pytest.raises(BufferError):
        buffer.append(1)
    columns.release()
    buffer.append(1)

    assert 5 == len(buffer)


def test_garbage_columns_let_go() -> None:
    buffer = bytearray(4)
    columns = Columns([b"k"], [buffer])

    del columns
    gc.collect()

    buffer.append(1)


def test_keys_and_values_outlive_the_callers_lists() -> None:
    keys: list[bytes | str] = [f"key {i}" for i in range(100)]
    values: list[object] = [b"%d" % i * 50 for i in range(100)]
    columns = Columns(keys, values)

    keys.clear()
    values.clear()
    gc.collect()

    expected = [(b"key %d" % i, b"%d" % i * 50) for i in range(100)]
    assert expected == [(key_of(item), value_of(item)) for item in items_of(columns)]


def test_values_are_freed_with_the_columns() -> None:
    value = np.zeros(8, "u1")
    gone = weakref.ref(value)
    columns = Columns([b"k"], [value])
    del value
    gc.collect()
    assert gone() is not None

    columns.release()
    gc.collect()

    assert gone() is None


def test_references_balance() -> None:
    key, value = b"a key of its own", bytearray(8)
    before = (sys.getrefcount(key), sys.getrefcount(value))

    for _ in range(100):
        Columns([key, key], [value, value]).release()
        with pytest.raises(TypeError):
            Columns([key, key], [value, 7])

    assert before == (sys.getrefcount(key), sys.getrefcount(value))


def test_released_columns_say_so() -> None:
    columns = Columns([b"k"])
    columns.release()
    columns.release()

    for use in (columns.statuses, columns.sizes, columns.largest, columns.allocate_results):
        with pytest.raises(ValueError, match="released"):
            use()
    with pytest.raises(ValueError, match="released"):
        _ = columns.address
    assert 1 == columns.count


# Results.


def test_results_come_in_the_order_of_the_keys() -> None:
    columns = Columns([b"%d" % i for i in range(5)])
    answers = [
        (Status.OK, 7),
        (Status.NOT_FOUND, 0),
        (Status.BUFFER_TOO_SMALL, 9),
        (Status.CORRUPT, 3),
        (Status.OK, 0),
    ]

    for item, (status, size) in zip(items_of(columns), answers, strict=True):
        item.status, item.result_size = status, size

    assert [int(status) for status, _ in answers] == columns.statuses()
    assert [7, 0, 9, 3, 0] == columns.sizes()
    assert [True, False, False, False, True] == columns.succeeded()
    assert [7, -1, -2, -3, 0] == columns.written()


def test_object_stats() -> None:
    columns = Columns([b"a", b"b"])
    with pytest.raises(ValueError, match="no room for stats"):
        columns.object_stats()
    first, second = items_of(columns)
    first.status, first.result_size = Status.OK, 4_000_000_000
    second.status = Status.NOT_FOUND
    stat = stats_of(columns)[0]
    stat.version, stat.expiry_ms, stat.checksum, stat.flags = (1 << 64) - 1, 5, 0xFFFFFFFF, 1

    assert [(4_000_000_000, (1 << 64) - 1, 5, 0xFFFFFFFF, 1), None] == columns.object_stats()


def test_values_are_read_into_fresh_bytes() -> None:
    columns = Columns([b"fits", b"missing", b"shrank", b"empty"])
    for item, size in zip(items_of(columns), (4, 0, 9, 0), strict=True):
        item.status = Status.NOT_FOUND if item.key_size == 7 else Status.OK
        item.result_size = size

    columns.allocate_results()
    fits, missing, shrank, _ = items_of(columns)
    ctypes.memmove(fits.value, b"good", 4)
    ctypes.memmove(shrank.value, b"short", 5)
    shrank.result_size = 5

    assert 0 == missing.value == missing.value_size
    assert [b"good", None, b"short", b""] == columns.values()


def test_results_are_allocated_once_and_for_keys_alone() -> None:
    columns = Columns([b"k"])
    with pytest.raises(ValueError, match="allocate_results"):
        columns.values()
    columns.allocate_results()
    with pytest.raises(ValueError, match="already"):
        columns.allocate_results()
    with pytest.raises(ValueError, match="already"):
        Columns([b"k"], [b"v"]).allocate_results()


def test_results_have_room_of_one_size_or_of_one_each() -> None:
    for sizes, expected in ((100, [100, 100]), ([3, 0], [3, 0]), (1 << 31, [64 << 20] * 2)):
        columns = Columns([b"a", b"b"])

        columns.allocate_results(sizes)

        assert expected == [item.value_size for item in items_of(columns)]


def test_a_value_smaller_than_its_room_is_its_own_bytes() -> None:
    columns = Columns([b"full", b"short", b"missing", b"empty", b"large"])
    columns.allocate_results(8)
    answers = [(Status.OK, 8), (Status.OK, 5), (Status.NOT_FOUND, 0), (Status.OK, 0)]
    answers.append((Status.BUFFER_TOO_SMALL, 9))

    for item, (status, size) in zip(items_of(columns), answers, strict=True):
        ctypes.memmove(item.value, b"12345678", 8)
        item.status, item.result_size = status, size

    assert [b"12345678", b"12345", None, b"", None] == columns.values()
    assert 9 == columns.largest()


@pytest.mark.parametrize("sizes", [[1], [1, 2, 3], [1, -1], [1, "2"], "x", -1])
def test_bad_rooms_are_refused(sizes: object) -> None:
    columns = Columns([b"a", b"b"])

    with pytest.raises((ValueError, TypeError, OverflowError)):
        columns.allocate_results(sizes)  # type: ignore[arg-type]
