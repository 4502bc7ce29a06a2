"""What a client asks for, one batch after the other, drawn from the schedule's seed.

Keys differ in how often they are asked for: some are fought over by all clients, most are not. A
single-key call and a batch of one are different paths through the client, so both are drawn.
"""

import random
from dataclasses import dataclass

from tools.chaos.schedule import Work
from tools.chaos.values import SIZE_MIN, Number, number_of
from tools.history.operation import Kind

SINGLE_SHARE = 0.5
HOT_SHARE = 0.3
HOT_KEYS = 8
SMALL_SHARE = 0.7
SIZE_SMALL = 1024
KINDS = {Kind.GET: 50, Kind.SET: 28, Kind.ADD: 6, Kind.DELETE: 8, Kind.EXISTS: 8}
BATCHED = (Kind.GET, Kind.SET, Kind.ADD, Kind.DELETE, Kind.EXISTS)


@dataclass(frozen=True, slots=True)
class Ask:
    """One call of the API."""

    kind: Kind
    keys: tuple[str, ...]
    numbers: tuple[Number, ...]
    """Of the values that are written."""
    sizes: tuple[int, ...]
    single: bool
    """Whether it is the call for one key."""
    pause_s: float
    """Before the next one."""


class Asking:
    """The asks of one client; its tasks share them."""

    def __init__(self, seed: int, client: int, work: Work) -> None:
        """Start from the schedule's seed."""
        self._random = random.Random(f"work {seed} {client}")
        self._client = client
        self._work = work
        self._writes = 0
        self._kinds = list(KINDS)
        self._weights = list(KINDS.values())

    def next(self) -> Ask:
        """Return the next one."""
        (kind,) = self._random.choices(self._kinds, self._weights)
        single = self._random.random() < SINGLE_SHARE
        count = 1 if single else self._random.randint(1, self._work.batch_count_max)
        keys = tuple({self._key(): None for _ in range(count)})
        writing = keys if kind in (Kind.SET, Kind.ADD) else ()
        return Ask(
            kind=kind,
            keys=keys,
            numbers=tuple(self._number() for _ in writing),
            sizes=tuple(self._size() for _ in writing),
            single=single,
            pause_s=self._random.expovariate(1000 / self._work.pause_ms),
        )

    def _key(self) -> str:
        hot = self._random.random() < HOT_SHARE
        count = min(HOT_KEYS, self._work.keys) if hot else self._work.keys
        return key_of(self._work, self._random.randrange(count))

    def _number(self) -> Number:
        self._writes += 1
        return number_of(self._client, self._writes)

    def _size(self) -> int:
        small = self._random.random() < SMALL_SHARE
        return self._random.randint(SIZE_MIN, SIZE_SMALL if small else self._work.size_max)


def key_of(work: Work, index: int) -> str:
    """Return the name of a key."""
    return f"{work.prefix}key-{index:04}"
