"""A damaged directory, or a poor machine: a clear error or a full answer, never wrong bytes."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import kvstore
from kvstore.native.checksum import checksum

MIB = 1 << 20
HEADER_SIZE = 4096
VERSION_OFFSET = 8
FILES = ["superblock", "slabs", "journal-0", "journal-1"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A store that was closed cleanly, with one small and one large value."""
    with kvstore.connect_sync(url_of(tmp_path / "store")) as store:
        store.batch_set(["small", "large"], [b"s" * 100, b"l" * MIB])
    return tmp_path / "store"


def url_of(directory: Path) -> str:
    return f"file://{directory}?memory=96MiB&capacity=256MiB&scrub_bytes_per_s=0"


def opened_values(directory: Path) -> list[bytes | None]:
    with kvstore.connect_sync(url_of(directory), mode="existing") as store:
        return store.batch_get(["small", "large"])


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def test_an_undamaged_directory_opens(directory: Path) -> None:
    assert [b"s" * 100, b"l" * MIB] == opened_values(directory)


def refused_by_name_or_all_there(directory: Path, name: str) -> None:
    """A file that is not needed, such as the journal before the checkpoint, may be damaged."""
    try:
        assert [b"s" * 100, b"l" * MIB] == opened_values(directory)
    except kvstore.StoreOpenError as error:
        assert name in str(error)  # noqa: PT017


@pytest.mark.parametrize("name", FILES)
def test_a_header_of_garbage(directory: Path, name: str) -> None:
    overwrite(directory / name, 0, b"garbage " * 512)

    refused_by_name_or_all_there(directory, name)


def test_a_superblock_of_garbage_is_refused(directory: Path) -> None:
    path = directory / "superblock"
    overwrite(path, 0, b"garbage " * (path.stat().st_size // 8))

    with pytest.raises(kvstore.StoreOpenError, match="superblock"):
        opened_values(directory)


@pytest.mark.parametrize("name", FILES)
def test_another_format_version_is_refused_by_name(directory: Path, name: str) -> None:
    with (directory / name).open("rb") as file:
        header = bytearray(file.read(HEADER_SIZE))
    header[VERSION_OFFSET : VERSION_OFFSET + 4] = (999).to_bytes(4, "little")
    header[-4:] = checksum(header[:-4]).to_bytes(4, "little")
    overwrite(directory / name, 0, bytes(header))
    if name == "superblock":  # it has two copies
        overwrite(directory / name, HEADER_SIZE, bytes(header))

    with pytest.raises(kvstore.StoreVersionError, match=name):
        opened_values(directory)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_to_nothing_is_refused_by_name(directory: Path, name: str) -> None:
    os.truncate(directory / name, 0)

    with pytest.raises(kvstore.StoreOpenError, match=rf"{name}|no store"):
        opened_values(directory)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(directory: Path, name: str) -> None:
    (directory / name).unlink()

    with pytest.raises(kvstore.StoreOpenError, match=rf"{name}|no store"):
        opened_values(directory)


def test_flipped_bits_of_a_value_are_an_error_of_its_key(directory: Path) -> None:
    with (directory / "slabs").open("rb") as file:
        content = file.read()
    overwrite(directory / "slabs", content.index(b"l" * MIB) + 500_000, b"X")

    with kvstore.connect_sync(url_of(directory)) as store:
        assert [b"s" * 100, None] == store.batch_get(["small", "large"])
        assert [-3] == store.batch_get_into(["large"], [bytearray(MIB)])
        with pytest.raises(kvstore.CorruptValueError, match="key 'large'"):
            store.get("large")
        found = store.verify()
        assert [b"large"] == [bad.key for bad in found.bad]
        store.set("large", b"new")
        assert b"new" == store.get("large")


def test_the_directory_of_a_system_without_rights() -> None:
    with pytest.raises(kvstore.StoreOpenError, match="kvstore-test"):
        kvstore.connect_sync("file:///proc/kvstore-test")


@pytest.mark.parametrize("driver", ["auto", "io_uring", "threads"])
def test_no_locked_memory(tmp_path: Path, driver: str) -> None:
    script = f"""
import sys, kvstore
with kvstore.connect_sync(sys.argv[1], driver={driver!r}) as store:
    store.set("k", bytes(1 << 20))
    with store.register(bytearray(1 << 20)) as region:
        assert store.get_into("k", region[:]) == 1 << 20
"""

    def forbid() -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))

    ended = subprocess.run(
        [sys.executable, "-c", script, url_of(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=forbid,
    )

    if driver == "io_uring" and ended.returncode != 0:
        assert "StoreOpenError" in ended.stderr
    else:
        assert 0 == ended.returncode, ended.stderr


def test_a_dram_tier_that_is_too_small_says_how_much_is_needed(tmp_path: Path) -> None:
    with pytest.raises(kvstore.InvalidOptionError, match="memory"):
        kvstore.connect_sync(f"file://{tmp_path}/store", memory=1)
