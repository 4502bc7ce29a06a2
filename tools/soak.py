"""A soak: a mix of batches over a bounded set of keys, every value checked, with flat memory.

`python -m tools.soak --operations 10_000_000` prints what the process holds as it goes, and ends
with an error when memory or descriptors grow with the number of operations, when a value is wrong,
or when space is lost. An operation is one key of one batch; a failure repeats with the same --seed.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import kvstore
from kvstore import SetStatus

KIB = 1 << 10
MIB = 1 << 20

CLIENTS = 8
"""Batches in flight; each client has keys of its own, so it knows what they hold."""
KEYS_A_CLIENT = 2000
BATCH_COUNT_MAX = 64
CAPACITY = 96 * MIB
"""Less than the keys could fill, so that there is eviction all the time."""
MEMORY = 96 * MIB
SIZES_SMALL = (16, 60, 100, 500, 1000, 3000)
SIZES_LARGE = (4096, 5000, 9000, 16 * KIB, 40 * KIB, 130 * KIB)
PHASE_BATCHES = 100
"""After so many batches a client prefers other sizes, which empties slab classes into others."""
SAMPLES = 100
WARM_UP_SHARE = 0.3
GROWTH_PER_OPERATION_MAX = 1.0
"""Bytes: a MiB in a million operations, of which each takes kilobytes for a while."""
GROWTH_NOISE = 4 * MIB
"""What the allocators may still settle after the warm-up, however short the soak."""


class SoakError(Exception):
    """The store broke a promise."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process held after some operations."""

    operations: int
    resident_size: int
    descriptors: int


@dataclass(frozen=True, slots=True)
class Report:
    """How a soak went."""

    operations: int
    duration_s: float
    samples: tuple[Sample, ...]
    stats: kvstore.Stats

    @property
    def warm(self) -> tuple[Sample, ...]:
        """The samples after the warm-up."""
        return tuple(s for s in self.samples if s.operations >= WARM_UP_SHARE * self.operations)

    @property
    def growth_per_operation(self) -> float:
        """Bytes of resident memory by which each operation grows the process; least squares."""
        return slope((s.operations, s.resident_size) for s in self.warm)

    def check(self) -> None:
        """Raise unless memory and descriptors are flat after the warm-up."""
        first, last = self.warm[0], self.warm[-1]
        growth = self.growth_per_operation * (last.operations - first.operations)
        allowed = max(GROWTH_PER_OPERATION_MAX * (last.operations - first.operations), GROWTH_NOISE)
        if growth > allowed:
            raise SoakError(f"memory grew by {growth / MIB:.1f} MiB, {allowed / MIB:.1f} allowed")
        if last.descriptors > first.descriptors:
            raise SoakError(f"descriptors grew from {first.descriptors} to {last.descriptors}")


def slope(points: Iterable[tuple[float, float]]) -> float:
    """Return the least-squares slope of points (x, y)."""
    pairs = list(points)
    mean_x = sum(x for x, _ in pairs) / len(pairs)
    mean_y = sum(y for _, y in pairs) / len(pairs)
    spread = sum((x - mean_x) ** 2 for x, _ in pairs)
    return sum((x - mean_x) * (y - mean_y) for x, y in pairs) / spread


