"""What the blocks of a replay contain: made from the block's id, and checked byte for byte.

    template of random bytes    |.....................................................|
    content of a block                        |<- block_size ->|
                                              ^ offset: a hash of the id

Guarantees: the same id has the same content in every run and release; every byte depends on the
id, so that bytes of another block, or the right ones at the wrong place, do not pass. It costs no
time: a content is a view of the template.
"""

from random import Random

TEMPLATE_SEED = 20_250_213
OFFSET_BITS = 20
OFFSET_STEP = 8
"""Bytes between two offsets, so that values are aligned as those of applications are."""
GOLDEN = 0x9E3779B97F4A7C15
"""2^64 / golden ratio: multiplied with it, consecutive ids end up far from each other."""
MASK = (1 << 64) - 1


class BlockContent:
    """The content of every block of one size."""

    def __init__(self, block_size: int) -> None:
        """Make the template; 8 MiB and a block."""
        assert block_size > 0
        self.block_size = block_size
        size = (OFFSET_STEP << OFFSET_BITS) + block_size
        self._template = memoryview(Random(TEMPLATE_SEED).randbytes(size))

    def of(self, block_id: int) -> memoryview:
        """Return the content of a block."""
        offset = ((block_id * GOLDEN) & MASK) >> (64 - OFFSET_BITS)
        start = offset * OFFSET_STEP
        return self._template[start : start + self.block_size]

    def matches(self, block_id: int, read: bytearray) -> bool:
        """Return whether every byte is right. A bytearray compares at the speed of memory."""
        return read == self.of(block_id)
