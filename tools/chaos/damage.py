"""Bits of stored values, turned in the files of a node that serves them.

What is damaged is the medium: values, wherever they are in the file of a target's slabs. Headers
and journals are left alone, since a target whose journal is damaged is not opened, and has to be
replaced, as by a disk that fails.
"""

import mmap
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

SLABS = "slabs"
HEADER_SIZE = 4096
BLOCK_SIZE = 4096
PIECE_SIZE = 1 << 20
EMPTY = bytes(BLOCK_SIZE)
BLOCKS_SHARE = 8
"""One of so many blocks is damaged: most hold what was replaced since."""


def flip_bits(disk: Path, count_max: int) -> int:
    """Turn one bit in each of some blocks that hold anything; returns in how many."""
    count = 0
    for path in sorted(disk.glob(f"*/{SLABS}")):
        blocks = list(blocks_in(path))
        chosen = random.sample(blocks, min(count_max, -(-len(blocks) // BLOCKS_SHARE)))
        turn_bits(path, chosen)
        count += len(chosen)
    return count


def blocks_in(path: Path) -> Iterator[int]:
    """Yield the offsets of blocks of a file that are not empty."""
    with path.open("rb") as file:
        file.seek(HEADER_SIZE)
        start = HEADER_SIZE
        while piece := file.read(PIECE_SIZE):
            for at in range(0, len(piece), BLOCK_SIZE):
                if piece[at : at + BLOCK_SIZE] != EMPTY:
                    yield start + at
            start += len(piece)
        drop_cached(file.fileno())


def turn_bits(path: Path, blocks: Sequence[int]) -> None:
    """Turn one bit of each block, on the medium.

    Past the cache, as the node writes: what was dirty there would collide with its writes.
    """
    file = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        with mmap.mmap(-1, BLOCK_SIZE) as block:
            for offset in blocks:
                os.preadv(file, [block], offset)
                block[random.randrange(BLOCK_SIZE)] ^= 1 << random.randrange(8)
                os.pwritev(file, [block], offset)
    finally:
        os.close(file)


def drop_cached(file: int) -> None:
    """Forget what was read: the node writes past the cache."""
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
