"""A machine that gives less than usual: served all the same, or a clear error; nothing is lost."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from integration.scripts import DROP_RIGHTS, FORBID_IO_URING, check

import kvstore
from kvstore import SetStatus

MIB = 1 << 20

USE = """
import kvstore, sys
try:
    with kvstore.connect_sync(sys.argv[1]) as store:
        assert set(store.batch_set(["a", "b"], [bytes(1 << 20), b"value"])) == {0}
        with store.register(bytearray(1 << 20)) as region:
            assert store.get_into("a", region[:]) == 1 << 20
        assert store.get("b") == b"value"
        print(store.stats().description, store.stats().memory_huge_size)
except (kvstore.KVStoreError, MemoryError) as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def small_url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store?memory=96MiB&capacity=64MiB"


def test_no_huge_pages(small_url: str) -> None:
    forbid = """
import ctypes
PR_SET_THP_DISABLE, zero = 41, ctypes.c_ulong(0)
assert 0 == ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, ctypes.c_ulong(1), zero, zero, zero)
"""

    assert check(forbid + USE, small_url).startswith("driver=")


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM, errno.ENOMEM])
def test_forbidden_io_uring_is_done_without(small_url: str, error: int) -> None:
    script = f"{FORBID_IO_URING}\nforbid_io_uring({error})\n{USE}"

    assert "driver=threads" in check(script, small_url)
    assert "driver=threads" in check(script, small_url + "&driver=threads")


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_forbidden_io_uring_that_was_asked_for_is_an_error(small_url: str, error: int) -> None:
    script = f"{FORBID_IO_URING}\nforbid_io_uring({error})\n{USE}"

    printed = check(script, small_url + "&driver=io_uring")

    assert printed.startswith("StoreOpenError the driver io_uring cannot start")
    assert os.strerror(error) in printed


@pytest.mark.parametrize("driver", ["auto", "threads"])
def test_no_locked_memory_without_rights(small_url: str, driver: str) -> None:
    directory = Path(small_url.removeprefix("file://").split("?", maxsplit=1)[0])
    directory.mkdir()
    # The directory is reached from its inside: those above it belong to somebody else.
    enter = f"import os, resource\nos.chdir({str(directory)!r})\nos.chmod('.', 0o777)\n"
    limit = "resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))\n"
    local = f"file:///proc/self/cwd?memory=96MiB&capacity=64MiB&driver={driver}"

    assert check(enter + DROP_RIGHTS + limit + USE, local).startswith("driver=")


def test_too_little_address_space_is_a_memory_error(small_url: str) -> None:
    limit = f"""
import kvstore, resource
kvstore.connect_sync
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + {64 * MIB}, -1))
"""

    printed = check(limit + USE, small_url)

    assert printed.startswith("MemoryError")
    assert "100663296" in printed


def test_no_descriptor_left_is_an_error_wherever_it_happens(small_url: str) -> None:
    """One descriptor more each time: every place that opens one fails once."""
    limit = """
import kvstore, os, resource, sys
kvstore.connect_sync
used = len(os.listdir("/proc/self/fd"))
for spare in range(64):
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, resource.getrlimit(7)[1]))
    before = os.listdir("/proc/self/fd")
    try:
        with kvstore.connect_sync(sys.argv[1]) as store:
            store.set("k", b"value")
            print("opened with", spare)
            break
    except kvstore.StoreOpenError as error:
        assert "Too many open files" in str(error), error
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, resource.getrlimit(7)[1]))
    assert before == os.listdir("/proc/self/fd"), "descriptors were left behind"
"""

    for driver in ("auto", "threads", "io_uring"):
        assert "opened with" in check(limit, f"{small_url}&driver={driver}")


def test_a_directory_deleted_under_an_open_store(small_url: str, tmp_path: Path) -> None:
    with kvstore.connect_sync(small_url) as store:
        store.set("before", b"1")
        shutil.rmtree(tmp_path / "store")

        assert SetStatus.OK is store.set("after", bytes(MIB))
        store.checkpoint()
        assert [b"1", bytes(MIB)] == store.batch_get(["before", "after"])

    assert not (tmp_path / "store").exists()
    with kvstore.connect_sync(small_url) as again:
        assert 0 == again.stats().objects


@pytest.mark.parametrize("driver", ["auto", "threads"])
def test_a_device_that_fails_takes_the_store_offline_and_loses_nothing(
    small_url: str, driver: str
) -> None:
    """RLIMIT_FSIZE stands for the device: writes behind it fail, reads do not."""
    script = """
import asyncio, kvstore, resource, sys
from kvstore import SetStatus

def fails(call):
    try:
        return call()
    except kvstore.StoreUnavailableError as error:
        assert "offline" in str(error), error
        return None

store = kvstore.connect_sync(sys.argv[1])
for i in range(20):
    store.set(b"%d" % i, b"%d" % i * 1000)
store.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

assert [SetStatus.IO_ERROR] * 2 == store.batch_set(["0", "new"], [b"lost"] * 2)
assert fails(lambda: store.batch_delete(["3", "4"])) is None
assert store.stats().offline
assert [SetStatus.UNAVAILABLE] * 2 == store.batch_set(["0", "new"], [b"lost"] * 2)
assert fails(lambda: store.set("new", b"lost")) is None
assert fails(lambda: store.delete("1")) is None
assert fails(lambda: store.batch_delete(["1", "2"])) is None
assert fails(lambda: store.batch_exists(["1", "2"])) is None
assert fails(lambda: store.match_prefix(["1", "2"])) is None
assert fails(lambda: store.batch_stat(["1", "2"])) is None
try:
    store.flush()
except kvstore.StoreUnavailableError:
    print("a flush fails")
store.close()
"""

    assert "a flush fails\n" == check(script, f"{small_url}&driver={driver}")
    with kvstore.connect_sync(small_url) as again:
        for i, value in enumerate(again.batch_get([b"%d" % i for i in range(20)])):
            # A delete that was given up may have happened.
            assert b"%d" % i * 1000 == value or (value is None and i in (1, 2, 3, 4))
        assert not again.exists("new")
        assert 0 == again.stats().offline


async def test_a_batch_given_up_on_an_event_loop_raises_too(small_url: str) -> None:
    script = """
import asyncio, kvstore, resource, sys

async def main():
    async with kvstore.connect(sys.argv[1]) as store:
        await store.set("k", b"value")
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        assert [kvstore.SetStatus.IO_ERROR] == await store.batch_set(["k"], [b"lost"])
        try:
            await store.batch_delete(["k"])
        except kvstore.StoreUnavailableError as error:
            print("the batch was given up" in str(error))

asyncio.run(main())
"""

    assert "True\n" == check(script, small_url)
