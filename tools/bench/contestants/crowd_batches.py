"""What a crowd of clients gets: batches of one mix of sizes, so that latencies of batches compare.

The bytes of a value follow from its number alone: every process knows them without being told.
"""

from tools.bench.pages import key_of
from tools.bench.settings import KIB, MIB

MIX = (4 * KIB,) * 8 + (64 * KIB,) * 4 + (256 * KIB,)
BATCH_SIZE = sum(MIX)
PREFIX = 0xC0
PATTERN_SIZE = 8 * MIB
PATTERN_SEED = 9
PATTERN_STEP = 4 * KIB + 64
"""Values begin at multiples of this in the pattern: neighbours differ."""


def value_of(pattern: memoryview, number: int, size: int) -> memoryview:
    """Return the bytes of the value of this number."""
    at = number * PATTERN_STEP % (PATTERN_SIZE - max(MIX))
    return pattern[at : at + size]


def keys_of(batch: int) -> list[bytes]:
    """Return the keys of a batch."""
    return [key_of(PREFIX, batch * len(MIX) + i) for i in range(len(MIX))]
