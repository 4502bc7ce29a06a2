"""What batches mean, through the blocking API."""

import array
import ctypes

import numpy as np
import pytest

import kvstore
from kvstore import SetStatus
from kvstore.native.checksum import checksum

SIZES = [0, 1, 100, 4095, 4096, 4097, 65536, 1 << 20, (4 << 20) + 3]


def value_of(index: int, size: int) -> bytes:
    return np.random.default_rng(index).bytes(size)


def test_what_is_set_is_got_in_the_order_of_the_keys(any_store: kvstore.Store) -> None:
    values = [value_of(i, size) for i, size in enumerate(SIZES)]
    keys = [f"key {i}" for i in range(len(SIZES))]

    assert [SetStatus.OK] * len(keys) == any_store.batch_set(keys, values)

    assert [*reversed(values), None] == any_store.batch_get([*reversed(keys), "missing"])


def test_a_str_key_is_its_utf8(any_store: kvstore.Store) -> None:
    any_store.set("clé", b"value")

    assert b"value" == any_store.get("clé".encode())


def test_an_overwrite_replaces_value_and_size(any_store: kvstore.Store) -> None:
    for size in (100, 70_000, 0, 5000):
        any_store.set("k", value_of(size, size))
        assert value_of(size, size) == any_store.get("k")
    assert 1 == any_store.stats().objects


def test_a_key_twice_in_a_batch_keeps_one_of_its_values(any_store: kvstore.Store) -> None:
    assert [SetStatus.OK, SetStatus.OK] == any_store.batch_set(["k", "k"], [b"one", b"two"])

    first, second = any_store.batch_get(["k", "k"])
    assert first == second
    assert first in (b"one", b"two")


