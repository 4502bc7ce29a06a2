"""diskcache: SQLite, and one file for each large value."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tools.bench.contestants.base import Options, Peer
from tools.bench.failures import ContestantError

SIZE_LIMIT = 8 << 30


class DiskCache(Peer):
    """A cache that neither evicts nor flushes."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Open the cache; there are no *options*."""
        del options
        self._cache = import_module("diskcache").Cache(
            str(directory / "cache"),
            size_limit=SIZE_LIMIT,
            eviction_policy="none",
            sqlite_synchronous=0,
        )

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Set in one transaction."""
        with self._cache.transact():
            for key, value in zip(keys, values, strict=True):
                self._cache.set(key, bytes(value))

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Get one by one: it has no other way; then copy."""
        for key, target in zip(keys, targets, strict=True):
            value = self._cache.get(key)
            if value is None:
                raise ContestantError("a key is missing")
            target[:] = value

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Look up one by one."""
        return [key in self._cache for key in keys]

    def close(self) -> None:
        """Close the cache."""
        self._cache.close()
