"""Measuring a store: callers that repeat one kind of batch, and how long each call took.

Blocking callers are threads; clients are asyncio tasks on one event loop. Both are of this process,
since one process at a time has a file:// store open; of a kv:// store they share one client.

Guarantees: every answer is checked, so that no figure counts what was refused. Leaves to others:
which keys, in which order, and whether their values are in memory.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from threading import Event
from time import perf_counter_ns
from types import TracebackType
from typing import Protocol, Self

from kvstore.client import (
    AsyncStore,
    KVStoreError,
    Region,
    SetStatus,
    Stats,
    Store,
)
from kvstore.commands.opening import open_async_store, open_store


class Kind(Enum):
    """What a call does."""

    SET = "set"
    GET = "get"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Call:
    """One batch: its keys, and for a set the values."""

    kind: Kind
    keys: list[bytes]
    value_size: int
    values: Sequence[memoryview] = ()

    def check(self, answers: Sequence[int]) -> None:
        """Raise unless every key has the answer that a measurement may count."""
        good = {Kind.SET: int(SetStatus.OK), Kind.GET: self.value_size, Kind.EXISTS: 1}[self.kind]
        for answer in answers:
            if answer != good:
                said = SetStatus(answer).name if self.kind is Kind.SET else str(int(answer))
                raise KVStoreError(f"a {self.kind.value} of the benchmark was answered by {said}")


@dataclass(slots=True)
class Timing:
    """What callers took together."""

    call_ns: list[int]
    wall_ns: int

    def add(self, other: "Timing") -> None:
        """Count what came later, too."""
        self.call_ns += other.call_ns
        self.wall_ns += other.wall_ns


class Callers(Protocol):
    """Whatever repeats calls on an open store; a context manager that closes it."""

    def __enter__(self) -> Self:
        """Return the callers."""

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""

    def run(self, calls: Iterator[Call], seconds: float) -> Timing:
        """Make calls until there are none left, or time is over; each caller at least one."""

    def delete(self, keys: list[bytes]) -> None:
        """Delete keys."""

    def stats(self) -> Stats:
        """Return gauges and counters."""


class Threads:
    """Callers that block, each on a thread."""

    def __init__(self, url: str, count: int, buffer_size: int) -> None:
        """Open the store for *count* callers that read up to *buffer_size* bytes in a call."""
        self._store: Store = open_store(url, scrub_bytes_per_s=0)
        self._stopping = Event()
        self._regions = [self._store.register(bytearray(buffer_size)) for _ in range(count)]

    def __enter__(self) -> Self:
        """Return the callers."""
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        self._store.close()
        for region in self._regions:
            region.close()

    def run(self, calls: Iterator[Call], seconds: float) -> Timing:
        """Make calls on every thread."""
        start_ns = perf_counter_ns()
        deadline_ns = start_ns + int(seconds * 1e9)
        with ThreadPoolExecutor(len(self._regions)) as pool:
            running = [
                pool.submit(self._repeat, calls, deadline_ns, region) for region in self._regions
            ]
            try:
                times = [time for done in running for time in done.result()]
            except BaseException:  # the pool waits for the others: they must not go on for long
                self._stopping.set()
                raise
        return Timing(times, perf_counter_ns() - start_ns)

    def delete(self, keys: list[bytes]) -> None:
        """Delete keys."""
        self._store.batch_delete(keys)

    def stats(self) -> Stats:
        """Return gauges and counters."""
        return self._store.stats()

    def _repeat(self, calls: Iterator[Call], deadline_ns: int, region: Region) -> list[int]:
        times: list[int] = []
        for call in calls:
            act = self._action(call, region)
            start_ns = perf_counter_ns()
            answers = act()
            times.append(perf_counter_ns() - start_ns)
            call.check(answers)
            if perf_counter_ns() >= deadline_ns or self._stopping.is_set():
                break
        return times

    def _action(self, call: Call, region: Region) -> Callable[[], Sequence[int]]:
        store = self._store
        if call.kind is Kind.SET:
            return lambda: store.batch_set(call.keys, call.values)
        if call.kind is Kind.EXISTS:
            return lambda: store.batch_exists(call.keys)
        buffers = slices(region, call)
        return lambda: store.batch_get_into(call.keys, buffers)


class Clients:
    """Callers that await, each a task of one event loop."""

    def __init__(self, url: str, count: int, workers: int, buffer_size: int) -> None:
        """Open the store for *count* callers that read up to *buffer_size* bytes in a call."""
        self._loop = asyncio.Runner()
        self._store: AsyncStore = self._loop.run(opened(url, workers))
        self._regions = [self._store.register(bytearray(buffer_size)) for _ in range(count)]

    def __enter__(self) -> Self:
        """Return the callers."""
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store and the loop."""
        self._loop.run(self._store.close())
        self._loop.close()
        for region in self._regions:
            region.close()

    def run(self, calls: Iterator[Call], seconds: float) -> Timing:
        """Make calls in every task."""
        start_ns = perf_counter_ns()
        times = self._loop.run(self._run(calls, start_ns + int(seconds * 1e9)))
        return Timing(times, perf_counter_ns() - start_ns)

    def delete(self, keys: list[bytes]) -> None:
        """Delete keys."""
        self._loop.run(self._delete(keys))

    def stats(self) -> Stats:
        """Return gauges and counters."""
        return self._loop.run(self._store.stats())

    async def _run(self, calls: Iterator[Call], deadline_ns: int) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._repeat(calls, deadline_ns, region))
                for region in self._regions
            ]
        return [time for task in tasks for time in task.result()]

    async def _repeat(self, calls: Iterator[Call], deadline_ns: int, region: Region) -> list[int]:
        times: list[int] = []
        for call in calls:
            buffers = slices(region, call) if call.kind is Kind.GET else []
            start_ns = perf_counter_ns()
            answers = await self._act(call, buffers)
            times.append(perf_counter_ns() - start_ns)
            call.check(answers)
            if perf_counter_ns() >= deadline_ns:
                break
        return times

    async def _act(self, call: Call, buffers: list[memoryview]) -> Sequence[int]:
        if call.kind is Kind.SET:
            return await self._store.batch_set(call.keys, call.values)
        if call.kind is Kind.EXISTS:
            return await self._store.batch_exists(call.keys)
        return await self._store.batch_get_into(call.keys, buffers)

    async def _delete(self, keys: list[bytes]) -> None:
        await self._store.batch_delete(keys)


async def opened(url: str, workers: int) -> AsyncStore:
    """Open a store on the running loop."""
    return await open_async_store(url, workers=workers, lanes=workers, scrub_bytes_per_s=0)


def slices(region: Region, call: Call) -> list[memoryview]:
    """Return a buffer of the region for each key of a get."""
    size = call.value_size
    return [region[i * size : (i + 1) * size] for i in range(len(call.keys))]
