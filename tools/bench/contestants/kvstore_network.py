"""This store's nodes by the URL that `kvstore up` prints: blocking, and many batches in flight."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvloop

import kvstore
from tools.bench.contestants.base import Options, Peer
from tools.bench.failures import ContestantError
from tools.bench.pages import Batch


class Network(Peer):
    """The blocking API; the option `url` says where."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Connect."""
        del directory
        self._store = kvstore.connect_sync(str(options["url"]))

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Set with one call."""
        statuses = self._store.batch_set(keys, values)
        if any(statuses):
            raise ContestantError(f"batch_set answered {max(statuses).name}")

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Get with one call."""
        sizes = self._store.batch_get_into(keys, targets)
        if min(sizes) < 0:
            raise ContestantError(f"batch_get_into answered {min(sizes)}")

    def get_one(self, key: bytes) -> bytes | None:
        """Get one value as fresh bytes."""
        return self._store.get(key)

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Look up with one call."""
        return self._store.batch_exists(keys)

    def close(self) -> None:
        """Disconnect."""
        self._store.close()


class AsyncNetwork(Peer):
    """The asyncio API on uvloop."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Connect."""
        del directory
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._store = self._runner.run(connected(str(options["url"])))

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Set with one call."""
        statuses = self._runner.run(self._store.batch_set(keys, values))
        if any(statuses):
            raise ContestantError(f"batch_set answered {max(statuses).name}")

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Get with one call."""
        sizes = self._runner.run(self._store.batch_get_into(keys, targets))
        if min(sizes) < 0:
            raise ContestantError(f"batch_get_into answered {min(sizes)}")

    def get_pipelined(
        self, batches: Iterator[Batch], depth: int, limit_s: float
    ) -> list[tuple[Batch, float]]:
        """Keep *depth* batches in flight for a while; each with its latency, as they ended."""
        done: list[tuple[Batch, float]] = []
        self._runner.run(self._get_pipelined(batches, depth, limit_s, done))
        return done

    async def _get_pipelined(
        self, batches: Iterator[Batch], depth: int, limit_s: float, done: list[tuple[Batch, float]]
    ) -> None:
        end = time.perf_counter() + limit_s

        async def one_after_another() -> None:
            for batch in batches:
                before = time.perf_counter()
                if before >= end:
                    return
                sizes = await self._store.batch_get_into(batch.keys, batch.targets)
                if min(sizes) < 0:
                    raise ContestantError(f"batch_get_into answered {min(sizes)}")
                done.append((batch, time.perf_counter() - before))

        await asyncio.gather(*(one_after_another() for _ in range(depth)))

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Look up with one call."""
        return self._runner.run(self._store.batch_exists(keys))

    def close(self) -> None:
        """Disconnect."""
        self._runner.run(self._store.close())
        self._runner.close()


async def connected(url: str) -> kvstore.AsyncStore:
    """Connect on the loop that calls."""
    return await kvstore.connect(url)
