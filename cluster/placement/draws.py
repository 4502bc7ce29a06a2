"""Random draws that are the same on every machine and in every version of Python, from one seed.

The standard library's shuffle promises no such thing, and a layout that two releases compute
differently from one seed would move data for nothing. The generator is SplitMix64 (Steele, Lea and
Flood, 2014).
"""

from collections.abc import Sequence
from typing import TypeVar

from kvstore.cluster.placement.steps import Work, finish

DRAWS_A_UNIT = 16
"""A draw takes a microsecond."""
WORD = 2**64
INCREMENT = 0x9E3779B97F4A7C15

Item = TypeVar("Item")


class Draws:
    """A stream of numbers."""

    def __init__(self, seed: int) -> None:
        """Begin the stream of a seed."""
        self._state = seed % WORD

    def word(self) -> int:
        """Return the next 64 bits."""
        self._state = (self._state + INCREMENT) % WORD
        mixed = self._state
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % WORD
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % WORD
        return mixed ^ mixed >> 31

    def below(self, count: int) -> int:
        """Return a number from 0 until before `count`; each as likely as any other."""
        assert 0 < count <= WORD
        limit = WORD - WORD % count
        while (drawn := self.word()) >= limit:
            continue
        return drawn % count

    def choice(self, items: Sequence[Item]) -> Item:
        """Return one of the items."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """Return the items in another order; each order is as likely as any other."""
        return finish(self.shuffling(items))

    def shuffling(self, items: Sequence[Item]) -> Work[list[Item]]:
        """Shuffle in steps."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
            if last % DRAWS_A_UNIT == 0:
                yield
        return order
