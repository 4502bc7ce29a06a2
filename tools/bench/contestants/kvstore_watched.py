"""Readers and writers that go on while something happens to the cluster.

Each key has one writer and one reader, with a short pause between their requests. Guarantees: a
read that returns less than was acknowledged before it began counts as failed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from kvstore.errors import KVStoreError
from tools.bench.contestants.kvstore_network import AsyncNetwork
from tools.bench.stalls import Call, around

COUNTER_SIZE = 8
FAILURES_SHOWN = 5


@dataclass(slots=True)
class Watched:
    """One key, and the requests on it that succeeded."""

    key: bytes
    reads: list[Call] = field(default_factory=list)
    writes: list[Call] = field(default_factory=list)
    acknowledged: int = 0


class WatchedNetwork(AsyncNetwork):
    """The asyncio API on uvloop; the option `url` says where."""

    def watch(
        self, keys: int, size: int, pause_s: float, start_at: float, event_at: float, end_at: float
    ) -> dict[str, object]:
        """Read and write until the end; what that took before the event and after it.

        Times are of the monotonic clock, which all processes of a machine share.
        """
        watched = [Watched(f"watched-{i}".encode()) for i in range(keys)]
        failures: list[str] = []
        self._runner.run(self._watch(watched, size, pause_s, end_at, failures))
        times = (start_at, event_at, end_at)
        return {
            "reads": around([each.reads for each in watched], *times),
            "writes": around([each.writes for each in watched], *times),
            "failed": len(failures),
            "failures": failures[:FAILURES_SHOWN],
        }

    async def _watch(
        self,
        watched: list[Watched],
        size: int,
        pause_s: float,
        end_at: float,
        failures: list[str],
    ) -> None:
        async def again_and_again(once: Callable[[], Awaitable[None]], calls: list[Call]) -> None:
            while (called := time.monotonic()) < end_at:
                try:
                    await once()
                    calls.append((called, time.monotonic()))
                except KVStoreError as error:
                    failures.append(f"{time.monotonic():.3f} {type(error).__name__}: {error}")
                await asyncio.sleep(pause_s)

        padding = bytes(size - COUNTER_SIZE)
        for each in watched:
            await self._write(each, padding)
        await asyncio.gather(
            *(again_and_again(self._writing(each, padding), each.writes) for each in watched),
            *(again_and_again(self._reading(each), each.reads) for each in watched),
        )

    def _writing(self, each: Watched, padding: bytes) -> Callable[[], Awaitable[None]]:
        async def once() -> None:
            await self._write(each, padding)

        return once

    async def _write(self, each: Watched, padding: bytes) -> None:
        number = each.acknowledged + 1
        await self._store.set(each.key, number.to_bytes(COUNTER_SIZE, "little") + padding)
        each.acknowledged = number

    def _reading(self, each: Watched) -> Callable[[], Awaitable[None]]:
        async def once() -> None:
            acknowledged = each.acknowledged
            value = await self._store.get(each.key)
            number = int.from_bytes((value or b"")[:COUNTER_SIZE], "little")
            if number < acknowledged:
                raise KVStoreError(f"{each.key!r}: {number} was read, after {acknowledged}")

        return once
