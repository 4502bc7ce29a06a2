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


class Embedded:
    """A store without background scrub: it would read while others are measured."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Open the store; *options* are those of kvstore.connect_sync."""
        chosen = [("scrub_bytes_per_s", 0), *options.items()]
        query = "&".join(f"{name}={value}" for name, value in chosen)
        self._store = kvstore.connect_sync(f"file://{quote(str(directory))}?{query}")
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
        stats = self._store.stats()
        return {name: getattr(stats, name) for name in STATISTICS}

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
