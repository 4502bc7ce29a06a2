"""File systems that are full, too small, without O_DIRECT, or read-only."""

import errno
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pytest

import kvstore
from kvstore import SetStatus

MIB = 1 << 20
FILE_SYSTEM_SIZE = 256 * MIB
TMPFS = Path("/dev/shm")
SIZES = [100, 3000, 4096, 50_000, MIB, 3 * MIB]


def run(*command: str | Path) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        pytest.skip(f"{command[0]} does not work here: {ended.stderr.strip()}")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small ext4 of the test's own."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    image, directory = tmp_path / "image", tmp_path / "mounted"
    directory.mkdir()
    with image.open("wb") as file:
        file.truncate(FILE_SYSTEM_SIZE)
    run("mkfs.ext4", "-q", "-m", "0", image)
    run("mount", "-o", "loop", image, directory)
    yield directory
    subprocess.run(["umount", directory], check=True)


def url_of(directory: Path) -> str:
    return f"file://{directory}/store?memory=96MiB&scrub_bytes_per_s=0"


def fill_file(file: BinaryIO) -> None:
    """Write until there is no space."""
    try:
        while True:
            os.write(file.fileno(), bytes(MIB))
    except OSError as error:
        assert errno.ENOSPC == error.errno  # noqa: PT017


