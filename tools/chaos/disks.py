"""Members' disks: file systems of their own, which can be filled, can fail, and can be replaced.

     home/disk        ext4, mounted by a loop device from
     home/backing     image, in a file system in memory

A disk fails when its image is cut to nothing and the memory around it is full: whatever is read or
written then ends with EIO. It loses power when the file system is shut down at once: what no flush
asked for is gone, and the journal says what is left. Mounts and loop devices go with the sandbox.
Needs root; where user namespaces give the links, a disk is in memory itself, and can be filled, but
neither fail nor lose power.
"""

import fcntl
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

MIB = 1 << 20
IMAGE = "image"
BALLAST = "ballast"
SPARE_MIB = 8
"""Of the memory around an image."""

JOURNAL_MIB = 4
EXT4_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32): the file system ends as by loss of power."""
NO_LOG_FLUSH = struct.pack("I", 2)

UNMOUNT_TIMEOUT_S = 20.0
POLL_S = 0.05


class DiskError(Exception):
    """The machine refused to make a disk."""


def can_fail() -> bool:
    """Whether disks can be made that fail: by root of the machine, with the tools of ext4."""
    mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    rootless = mapped[:2] != ["0", "0"] or int(mapped[2]) < 1 << 31
    return os.geteuid() == 0 and not rootless and shutil.which("mkfs.ext4") is not None


def run(*command: str) -> None:
    """Run a command; raises DiskError."""
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise DiskError(f"{' '.join(command)}: {found.stderr.strip()}")


class Disk:
    """The disk of one member."""

    def __init__(self, home: Path, size_mib: int) -> None:
        """Make it, empty."""
        self.folder = home / "disk"
        self._backing = home / "backing"
        self._size_mib = size_mib
        self._images = can_fail()
        self.folder.mkdir()
        if self._images:
            self._backing.mkdir()
            memory = f"size={size_mib + SPARE_MIB}M"
            run("mount", "-t", "tmpfs", "-o", memory, "none", str(self._backing))
        self._make()

    def _make(self) -> None:
        if not self._images:
            size = f"size={self._size_mib}M"
            run("mount", "-t", "tmpfs", "-o", size, "none", str(self.folder))
            return
        image = self._backing / IMAGE
        with image.open("wb") as file:
            file.truncate(self._size_mib * MIB)
        run("mkfs.ext4", "-q", "-F", "-J", f"size={JOURNAL_MIB}", str(image))
        self._mount()

    def _mount(self) -> None:
        run("mount", "-o", "loop", str(self._backing / IMAGE), str(self.folder))

    def fill(self) -> None:
        """Take all the space that is left."""
        fill(self.folder / BALLAST)

    def empty(self) -> None:
        """Give back what fill() took."""
        (self.folder / BALLAST).unlink(missing_ok=True)

    def fail(self) -> None:
        """Let whatever is read or written end with EIO from now on."""
        assert self._images
        os.truncate(self._backing / IMAGE, 0)
        fill(self._backing / BALLAST)

    def cut_power(self) -> None:
        """Lose what was not flushed, and answer nothing any more; in memory, lose nothing."""
        if not self._images:
            return
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, EXT4_SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(folder)

    def give_power(self) -> None:
        """Undo cut_power(); nobody may use the disk meanwhile."""
        if self._images:
            unmount(self.folder)
            self._mount()

    def replace(self) -> None:
        """Put an empty disk in its place; nobody may use the old one any more."""
        unmount(self.folder)
        (self._backing / BALLAST).unlink(missing_ok=True)
        self._make()

    def close(self) -> None:
        """Unmount everything, whatever state it is in."""
        for folder in (self.folder, self._backing):
            if folder.is_mount():
                subprocess.run(["umount", "--lazy", str(folder)], check=False)


def unmount(folder: Path) -> None:
    """Unmount a file system; its last writes may end a moment after their process."""
    deadline = time.monotonic() + UNMOUNT_TIMEOUT_S
    while True:
        try:
            run("umount", str(folder))
        except DiskError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)
        else:
            return


def fill(path: Path) -> None:
    """Take all the space that a file system has left."""
    with path.open("wb") as file:
        while True:
            free = os.statvfs(path.parent)
            size = free.f_bavail * free.f_frsize
            if size == 0:
                return
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
            except OSError:
                return
