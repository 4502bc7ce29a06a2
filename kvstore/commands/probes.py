"""Probes: a reader and a writer that never stop, so that every stall of a cluster is seen.

Guarantees: what the writer was told is stored must be there in the end, or something newer that it
wrote itself. Times are those of whole calls, as an application would wait for them.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from kvstore.client import KVStoreError, OutcomeUnknownError, Store

KEYS = 64
"""Each probe goes round so many keys, which lie in all chains."""
VALUE_SIZE = 1024
PAUSE_S = 0.002
"""Between two calls: a probe is no load."""


@dataclass(slots=True)
class Calls:
    """The calls of one probe: when each began, and how long it took."""

    times_ns: list[tuple[int, int]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def longest_ms(self, from_ns: int, to_ns: int) -> float:
        """Return the longest call that was under way between two moments."""
        within = [took for began, took in self.times_ns if began < to_ns and began + took > from_ns]
        return max(within, default=0) / 1e6


class Probes:
    """A thread that reads and one that writes; a context manager that stops them."""

    def __init__(self, store: Store) -> None:
        """Set the keys to read."""
        self.reads, self.writes = Calls(), Calls()
        self._store = store
        self._stopping = threading.Event()
        self._written = [0] * KEYS
        """The last value of each key that the store said it has."""
        self._tried = [0] * KEYS
        for index in range(KEYS):
            store.set(f"probe/read/{index}", value_of(index))
        self._threads = [
            threading.Thread(target=self._repeat, args=(self._read, self.reads), daemon=True),
            threading.Thread(target=self._repeat, args=(self._write, self.writes), daemon=True),
        ]

    def __enter__(self) -> Self:
        """Start."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def lost(self) -> list[str]:
        """Return the keys whose value is older than what was acknowledged; after the end."""
        lost: list[str] = []
        for index in range(KEYS):
            value = self._store.get(f"probe/write/{index}")
            number = -1 if value is None else int.from_bytes(value[:8], "little")
            if not self._written[index] <= number <= self._tried[index]:
                lost.append(f"probe/write/{index}")
        return lost

    def _repeat(self, call: Callable[[int], None], calls: Calls) -> None:
        number = 0
        while not self._stopping.wait(PAUSE_S):
            number += 1
            start_ns = time.monotonic_ns()
            try:
                call(number)
            except KVStoreError as error:
                calls.failures.append(str(error))
            calls.times_ns.append((start_ns, time.monotonic_ns() - start_ns))

    def _read(self, number: int) -> None:
        index = number % KEYS
        if self._store.get(f"probe/read/{index}") != value_of(index):
            raise KVStoreError(f"key probe/read/{index} came back with another value")

    def _write(self, number: int) -> None:
        index = number % KEYS
        self._tried[index] = number
        try:
            self._store.set(f"probe/write/{index}", value_of(number))
        except OutcomeUnknownError:
            return  # it may be stored, and it may not: both are right
        self._written[index] = number


def value_of(number: int) -> bytes:
    """Return a value that tells its number."""
    return number.to_bytes(8, "little") * (VALUE_SIZE // 8)