def value_of(key: bytes, size: int) -> bytes:
    return (key + b"|") * (size // (len(key) + 1)) + key[: size % (len(key) + 1)]


def fill(store: kvstore.Store, prefix: str) -> dict[bytes, bytes]:
    """Set until even the smallest value finds no space; returns what was acknowledged."""
    stored: dict[bytes, bytes] = {}
    for size in sorted(SIZES, reverse=True):
        for i in range(100_000):
            keys = [
                f"{prefix}/{size}/{i}/{j}".encode() for j in range(max(1, min(64, MIB // size)))
            ]
            values = [value_of(key, size) for key in keys]
            statuses = store.batch_set(keys, values)
            assert set(statuses) <= {SetStatus.OK, SetStatus.NO_SPACE}
            for key, value, status in zip(keys, values, statuses, strict=True):
                if status is SetStatus.OK:
                    stored[key] = value
            if statuses[-1] is SetStatus.NO_SPACE:
                break
    return stored


def check_holds(store: kvstore.Store, stored: dict[bytes, bytes]) -> None:
    assert len(stored) == store.stats().objects
    for key, value in stored.items():
        assert value == store.get(key)
    assert () == store.verify().bad
    assert 0 == store.stats().offline


def test_a_full_file_system_loses_nothing_and_recovers(mounted: Path) -> None:
    with kvstore.connect_sync(url_of(mounted)) as store:
        stored = fill(store, "first")
        assert sum(map(len, stored.values())) > FILE_SYSTEM_SIZE / 3
        check_holds(store, stored)

    with kvstore.connect_sync(url_of(mounted)) as store:
        check_holds(store, stored)

        doomed = list(stored)[::2]
        assert [True] * len(doomed) == store.batch_delete(doomed)
        room = sum(len(stored.pop(key)) for key in doomed)
        again = fill(store, "second")
        assert sum(map(len, again.values())) > 0.8 * room
        check_holds(store, stored | again)

    with kvstore.connect_sync(url_of(mounted)) as store:
        check_holds(store, stored | again)


def test_a_file_system_filled_by_others(mounted: Path) -> None:
    with kvstore.connect_sync(url_of(mounted)) as store:
        store.set("before", b"1")
        with (mounted / "theirs").open("wb") as theirs:
            fill_file(theirs)
        stored = {b"before": b"1"} | fill(store, "store")
        store.flush()
        with suppress(kvstore.NoSpaceError):
            store.checkpoint()
        check_holds(store, stored)

        doomed = [key for key in stored if len(stored[key]) == SIZES[-2]]
        assert [True] * len(doomed) == store.batch_delete(doomed)
        for key in doomed:
            stored[key] = value_of(b"again " + key, SIZES[-2] // 2)
            assert SetStatus.OK is store.set(key, stored[key])
        check_holds(store, stored)

        (mounted / "theirs").unlink()
        stored |= fill(store, "more")
        check_holds(store, stored)

    with kvstore.connect_sync(url_of(mounted)) as store:
        check_holds(store, stored)


def test_no_room_to_make_a_store_leaves_none(mounted: Path) -> None:
    with (mounted / "theirs").open("wb") as theirs:
        os.posix_fallocate(theirs.fileno(), 0, shutil.disk_usage(mounted).free - MIB)

    with pytest.raises(kvstore.NoSpaceError, match="mounted/store"):
        kvstore.connect_sync(url_of(mounted))

    (mounted / "theirs").unlink()
    with kvstore.connect_sync(url_of(mounted)) as store:
        store.set("k", b"value")


def test_a_capacity_above_the_file_system_is_refused(mounted: Path) -> None:
    with pytest.raises(kvstore.NoSpaceError, match=r"capacity 268435456 in .*/mounted/store"):
        kvstore.connect_sync(url_of(mounted), capacity=FILE_SYSTEM_SIZE)

    assert shutil.disk_usage(mounted).used < FILE_SYSTEM_SIZE / 4
    with kvstore.connect_sync(url_of(mounted), capacity=64 * MIB) as store:
        store.set("k", b"value")


def test_a_read_only_file_system(mounted: Path) -> None:
    with kvstore.connect_sync(url_of(mounted)) as store:
        store.set("k", b"value")
    run("mount", "-o", "remount,ro", mounted)

    with kvstore.connect_sync(url_of(mounted), mode="read_only") as store:
        assert b"value" == store.get("k")
        with pytest.raises(kvstore.StoreLockedError):
            kvstore.connect_sync(url_of(mounted), mode="read_only")
    with pytest.raises(kvstore.StoreAccessError, match="Read-only file system"):
        kvstore.connect_sync(url_of(mounted))


def test_a_read_only_file_system_without_a_lock(mounted: Path) -> None:
    with kvstore.connect_sync(url_of(mounted)) as store:
        store.set("k", b"value")
    (mounted / "store" / "lock").unlink()
    run("mount", "-o", "remount,ro", mounted)

    with kvstore.connect_sync(url_of(mounted), mode="read_only") as store:
        assert b"value" == store.get("k")


@pytest.mark.skipif(not TMPFS.is_dir(), reason="there is no /dev/shm")
@pytest.mark.parametrize("driver", ["io_uring", "threads"])
def test_a_file_system_in_memory(driver: str) -> None:
    stored = {b"%d" % size: value_of(b"%d" % size, size) for size in SIZES}
    with tempfile.TemporaryDirectory(dir=TMPFS) as directory:
        url = f"{url_of(Path(directory))}&capacity=64MiB&driver={driver}"
        with kvstore.connect_sync(url) as store:
            store.batch_set(list(stored), list(stored.values()))
        with kvstore.connect_sync(url) as store:
            check_holds(store, stored)


def test_a_journal_without_room_to_grow_goes_on(mounted: Path) -> None:
    keys = [b"%d" % i for i in range(1000)]
    latest: list[bytes] = []
    with kvstore.connect_sync(url_of(mounted)) as store:
        store.batch_set(keys, keys)
        with (mounted / "theirs").open("wb") as theirs:
            fill_file(theirs)
        for turn in range(200):
            values = [b"%d" % turn * 30] * len(keys)
            statuses = store.batch_set(keys, values)
            if set(statuses) != {SetStatus.OK}:
                assert set(statuses) <= {SetStatus.OK, SetStatus.NO_SPACE}
                break
            latest = values
        assert 0 == store.stats().offline
        (mounted / "theirs").unlink()
        deadline = time.monotonic() + 10
        while SetStatus.OK != store.batch_set([b"another"], [b"value"])[0]:
            assert time.monotonic() < deadline

    with kvstore.connect_sync(url_of(mounted)) as store:
        for value, before, after in zip(store.batch_get(keys), latest, values, strict=True):
            assert value in (before, after)
        assert {SetStatus.OK} == set(store.batch_set(keys, keys))
