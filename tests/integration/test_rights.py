"""A process without the right to write, or to read: told so, or served as far as its rights go."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.scripts import DROP_RIGHTS, NOBODY, check

import kvstore

OPTIONS = "memory=96MiB&capacity=64MiB"

OPEN = """
import sys
try:
    with kvstore.connect_sync(sys.argv[1], mode=sys.argv[2]) as store:
        print(store.get("k"))
except kvstore.KVStoreError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory in which everybody may look, for children with fewer rights."""
    with tempfile.TemporaryDirectory(prefix="kvstore-rights-") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.fixture
def closed(reachable: Path) -> Path:
    """A store of the child's user, with one value, that nobody has open."""
    directory = reachable / "store"
    with kvstore.connect_sync(f"file://{directory}?{OPTIONS}") as store:
        store.set("k", b"value")
    if os.geteuid() == 0:
        for path in (directory, *directory.iterdir()):
            os.chown(path, NOBODY, NOBODY)
    return directory


def take_right_to_write(directory: Path) -> None:
    for path in directory.iterdir():
        path.chmod(0o400)
    directory.chmod(0o500)


def opened(directory: Path, mode: str) -> str:
    """What a child without a single right of root prints."""
    return check(DROP_RIGHTS + OPEN, f"file://{directory}?{OPTIONS}", mode)


def test_whoever_owns_the_store_may_open_it(closed: Path) -> None:
    for mode in ("normal", "existing", "read_only"):
        assert "b'value'\n" == opened(closed, mode)


def changes_of(path: Path) -> tuple[int, int, int]:
    """Return what a change of the file would change; reading it may move its access time."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def test_read_only_needs_no_right_to_write(closed: Path) -> None:
    take_right_to_write(closed)
    before = {path: changes_of(path) for path in closed.iterdir()}

    assert "b'value'\n" == opened(closed, "read_only")

    assert before == {path: changes_of(path) for path in before}


@pytest.mark.parametrize("driver", ["io_uring", "threads"])
def test_every_driver_reads_without_the_right_to_write(closed: Path, driver: str) -> None:
    take_right_to_write(closed)

    script = DROP_RIGHTS + OPEN.replace("mode=", f"driver={driver!r}, mode=")
    printed = check(script, f"file://{closed}?{OPTIONS}", "read_only")

    assert printed == "b'value'\n" or (driver == "io_uring" and "StoreOpenError" in printed)


def test_a_reader_without_the_right_to_write_keeps_writers_out(closed: Path) -> None:
    take_right_to_write(closed)

    with kvstore.connect_sync(f"file://{closed}?{OPTIONS}", mode="read_only"):
        assert opened(closed, "read_only").startswith("StoreLockedError")


@pytest.mark.parametrize("mode", ["normal", "existing"])
def test_writing_without_the_right_is_refused_by_name(closed: Path, mode: str) -> None:
    take_right_to_write(closed)

    printed = opened(closed, mode)

    assert printed.startswith("StoreAccessError")
    assert str(closed) in printed


@pytest.mark.parametrize("mode", ["normal", "existing", "read_only"])
def test_a_directory_that_may_not_be_entered(closed: Path, mode: str) -> None:
    closed.chmod(0)

    printed = opened(closed, mode)
    closed.chmod(0o700)

    assert printed.startswith("StoreAccessError")
    assert str(closed) in printed


def test_a_file_that_may_not_be_read_is_named(closed: Path) -> None:
    (closed / "journal-0").chmod(0)

    for mode in ("existing", "read_only"):
        printed = opened(closed, mode)
        assert printed.startswith("StoreAccessError")
        assert "journal-0" in printed


def test_a_store_is_not_made_where_nothing_may_be_made(reachable: Path) -> None:
    reachable.chmod(0o555)

    printed = opened(reachable / "store", "normal")
    reachable.chmod(0o755)

    assert printed.startswith("StoreAccessError")
    assert [] == list(reachable.iterdir())
