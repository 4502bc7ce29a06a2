"""The values and buffers of a worker, all made before any clock starts.

 source window: random bytes; value i of version v is the window's page (i * 7 + v) % pages
 target window: batch j is read into its part j % parts

Both windows are larger than the processor's last cache, so that bytes come from memory.
Guarantees: page-aligned, touched once, and every value can be checked without a copy of it.
"""

import mmap
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

WINDOW_SIZE = 64 << 20
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
"""Memory as malloc gives it; the default of mmap is shared memory, which is slower to reach."""
STRIDE = 7
"""Odd, so that neighbours in a batch are not neighbours in the window."""
EDGE = 64
"""Bytes compared at each end of a value, each time."""
POISON = b"\xee"


def key_of(prefix: int, i: int) -> bytes:
    """Return a key of 32 bytes."""
    return b"%08x-%023d" % (prefix, i)


Windows: TypeAlias = tuple[mmap.mmap, mmap.mmap]


def make_windows(size: int = WINDOW_SIZE) -> Windows:
    """Return a source window of random bytes and a target window, both touched."""
    source = mmap.mmap(-1, size, flags=PRIVATE)
    target = mmap.mmap(-1, size, flags=PRIVATE)
    source.write(os.urandom(size))
    target.write(bytes(size))
    return source, target


@dataclass(frozen=True, slots=True)
class Batch:
    """Keys with their values (of a set) or with buffers and what they must hold (of a get)."""

    indexes: Sequence[int]
    keys: Sequence[bytes]
    sources: Sequence[memoryview]
    targets: Sequence[memoryview]


class Pages:
    """The values of *count* keys of *size* bytes, in batches of *batch_count*."""

    def __init__(self, size: int, batch_count: int, count: int, windows: Windows) -> None:
        """Take the windows: whoever used them before is done with them."""
        self.size = size
        self.batch_count = batch_count
        self.versions = [0] * count
        self._source, self._target = windows
        self._keys = [key_of(size, i) for i in range(count)]
        self._sources = self._slices(self._source)
        self._targets = self._slices(self._target)

    def _slices(self, window: mmap.mmap) -> list[memoryview]:
        view = memoryview(window)
        return [view[at : at + self.size] for at in range(0, len(view), self.size)]

    def value(self, i: int) -> memoryview:
        """Return what key *i* holds at its current version."""
        return self._sources[(i * STRIDE + self.versions[i]) % len(self._sources)]

    def windows(self) -> list[memoryview]:
        """Return all memory that values lie in."""
        return [memoryview(self._source), memoryview(self._target)]

    def set_batches(self) -> list[Batch]:
        """Return batches that give every key its next version, in order of the keys."""
        for i in range(len(self.versions)):
            self.versions[i] += 1
        return self._batches(list(range(len(self.versions))))

    def unset(self, batch: Batch) -> None:
        """Take the next version back: this batch was not performed."""
        for i in batch.indexes:
            self.versions[i] -= 1

    def get_batches(self, seed: int) -> list[Batch]:
        """Return batches that read every key that was set, shuffled."""
        order = [i for i, version in enumerate(self.versions) if version > 0]
        random.Random(seed).shuffle(order)
        return self._batches(order)

    def _batches(self, order: list[int]) -> list[Batch]:
        step = self.batch_count
        parts = max(1, len(self._targets) // step)
        return [
            Batch(
                order[at : at + step],
                [self._keys[i] for i in order[at : at + step]],
                [self.value(i) for i in order[at : at + step]],
                self._targets[at // step % parts * step :][: min(step, len(order) - at)],
            )
            for at in range(0, len(order), step)
        ]


def wrong_edges(batch: Batch) -> int:
    """Return how many targets differ from their value at either end."""
    return sum(
        target[:EDGE] != source[:EDGE] or target[-EDGE:] != source[-EDGE:]
        for target, source in zip(batch.targets, batch.sources, strict=True)
    )


def wrong_values(batch: Batch) -> int:
    """Return how many targets differ from their value anywhere."""
    return sum(
        bytes(target) != bytes(source)
        for target, source in zip(batch.targets, batch.sources, strict=True)
    )


def poison(batch: Batch) -> None:
    """Fill targets with bytes that no value holds."""
    for target in batch.targets:
        target[:] = POISON * len(target)
