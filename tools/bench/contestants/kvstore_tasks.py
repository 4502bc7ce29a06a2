"""This store, by its asyncio API: many setters are tasks of one event loop."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TypeVar

import kvstore
from tools.bench.contestants.base import Options, Peer
from tools.bench.contestants.kvstore_embedded import statistics_of, url_of
from tools.bench.failures import ContestantError
from tools.bench.pages import Batch

T = TypeVar("T")


async def opened(url: str) -> kvstore.AsyncStore:
    """Open the store."""
    return await kvstore.connect(url)


class EmbeddedTasks(Peer):
    """A store on an event loop of its own, which runs while a call does."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Open the store; *options* are those of kvstore.connect."""
        self._runner = asyncio.Runner()
        self._store = self._run(opened(url_of(directory, options)))

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Set with one call."""
        self._run(self._set(keys, values))

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Get with one call."""
        sizes = self._run(self._store.batch_get_into(keys, targets))
        if min(sizes) < 0:
            raise ContestantError(f"batch_get_into answered {min(sizes)}")

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Look up with one call."""
        return self._run(self._store.batch_exists(keys))

    def set_by_tasks(self, parts: Sequence[Sequence[Batch]]) -> list[float]:
        """Set the batches of each part in turn, and all parts at once; seconds of each set."""
        return self._run(self._set_parts(parts))

    def statistics(self) -> dict[str, float | str]:
        """Return the counters that explain a figure."""
        return statistics_of(self._run(self._store.stats()))

    def close(self) -> None:
        """Close the store and the loop."""
        self._run(self._store.close())
        self._runner.close()

    def _run(self, work: Coroutine[object, object, T]) -> T:
        return self._runner.run(work)

    async def _set(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        statuses = await self._store.batch_set(keys, values)
        if any(statuses):
            raise ContestantError(f"batch_set answered {max(statuses).name}")

    async def _set_parts(self, parts: Sequence[Sequence[Batch]]) -> list[float]:
        seconds: list[float] = []
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(self._set_part(part, seconds))
        return seconds

    async def _set_part(self, part: Sequence[Batch], seconds: list[float]) -> None:
        for batch in part:
            before = time.perf_counter()
            await self._set(batch.keys, batch.sources)
            seconds.append(time.perf_counter() - before)
