"""How large the values of a store are, as its last reads tell: room for the next ones.

Nodes are not asked for sizes before values: a value that fits the hint takes one round trip, and
one that does not takes two. Guarantees: the hint rises at once and falls slowly, and the room of a
batch is bounded. Races between threads cost a round trip and nothing else.
"""

HINT_FIRST = 64 << 10
HINT_MIN = 4 << 10
BATCH_ROOM_MAX = 1 << 30
"""Bytes set aside for the values of one batch before their sizes are known; memory that no value
came to is never touched."""
PATIENCE = 32
"""Reads in a row that found less than half before the hint falls."""


class SizeHint:
    """The largest size recently seen."""

    __slots__ = ("_largest", "_patience", "_size")

    def __init__(self) -> None:
        """Begin with a guess."""
        self._size = HINT_FIRST
        self._patience = PATIENCE
        self._largest = 0

    def __repr__(self) -> str:
        """Show the hint."""
        return f"<SizeHint of {self._size} bytes>"

    def room_for(self, count: int) -> int:
        """Return the room for each value of a batch."""
        return min(self._size, max(HINT_MIN, BATCH_ROOM_MAX // max(1, count)))

    def note(self, largest: int) -> None:
        """Learn from the largest size of a batch."""
        if largest > self._size // 2:
            self._size = max(self._size, largest)
            self._patience, self._largest = PATIENCE, 0
            return
        self._patience -= 1
        self._largest = max(self._largest, largest)
        if self._patience <= 0:
            self._size = max(HINT_MIN, self._largest)
            self._patience, self._largest = PATIENCE, 0
