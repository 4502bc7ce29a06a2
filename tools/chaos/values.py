"""Values that tell who wrote them: a number that no two writes share, and bytes that follow.

    number (8 bytes) ‖ size (4 bytes) ‖ a piece of one long random text, where the number says

Wrong bytes are noticed wherever they are, since a value is compared with what it has to be.
"""

import random
import struct
from typing import NewType

Number = NewType("Number", int)

HEAD = struct.Struct("<QI")
SIZE_MIN = HEAD.size
SIZE_MAX = 4 << 20
TEXT_SIZE = 1 << 16
WRITES_BITS = 40
STRIDE = 4099
"""A prime: values of neighbouring numbers begin at unlike places."""


class ValueCoder:
    """Makes values and takes them apart."""

    def __init__(self) -> None:
        """Draw the text; it is the same in every process."""
        self._text = random.Random(1).randbytes(TEXT_SIZE) * (SIZE_MAX // TEXT_SIZE + 2)

    def value(self, number: Number, size: int) -> bytes:
        """Return the value of a number."""
        assert SIZE_MIN <= size <= SIZE_MAX
        start = number * STRIDE % TEXT_SIZE
        return HEAD.pack(number, size) + self._text[start : start + size - HEAD.size]

    def number(self, value: bytes | memoryview) -> Number | None:
        """Return the number of a value; None for bytes that are no value."""
        if len(value) < SIZE_MIN:
            return None
        number, size = HEAD.unpack_from(value)
        # Views are compared item by item, a hundred times slower than bytes.
        if size != len(value) or self.value(number, size) != bytes(value):
            return None
        return Number(number)


def number_of(client: int, count: int) -> Number:
    """Return the number of a client's write."""
    assert count < 1 << WRITES_BITS
    return Number(client << WRITES_BITS | count)
