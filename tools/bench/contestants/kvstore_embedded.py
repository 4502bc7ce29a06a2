"""This store, by its blocking API."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import kvstore
from tools.bench.contestants.base import Options
from tools.bench.failures import ContestantError

STATISTICS = (
    "description",
    "objects",
    "get_memory_hits",
    "memory_huge_size",
    "device_reads",
    "device_read_bytes",
    "device_writes",
    "device_write_bytes",
    "device_flushes",
    "index_size",
    "recovered_records",
)


def url_of(directory: Path, options: Options) -> str:
    """Return a URL without background scrub: it would read while others are measured."""
    chosen = [("scrub_bytes_per_s", 0), *options.items()]
    query = "&".join(f"{name}={value}" for name, value in chosen)
    return f"file://{quote(str(directory))}?{query}"


def statistics_of(stats: kvstore.Stats) -> dict[str, float | str]:
    """Return the counters that explain a figure."""
    return {name: getattr(stats, name) for name in STATISTICS}


class Embedded:
    """A store whose calls block."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Open the store; *options* are those of kvstore.connect_sync."""
        self._store = kvstore.connect_sync(url_of(directory, options))
        self._regions: list[kvstore.Region] = []

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

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Look up with one call."""
        return self._store.batch_exists(keys)

    def statistics(self) -> dict[str, float | str]:
        """Return the counters that explain a figure."""
        return statistics_of(self._store.stats())

    def register(self, buffers: Sequence[memoryview]) -> None:
        """Have the device know the buffers."""
        self._regions += [self._store.register(buffer) for buffer in buffers]

    def unregister(self) -> None:
        """Have it forget them."""
        while self._regions:
            self._regions.pop().close()

    def close(self) -> None:
        """Close the store."""
        self.unregister()
        self._store.close()
