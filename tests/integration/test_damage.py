"""A damaged directory, or a poor machine: a clear error or a full answer, never wrong bytes."""

import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kvstore
from kvstore.native.checksum import checksum

MIB = 1 << 20
HEADER_SIZE = 4096
VERSION_OFFSET = 8
FILES = ["superblock", "slabs", "journal-0", "journal-1"]
ALL_FILES = [*FILES, "checkpoint-0", "checkpoint-1"]
SIZES = {"small": 100, "large": MIB, "empty": 0, "page": 4096}
SMALL_STORE = "memory=96MiB&capacity=32MiB&scrub_bytes_per_s=0"


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


# Whole files, after a clean close and after a crash.


@pytest.fixture(scope="module", params=["closed", "killed"])
def left_behind(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A store whose latest checkpoint is older than its latest sets."""
    directory: Path = tmp_path_factory.mktemp("left") / "store"
    script = f"""
import kvstore, os, sys
store = kvstore.connect_sync(sys.argv[1])
store.batch_set({list(SIZES)!r}, [b"older"] * {len(SIZES)})
store.checkpoint()
for key, size in {SIZES!r}.items():
    store.set(key, key[:1].encode() * size)
if {request.param == "closed"}:
    store.close()
os.kill(os.getpid(), 9)
"""
    url = f"file://{directory}?{SMALL_STORE}"
    ended = subprocess.run([sys.executable, "-c", script, url], check=False)
    assert -9 == ended.returncode
    return directory


@pytest.fixture
def doomed(left_behind: Path, tmp_path: Path) -> Path:
    """A copy, which takes no more of the disk than what was written."""
    subprocess.run(["cp", "-r", "--sparse=always", left_behind, tmp_path / "store"], check=True)
    return tmp_path / "store"


def cut_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_a_byte(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def cut_to_a_page(path: Path) -> None:
    os.truncate(path, HEADER_SIZE)


def fill_with_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def fill_with_garbage(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes((random.Random(1).randbytes(MIB) * (size // MIB + 1))[:size])


def scribble(path: Path) -> None:
    """Overwrite every tenth page but the header."""
    for offset in range(HEADER_SIZE, path.stat().st_size - HEADER_SIZE, 10 * HEADER_SIZE):
        overwrite(path, offset, random.Random(offset).randbytes(HEADER_SIZE))


@pytest.mark.parametrize("name", ALL_FILES)
@pytest.mark.parametrize(
    "damage",
    [
        cut_to_nothing,
        cut_in_half,
        cut_a_byte,
        cut_to_a_page,
        fill_with_zeros,
        fill_with_garbage,
        scribble,
        Path.unlink,
    ],
)
def test_a_damaged_file_never_gives_wrong_bytes(
    doomed: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(doomed / name)

    try:
        store = kvstore.connect_sync(f"file://{doomed}?{SMALL_STORE}")
    except kvstore.StoreOpenError as error:
        assert name in str(error)  # noqa: PT017
        return
    with store:
        for key, size in SIZES.items():
            try:
                assert key[:1].encode() * size == store.get(key)
            except (kvstore.CorruptValueError, kvstore.DeviceError):
                assert name == "slabs"
        if name != "slabs":
            assert () == store.verify().bad


def test_a_file_of_another_store_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("one", "other"):
        with kvstore.connect_sync(f"file://{tmp_path / name}?{SMALL_STORE}") as store:
            store.set(name, name.encode())
            store.checkpoint()
            store.set(name, name.encode() * 2)

    for name in ALL_FILES:
        mixed = tmp_path / f"one-{name}"
        subprocess.run(["cp", "-r", "--sparse=always", tmp_path / "one", mixed], check=True)
        shutil.copy(tmp_path / "other" / name, mixed / name)
        try:
            with kvstore.connect_sync(f"file://{mixed}?{SMALL_STORE}", mode="existing") as store:
                assert b"oneone" == store.get("one")
        except kvstore.StoreOpenError as error:
            assert any(file in str(error) for file in ALL_FILES)  # noqa: PT017


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
