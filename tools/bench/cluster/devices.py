"""Devices that are slower than this machine's: loop devices that a control group limits.

Guarantees: leaving the contexts takes everything down again. Needs root.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tools.bench.failures import ContestantError

GROUPS = Path("/sys/fs/cgroup")
GROUPS_OF_BLOCKS = GROUPS / "blkio"
"""Where the control groups of the first version have those of block devices."""
PROGRAMS = ("losetup", "mkfs.ext4", "mount", "umount")


def possible() -> bool:
    """Return whether this process may make such devices."""
    return os.geteuid() == 0 and all(map(shutil.which, PROGRAMS)) and folder_of_groups() is not None


def folder_of_groups() -> Path | None:
    """Return where control groups that limit block devices are made."""
    if (GROUPS_OF_BLOCKS / "cgroup.procs").exists():
        return GROUPS_OF_BLOCKS
    with suppress(OSError):
        controllers = (GROUPS / "cgroup.subtree_control").read_text(encoding="ascii").split()
        return GROUPS if "io" in controllers else None
    return None


@dataclass(frozen=True, slots=True)
class Device:
    """A file system on a loop device."""

    mount: Path
    number: str
    """MAJOR:MINOR."""


@contextmanager
def device(folder: Path, name: str, size: int) -> Iterator[Device]:
    """Make a file system on a loop device whose file is in *folder*."""
    image, mount = folder / f"{name}.image", folder / name
    with image.open("wb") as file:
        file.truncate(size)
    path = run("losetup", "--find", "--show", "--direct-io=on", str(image)).strip()
    try:
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1", path)
        mount.mkdir()
        run("mount", path, str(mount))
        try:
            status = Path(path).stat().st_rdev
            yield Device(mount, f"{os.major(status)}:{os.minor(status)}")
        finally:
            run("umount", "--lazy", str(mount))
    finally:
        run("losetup", "--detach", path)
        image.unlink()


@contextmanager
def reads_limited(device: Device, pids: Sequence[int], bytes_per_s: int) -> Iterator[None]:
    """Let these processes read so much at most from the device."""
    parent = folder_of_groups()
    assert parent is not None
    group = Path(tempfile.mkdtemp(prefix="kvbench-", dir=parent))
    try:
        if parent == GROUPS_OF_BLOCKS:
            limit = group / "blkio.throttle.read_bps_device"
            limit.write_text(f"{device.number} {bytes_per_s}\n", encoding="ascii")
        else:
            limit = group / "io.max"
            limit.write_text(f"{device.number} rbps={bytes_per_s}\n", encoding="ascii")
        for pid in pids:
            (group / "cgroup.procs").write_text(f"{pid}\n", encoding="ascii")
        yield
    finally:
        for pid in pids:
            with suppress(OSError):
                (parent / "cgroup.procs").write_text(f"{pid}\n", encoding="ascii")
        group.rmdir()


def run(*command: str) -> str:
    """Run a program; what it printed."""
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise ContestantError(f"{' '.join(command)}: {found.stderr.strip()}")
    return found.stdout
