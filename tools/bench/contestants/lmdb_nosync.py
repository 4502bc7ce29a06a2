"""LMDB without fsync: a transaction a batch, values copied from the mapped file into the buffer."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tools.bench.contestants.base import Options, Peer
from tools.bench.failures import ContestantError

MAP_SIZE = 4 << 30


class LMDB(Peer):
    """An environment with sync=False, as a cache would use it."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Open the environment; there are no *options*."""
        del options
        self._environment = import_module("lmdb").open(
            str(directory / "db"), map_size=MAP_SIZE, sync=False, metasync=False
        )

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Put in one transaction."""
        with self._environment.begin(write=True) as transaction:
            for key, value in zip(keys, values, strict=True):
                transaction.put(key, value)

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Get views of the file in one transaction and copy each."""
        with self._environment.begin(buffers=True) as transaction:
            for key, target in zip(keys, targets, strict=True):
                value = transaction.get(key)
                if value is None:
                    raise ContestantError("a key is missing")
                target[:] = value

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Get views without looking at them."""
        with self._environment.begin(buffers=True) as transaction:
            return [transaction.get(key) for key in keys]

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()
