"""Plain files: one a value, through the page cache or around it; and one for all, flushed."""

import os
from collections.abc import Sequence
from pathlib import Path

from tools.bench.contestants.base import Options, Peer
from tools.bench.failures import ContestantError

MODE = 0o600


class FilePerValue(Peer):
    """A directory with a file for each key; option `direct` goes around the page cache."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Take the directory."""
        self._directory = os.fsencode(directory)
        self._flags = os.O_DIRECT if options.get("direct") else 0

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Write every file anew, without a flush."""
        flags = os.O_WRONLY | os.O_CREAT | self._flags
        for key, value in zip(keys, values, strict=True):
            file = os.open(os.path.join(self._directory, key), flags, MODE)
            written = os.write(file, value)
            os.close(file)
            if written != len(value):
                raise ContestantError("a write was short")

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Read every file into its buffer."""
        for key, target in zip(keys, targets, strict=True):
            file = os.open(os.path.join(self._directory, key), os.O_RDONLY | self._flags)
            read = os.readv(file, [target])
            os.close(file)
            if read != len(target):
                raise ContestantError("a read was short")

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Ask the file system for each."""
        return [os.path.exists(os.path.join(self._directory, key)) for key in keys]

    def close(self) -> None:
        """Hold nothing."""


class FlushedFile(Peer):
    """One preallocated file, written with O_DIRECT, and a flush after each value: one by one."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Make the file of `count` values of `size` bytes, written once."""
        count, size = int(options["count"]), int(options["size"])
        self._file = os.open(directory / "values", os.O_RDWR | os.O_CREAT | os.O_DIRECT, MODE)
        os.posix_fallocate(self._file, 0, count * size)
        self._count = count
        self._slots: dict[bytes, int] = {}

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Write and flush, key by key."""
        for key, value in zip(keys, values, strict=True):
            slot = self._slots.setdefault(key, len(self._slots))
            if os.pwrite(self._file, value, slot % self._count * len(value)) != len(value):
                raise ContestantError("a write was short")
            os.fdatasync(self._file)

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Read each into its buffer."""
        for key, target in zip(keys, targets, strict=True):
            if os.preadv(self._file, [target], self._slots[key] * len(target)) != len(target):
                raise ContestantError("a read was short")

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Look up in the dict of slots."""
        return [key in self._slots for key in keys]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
