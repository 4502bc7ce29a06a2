"""A limit: one thread's memcpy between memory of this process and the caller's buffers."""

import ctypes
import mmap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tools.bench.contestants.base import Options, Peer

ARENA_SIZE_MAX = 1 << 30
HUGE_PAGE_SIZE = 2 << 20


def address_of(view: memoryview) -> int:
    """Return where a writable buffer begins."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


class Memcpy(Peer):
    """Keys are slots of an arena; a batch is one call of a C loop around memcpy."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Make an arena in huge pages where there are some; `library` is the compiled copy.c."""
        del directory
        self._library = ctypes.CDLL(str(options["library"]))
        self._arena = mmap.mmap(-1, ARENA_SIZE_MAX, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):
            self._arena.madvise(mmap.MADV_HUGEPAGE)
        # memcpy begins at whole pages of either kind, as the DRAM tier does.
        first = address_of(memoryview(self._arena))
        self._next = (first + HUGE_PAGE_SIZE - 1) // HUGE_PAGE_SIZE * HUGE_PAGE_SIZE
        self._end = first + ARENA_SIZE_MAX
        self._slots: dict[bytes, int] = {}
        self._addresses: dict[int, int] = {}

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Copy the values into their slots."""
        size = len(values[0])
        for key in keys:
            if key not in self._slots:
                assert self._next + size <= self._end, "the arena is larger than any row"
                self._slots[key] = self._next
                self._next += size
        self._copy([self._slots[key] for key in keys], self._addresses_of(values), size)

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Copy the slots into the buffers."""
        sources = [self._slots[key] for key in keys]
        self._copy(self._addresses_of(targets), sources, len(targets[0]))

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Look up in the dict of slots."""
        return [key in self._slots for key in keys]

    def close(self) -> None:
        """Leave the memory to the end of the process: buffers of ctypes still point there."""

    def _addresses_of(self, views: Sequence[memoryview]) -> list[int]:
        # Buffers come again and again: their addresses are looked up once, not on the clock.
        found = []
        for view in views:
            address = self._addresses.get(id(view))
            if address is None:
                address = self._addresses[id(view)] = address_of(view)
            found.append(address)
        return found

    def _copy(self, targets: list[int], sources: list[int], size: int) -> None:
        addresses = ctypes.c_uint64 * len(targets)
        self._library.bench_copy(
            addresses(*targets), addresses(*sources), len(targets), ctypes.c_size_t(size)
        )