def sample(operations: int) -> Sample:
    """Look at this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    resident_size = pages * os.sysconf("SC_PAGE_SIZE")
    return Sample(operations, resident_size, len(os.listdir("/proc/self/fd")))


def keys_of(name: int) -> list[bytes]:
    """Return the keys of one client."""
    return [b"client%d/%d" % (name, i) for i in range(KEYS_A_CLIENT)]


class Client:
    """One client's keys, what they should hold, and one buffer for each key of a batch."""

    def __init__(self, store: kvstore.AsyncStore, name: int, seed: int) -> None:
        """Start with no object."""
        self.store = store
        self.random = random.Random(seed * CLIENTS + name)
        self.keys = keys_of(name)
        self.held: dict[bytes, tuple[int, int]] = {}
        self.sequence = 0
        self.batches = 0
        self.source = bytes(self.random.randbytes(1024)) * (SIZES_LARGE[-1] // 1024 + 2)
        self.buffers = [bytearray(SIZES_LARGE[-1]) for _ in range(BATCH_COUNT_MAX)]

    async def warm_up(self) -> None:
        """Set every key, which touches most memory that there is to touch."""
        for i in range(0, KEYS_A_CLIENT, BATCH_COUNT_MAX):
            await self.set(self.keys[i : i + BATCH_COUNT_MAX])

    async def batch(self) -> int:
        """Do one batch; returns its number of keys."""
        self.batches += 1
        keys = self.random.sample(self.keys, self.random.randint(1, BATCH_COUNT_MAX))
        dice = self.random.random()
        if dice < 0.45:
            await self.get(keys)
        elif dice < 0.75:
            await self.set(keys)
        elif dice < 0.85:
            await self.delete(keys)
        else:
            await self.look(keys)
        return len(keys)

    def value(self, sequence: int, size: int) -> memoryview:
        """Return the value of a set: a window of random bytes that begins where it says."""
        return memoryview(self.source)[sequence % 1024 :][:size]

    def next_value(self) -> tuple[int, int]:
        """Choose the next (sequence, size), with the sizes of this phase."""
        self.sequence += 1
        large = self.batches // PHASE_BATCHES % 2 == 0
        sizes = SIZES_LARGE if self.random.random() < (0.5 if large else 0.05) else SIZES_SMALL
        return self.sequence, self.random.choice(sizes)

    async def set(self, keys: list[bytes]) -> None:
        """Set and overwrite; some values expire at once or in the course of the soak."""
        new = {key: self.next_value() for key in keys}
        ttl_s = self.random.choice((None, None, 0.001, 3600.0))
        values = [self.value(*value) for value in new.values()]
        statuses = await self.store.batch_set(keys, values, ttl_s=ttl_s)
        if set(statuses) != {SetStatus.OK}:
            raise SoakError(f"sets answered {set(statuses)}")
        self.held.update(new)

    async def get(self, keys: list[bytes]) -> None:
        """Get, with every byte compared; a cache may have lost a key, but it never errs."""
        sizes = await self.store.batch_get_into(keys, self.buffers[: len(keys)])
        for key, size, buffer in zip(keys, sizes, self.buffers, strict=False):
            if size == -1:
                continue
            held = self.held.get(key)
            if size < 0 or held is None or memoryview(buffer)[:size] != self.value(*held):
                raise SoakError(f"{key!r}: got {size}, it was set to (sequence, size) {held}")

    async def delete(self, keys: list[bytes]) -> None:
        """Delete."""
        await self.store.batch_delete(keys)
        for key in keys:
            self.held.pop(key, None)

    async def look(self, keys: list[bytes]) -> None:
        """Ask without reading, and pin for a moment."""
        exist = await self.store.batch_exists(keys)
        if any(e and key not in self.held for key, e in zip(keys, exist, strict=True)):
            raise SoakError("a deleted key exists")
        await self.store.match_prefix(keys)
        await self.store.batch_stat(keys)
        await self.store.pin(keys[:4])
        await self.store.unpin(keys[:4])


class Soak:
    """The clients' common count, and the samples taken as it grows."""

    def __init__(self, operations: int, seed: int) -> None:
        """Plan so many operations."""
        self.operations = operations
        self.seed = seed
        self.done = 0
        self.samples: list[Sample] = []
        self.began_s = time.monotonic()

    async def run(self, directory: Path) -> Report:
        """Soak a store in *directory*."""
        async with kvstore.connect(
            f"file://{directory}", capacity=CAPACITY, memory=MEMORY, eviction="cache"
        ) as store:
            async with asyncio.TaskGroup() as group:
                for name in range(CLIENTS):
                    group.create_task(self.serve(Client(store, name, self.seed)))
            stats = await store.stats()
            duration_s = time.monotonic() - self.began_s
            await check_space(store)
        return Report(self.done, duration_s, tuple(self.samples), stats)

    async def serve(self, client: Client) -> None:
        """Have a client do batches until all operations are done."""
        await client.warm_up()
        while self.done < self.operations:
            count = await client.batch()
            self.done += count
            if self.done >= len(self.samples) * self.operations / SAMPLES:
                self.samples.append(sample(self.done))
                self.show()

    def show(self) -> None:
        """Print every twentieth of the way."""
        if len(self.samples) % (SAMPLES // 20) == 1:
            now, elapsed_s = self.samples[-1], time.monotonic() - self.began_s
            print(
                f"{now.operations:>12,} operations {elapsed_s:8.1f} s"
                f" {now.resident_size / MIB:8.1f} MiB resident {now.descriptors:4} descriptors",
                flush=True,
            )


async def check_space(store: kvstore.AsyncStore) -> None:
    """Raise unless what is stored verifies, and everything is free once it is deleted."""
    if (found := await store.verify()).bad:
        raise SoakError(f"verification: {found.bad}")
    for name in range(CLIENTS):
        keys = keys_of(name)
        await store.batch_set(keys, [b""] * len(keys))  # what has expired counts until it is swept
        await store.batch_delete(keys)
    await store.checkpoint()
    await store.compact()
    stats, live = await store.stats(), sum(row.live_size for row in await store.slabs())
    if stats.objects or stats.value_size or live or stats.in_flight or stats.offline:
        raise SoakError(f"everything is deleted, yet {live} bytes are live: {stats}")


def soak(operations: int, seed: int, directory: Path) -> Report:
    """Soak a store in *directory* and check the result."""
    report = asyncio.run(Soak(operations, seed).run(directory))
    report.check()
    return report


def main() -> int:
    """Soak as the command line says; 1 when the store broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument("--operations", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, help="where the store is made, and removed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kvstore-soak-", dir=arguments.directory) as directory:
        try:
            report = soak(arguments.operations, arguments.seed, Path(directory) / "store")
        except (SoakError, ExceptionGroup) as error:
            print(f"seed {arguments.seed}: {error!r}", file=sys.stderr)
            return 1
    stats, rate = report.stats, report.operations / report.duration_s
    print(
        f"{report.operations:,} operations in {report.duration_s:.1f} s, {rate:,.0f} a second;"
        f" memory grows by {report.growth_per_operation * 1e6 / MIB:+.3f} MiB in a million;"
        f" {stats.evictions:,} evictions, {stats.expirations:,} expirations,"
        f" {stats.checkpoints:,} checkpoints, {stats.compactions:,} compactions"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
