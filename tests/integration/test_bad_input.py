"""Bad input is a clear error, or the result of its key; nothing is lost by it."""

import os
from pathlib import Path

import pytest

import kvstore
from kvstore import SetStatus

MIB = 1 << 20


def test_single_calls_name_what_is_wrong(store: kvstore.Store) -> None:
    with pytest.raises(TypeError, match=r"keys\[0\]: expected bytes or str, got int"):
        store.get(7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 to 1024 bytes, this one has 0"):
        store.set("", b"value")
    with pytest.raises(TypeError, match=r"values\[0\]: expected a buffer"):
        store.set("k", "text")
    with pytest.raises(BufferError, match=r"buffers\[0\] is read-only"):
        store.get_into("k", b"read-only")


def test_a_batch_with_one_bad_key_sets_nothing(store: kvstore.Store) -> None:
    with pytest.raises(ValueError, match=r"keys\[1\]"):
        store.batch_set(["a", ""], [b"1", b"2"])

    assert not store.exists("a")


def test_a_str_is_no_list_of_keys(store: kvstore.Store) -> None:
    with pytest.raises(TypeError, match="keys: expected a sequence, got one str"):
        store.batch_exists("abc")


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf")])
def test_a_ttl_is_positive(store: kvstore.Store, ttl_s: float) -> None:
    with pytest.raises(ValueError, match="ttl_s"):
        store.set("k", b"v", ttl_s=ttl_s)


@pytest.mark.parametrize("ttl_s", ["1", True, b"1"])
def test_a_ttl_is_a_number(store: kvstore.Store, ttl_s: object) -> None:
    with pytest.raises(TypeError, match="ttl_s"):
        store.set("k", b"v", ttl_s=ttl_s)  # type: ignore[arg-type]


def test_a_prefix_is_bytes_or_text(store: kvstore.Store) -> None:
    with pytest.raises(TypeError, match="prefix"):
        next(store.list(7))  # type: ignore[arg-type]


def test_a_value_above_the_limit_is_the_result_of_its_key(store: kvstore.Store) -> None:
    large = bytes(64 * MIB + 1)

    assert [SetStatus.TOO_LARGE, SetStatus.OK] == store.batch_set(["a", "b"], [large, b"1"])
    with pytest.raises(kvstore.TooLargeError, match="key 'a'"):
        store.set("a", large)
    assert [SetStatus.TOO_LARGE] == store.batch_set(["a"], [(4096, 1 << 40)])
    assert [False, True] == store.batch_exists(["a", "b"])


def test_a_buffer_that_is_too_small_says_what_is_needed(store: kvstore.Store) -> None:
    store.set("k", bytes(100))

    with pytest.raises(kvstore.BufferTooSmallError, match="100 bytes") as raised:
        store.get_into("k", bytearray(99))

    assert 100 == raised.value.size_needed
    assert -1 == store.get_into("missing", bytearray(1))


def test_a_full_store_says_so_and_keeps_everything(tmp_path: Path) -> None:
    with kvstore.connect_sync(f"file://{tmp_path}/s", capacity=64 * MIB, memory=96 * MIB) as store:
        keys = [b"%d" % i for i in range(40)]
        statuses = [store.batch_set([key], [key * MIB])[0] for key in keys]
        stored = [key for key, status in zip(keys, statuses, strict=True) if status is SetStatus.OK]

        assert set(statuses) == {SetStatus.OK, SetStatus.NO_SPACE}
        with pytest.raises(kvstore.NoSpaceError, match="full"):
            store.set("one more", bytes(8 * MIB))
        for key in stored:
            assert key * MIB == store.get(key)


def test_objects_max_is_a_quota(tmp_path: Path) -> None:
    with kvstore.connect_sync(f"file://{tmp_path}/s", objects_max=2, memory=96 * MIB) as store:
        statuses = store.batch_set(["a", "b", "c"], [b"1", b"2", b"3"])

        assert [SetStatus.OK, SetStatus.OK, SetStatus.QUOTA] == statuses
        with pytest.raises(kvstore.QuotaError):
            store.set("d", b"4")
        assert SetStatus.OK is store.set("a", b"overwritten")


# Opening.


def test_a_second_store_on_the_directory_is_refused_at_once(store: kvstore.Store, url: str) -> None:
    with pytest.raises(kvstore.StoreLockedError, match="store"):
        kvstore.connect_sync(url)

    store.set("k", b"still open")


def test_existing_does_not_make_a_store(tmp_path: Path) -> None:
    with pytest.raises(kvstore.StoreNotFoundError, match="missing"):
        kvstore.connect_sync(f"file://{tmp_path}/missing", mode="existing")

    assert not (tmp_path / "missing").exists()


def test_read_only_denies_updates(url: str) -> None:
    with kvstore.connect_sync(url) as store:
        store.set("k", b"value")

    with kvstore.connect_sync(url, mode="read_only") as store:
        assert [SetStatus.DENIED] == store.batch_set(["k"], [b"new"])
        with pytest.raises(kvstore.DeniedError):
            store.delete("k")
        assert b"value" == store.get("k")


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"not a directory")

    with pytest.raises(kvstore.StoreOpenError, match="file"):
        kvstore.connect_sync(f"file://{tmp_path}/file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_directory(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o500)

    with pytest.raises(kvstore.StoreAccessError, match="store"):
        kvstore.connect_sync(f"file://{tmp_path}/store")


def test_a_bad_url_raises_before_anything_is_awaited() -> None:
    with pytest.raises(kvstore.InvalidURLError):
        kvstore.connect("ring:///a.sock")
    with pytest.raises(kvstore.InvalidOptionError, match="did you mean 'memory'"):
        kvstore.connect_sync("file:///nowhere", memry=1)  # type: ignore[call-arg]