@pytest.mark.parametrize(
    "value",
    [
        bytearray(b"12345678"),
        memoryview(b"12345678"),
        array.array("I", b"12345678"),
        np.frombuffer(b"12345678", "<f4"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_of_any_buffer_type(any_store: kvstore.Store, value: object) -> None:
    any_store.set("k", value)

    assert b"12345678" == any_store.get("k")


def test_values_and_buffers_by_address(any_store: kvstore.Store) -> None:
    source = ctypes.create_string_buffer(b"by address", 10)
    target = ctypes.create_string_buffer(16)

    any_store.set("k", (ctypes.addressof(source), 10))

    assert 10 == any_store.get_into("k", (ctypes.addressof(target), 16))
    assert b"by address" == target.raw[:10]


def test_get_into_answers_for_each_key(any_store: kvstore.Store) -> None:
    any_store.batch_set(["a", "b", "c"], [b"1234", b"12345678", b""])
    buffers = [bytearray(b"......"), bytearray(b"......"), bytearray(2), bytearray(0)]

    assert [4, -2, -1, 0] == any_store.batch_get_into(["a", "b", "missing", "c"], buffers)

    assert b"1234" == buffers[0][:4]


def test_get_into_the_rows_of_a_matrix(any_store: kvstore.Store) -> None:
    pages = np.arange(4 * 4096, dtype="<u4").reshape(4, 4096)
    keys = [b"page %d" % i for i in range(4)]
    any_store.batch_set(keys, pages)
    read = np.zeros_like(pages)

    assert [4 * 4096] * 4 == any_store.batch_get_into(keys, read)

    assert np.array_equal(pages, read)


def test_if_absent_keeps_what_is_there(any_store: kvstore.Store) -> None:
    any_store.set("a", b"old")

    statuses = any_store.batch_set(["a", "b"], [b"new", b"new"], if_absent=True)

    assert [SetStatus.EXISTS, SetStatus.OK] == statuses
    assert [b"old", b"new"] == any_store.batch_get(["a", "b"])
    assert SetStatus.EXISTS is any_store.set("a", b"new", if_absent=True)


def test_exists_delete_and_prefix(any_store: kvstore.Store) -> None:
    any_store.batch_set(["a", "b", "d"], [b"1", b"2", b"3"])

    assert [True, True, False, True] == any_store.batch_exists(["a", "b", "c", "d"])
    assert 2 == any_store.match_prefix(["a", "b", "c", "d"])
    assert 0 == any_store.match_prefix(["c", "a"])
    assert 3 == any_store.match_prefix(["a", "b", "d"])
    assert [True, False] == any_store.batch_delete(["a", "c"])
    assert [False, True] == any_store.batch_exists(["a", "b"])
    assert 0 == any_store.match_prefix(["a", "b"])
    assert any_store.delete("b")
    assert not any_store.delete("b")
    assert not any_store.exists("b")


def test_stat_describes_without_reading(any_store: kvstore.Store) -> None:
    any_store.set("a", b"some value", ttl_s=3600)
    any_store.set("b", b"")

    first, missing, second = any_store.batch_stat(["a", "missing", "b"])

    assert first is not None
    assert second is not None
    assert missing is None
    assert (10, checksum(b"some value"), False) == (first.size, first.checksum, first.pinned)
    assert first.expiry_s is not None
    assert second.expiry_s is None
    assert second.size == 0
    assert first == any_store.stat("a")
    assert any_store.stat("missing") is None
    any_store.set("a", b"a later value")
    later = any_store.stat("a")
    assert later is not None
    assert first.version < later.version


def test_pins_are_seen_and_taken_back(any_store: kvstore.Store) -> None:
    any_store.set("a", b"value")

    assert [True, False] == any_store.pin(["a", "missing"])
    pinned = any_store.stat("a")
    assert [True, False] == any_store.unpin(["a", "missing"])
    unpinned = any_store.stat("a")

    assert pinned is not None
    assert unpinned is not None
    assert (True, False) == (pinned.pinned, unpinned.pinned)


def test_empty_batches(any_store: kvstore.Store) -> None:
    assert [] == any_store.batch_set([], [])
    assert [] == any_store.batch_get([])
    assert [] == any_store.batch_get_into([], [])
    assert [] == any_store.batch_exists([])
    assert [] == any_store.batch_delete([])
    assert [] == any_store.batch_stat([])
    assert [] == any_store.pin([])
    assert 0 == any_store.match_prefix([])


def test_a_large_batch(any_store: kvstore.Store) -> None:
    keys = [b"%d" % i for i in range(4096)]

    assert {SetStatus.OK} == set(any_store.batch_set(keys, keys))

    assert keys == any_store.batch_get(keys)
    assert all(any_store.batch_exists(keys))
    assert 4096 == any_store.match_prefix(keys)


def test_the_longest_key_and_the_largest_value(any_store: kvstore.Store) -> None:
    key, value = b"\xff" * 1024, bytes(64 << 20)

    assert SetStatus.OK is any_store.set(key, value)

    assert value == any_store.get(key)


def test_a_listing_has_every_object_once(any_store: kvstore.Store) -> None:
    keys = {b"a/%d" % i for i in range(1000)} | {b"b/%d" % i for i in range(10)}
    any_store.batch_set(sorted(keys), [key * 3 for key in sorted(keys)])

    listed = list(any_store.list())

    assert sorted(keys) == sorted(entry.key for entry in listed)
    assert all(entry.size == 3 * len(entry.key) for entry in listed)
    assert 10 == len({entry.key for entry in any_store.list("b/")})
    assert [] == list(any_store.list(b"c"))


def test_verification_reads_everything(any_store: kvstore.Store) -> None:
    any_store.batch_set(["a", "b"], [bytes(5000), bytes(10)])
    heard: list[kvstore.Verification] = []

    found = any_store.verify(heard.append)

    assert kvstore.Verification(2, 5010, ()) == found
    assert found == heard[-1]


def test_upkeep_loses_nothing(any_store: kvstore.Store) -> None:
    keys = [b"%d" % i for i in range(200)]
    any_store.batch_set(keys, [key * 1000 for key in keys])
    any_store.batch_delete(keys[::2])

    any_store.flush()
    any_store.checkpoint()
    any_store.compact()

    assert [key * 1000 for key in keys[1::2]] == any_store.batch_get(keys[1::2])
    assert 100 * 1000 < sum(row.live_size for row in any_store.slabs())


def test_stats_count(any_store: kvstore.Store) -> None:
    any_store.batch_set(["a", "b"], [b"1", b"22"])
    any_store.batch_get(["a", "missing"])

    stats = any_store.stats()

    assert (2, 3, 2) == (stats.objects, stats.value_size, stats.sets)
    targets = 2 if "targets=2" in stats.description else 1
    memory = targets * (96 << 20)
    assert (memory, 0, 0) == (stats.memory_capacity, stats.in_flight, stats.offline)
    assert "driver=" in stats.description


def test_a_region_is_a_source_and_a_target(any_store: kvstore.Store) -> None:
    pages = np.zeros((4, 4096), "u1")
    with any_store.register(pages) as region:
        assert (pages.ctypes.data, pages.nbytes) == (region.address, region.size)
        region[0:4096][:] = b"x" * 4096

        any_store.set("k", region[0:4096])

        assert 4096 == any_store.get_into("k", region[8192:12288])
        assert bytes(pages[2]) == b"x" * 4096
    region.close()
    with pytest.raises(ValueError, match="closed"):
        _ = region.memory


def test_a_region_holds_its_memory(any_store: kvstore.Store) -> None:
    buffer = bytearray(8192)
    region = any_store.register(buffer)

    with pytest.raises(BufferError):
        buffer.append(1)
    region.close()

    buffer.append(1)


def test_a_listing_of_the_longest_keys(any_store: kvstore.Store) -> None:
    keys = {b"%01024d" % i for i in range(5000)}
    any_store.batch_set(keys, [b""] * len(keys))

    assert keys == {entry.key for entry in any_store.list()}
    assert 5000 == sum(1 for _ in any_store.list(b"0"))
