"""The measurements of one size of values: what is called, on which keys, in which order.

set         every key, round and round
get         few enough keys for the DRAM tier, round and round, once that is where they are
exists      every key, round and round
get cold    every key once after each opening of the store, shuffled; not where nodes serve it,
            whose memory no client can empty

Guarantees: the keys are deleted in the end, whatever happens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from random import Random

from kvstore.client import Stats
from kvstore.client.url import serves_nodes
from kvstore.commands.bench import Call, Callers, Clients, Kind, Threads, Timing
from kvstore.commands.content import BlockContent
from kvstore.commands.replay import BATCH_COUNT_MAX, quantile_ms

CALL_SIZE_MAX = 32 << 20
"""Bytes of values in one call; large values come in smaller batches."""
BUFFERS_SIZE_MAX = 256 << 20
"""Bytes of values of all callers at once, unless one value each is more."""
DEVICE_SIZE = 256 << 20
"""Bytes of the values that are read from the device, about."""
DEVICE_COUNT_MAX = 32768
MEMORY_SHARE = 4
"""Values that are read from memory are a quarter of what the DRAM tier holds."""
ROUND_S_MAX = 3600.0
"""How long one round over all keys may take."""
WARMING_ROUNDS_MAX = 8
SHUFFLE_SEED = 7


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What every measurement shares."""

    url: str
    batch_count: int
    clients: int
    threads: int
    seconds: float

    @property
    def callers(self) -> int:
        """How many call at the same time."""
        return self.clients or self.threads

    @property
    def measurements(self) -> int:
        """How many there are of each size."""
        return 3 if serves_nodes(self.url) else 4

    def call_count(self, size: int) -> int:
        """Keys in one call of values of *size* bytes."""
        room = min(CALL_SIZE_MAX, BUFFERS_SIZE_MAX // self.callers)
        return max(1, min(self.batch_count, room // size))

    def open(self, size: int) -> Callers:
        """Open the store, with nothing of it in memory."""
        buffer_size = self.call_count(size) * size
        if self.clients:
            return Clients(self.url, self.clients, self.threads, buffer_size)
        return Threads(self.url, self.threads, buffer_size)


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One measurement. Times are those of a call; rates are of all callers together."""

    operation: str
    size: int
    batch: int
    calls: int
    keys_per_s: float
    gb_per_s: float | None
    p50_ms: float
    p99_ms: float
    memory_hit_ratio: float | None


class Workload:
    """The keys, values and calls of one size."""

    def __init__(self, plan: BenchPlan, size: int) -> None:
        """Choose the keys: whole batches, at least one for each caller."""
        self._plan = plan
        self._size = size
        self._batch = plan.call_count(size)
        self._content = BlockContent(size)
        wanted = min(DEVICE_COUNT_MAX, DEVICE_SIZE // size)
        count = max(wanted // self._batch, plan.callers) * self._batch
        self._keys = [b"kvstore-bench/%d/%d" % (size, i) for i in range(count)]

    def measure(self) -> Iterator[BenchRow]:
        """Yield the measurements, in order."""
        plan = self._plan
        try:
            with plan.open(self._size) as callers:
                yield self._row("set", self._measure_sets(callers), None)
                yield self._measure_hot(callers)
                exists = callers.run(cycle(self._calls(Kind.EXISTS, self._keys)), plan.seconds)
                yield self._row("exists", exists, None)
            if not serves_nodes(plan.url):
                yield self._measure_cold()
        finally:
            with plan.open(self._size) as callers:
                for start in range(0, len(self._keys), BATCH_COUNT_MAX):
                    callers.delete(self._keys[start : start + BATCH_COUNT_MAX])

    def _measure_sets(self, callers: Callers) -> Timing:
        """Set every key once, and then again until the time is over."""
        calls = self._calls(Kind.SET, self._keys)
        timing = callers.run(iter(calls), ROUND_S_MAX)
        left_s = self._plan.seconds - timing.wall_ns / 1e9
        if left_s > 0:
            timing.add(callers.run(cycle(calls), left_s))
        return timing

    def _measure_hot(self, callers: Callers) -> BenchRow:
        """Read values that the DRAM tier holds: those set last."""
        fitting = callers.stats().memory_capacity // MEMORY_SHARE // self._size
        count = max(1, fitting // self._batch) * self._batch
        calls = self._calls(Kind.GET, self._keys[-count:], len(self._keys) - count)
        for _ in range(WARMING_ROUNDS_MAX):
            before = callers.stats()
            callers.run(iter(calls), ROUND_S_MAX)
            if memory_hit_ratio(before, callers.stats()) == 1:
                break
        before = callers.stats()
        timing = callers.run(cycle(calls), self._plan.seconds)
        return self._row("get", timing, memory_hit_ratio(before, callers.stats()))

    def _measure_cold(self) -> BenchRow:
        """Read values that are on the device only."""
        random = Random(SHUFFLE_SEED)
        timing = Timing([], 0)
        ratios: list[float] = []
        while timing.wall_ns < self._plan.seconds * 1e9:
            calls = self._calls(Kind.GET, self._keys)
            random.shuffle(calls)
            with self._plan.open(self._size) as callers:
                before = callers.stats()
                timing.add(callers.run(iter(calls), ROUND_S_MAX))
                ratios.append(memory_hit_ratio(before, callers.stats()))
        return self._row("get cold", timing, sum(ratios) / len(ratios))

    def _calls(self, kind: Kind, keys: list[bytes], first: int = 0) -> list[Call]:
        """Return calls that use each key once; a list, since threads may share its iterator.

        *first* is the number of the first key, for its value.
        """
        calls = []
        for start in range(0, len(keys), self._batch):
            part = keys[start : start + self._batch]
            values = [self._content.of(first + start + i) for i in range(len(part))]
            calls.append(Call(kind, part, self._size, values if kind is Kind.SET else ()))
        return calls

    def _row(self, operation: str, timing: Timing, memory_hit_ratio: float | None) -> BenchRow:
        """Return the figures of one measurement."""
        keys_per_s = len(timing.call_ns) * self._batch / (timing.wall_ns / 1e9)
        return BenchRow(
            operation=operation,
            size=self._size,
            batch=self._batch,
            calls=len(timing.call_ns),
            keys_per_s=keys_per_s,
            gb_per_s=None if operation == "exists" else keys_per_s * self._size / 1e9,
            p50_ms=quantile_ms(timing.call_ns, 0.50),
            p99_ms=quantile_ms(timing.call_ns, 0.99),
            memory_hit_ratio=memory_hit_ratio,
        )


def memory_hit_ratio(before: Stats, after: Stats) -> float:
    """Return the share of the hits between two moments that memory answered."""
    hits = after.get_hits - before.get_hits
    return (after.get_memory_hits - before.get_memory_hits) / max(1, hits)
