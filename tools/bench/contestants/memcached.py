"""memcached by pymemcache, over TCP."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tools.bench.contestants.base import Options, Peer
from tools.bench.failures import ContestantError


class Memcached(Peer):
    """A client of the option `port` of loopback."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Connect."""
        del directory
        library = import_module("pymemcache.client.base")
        self._client = library.Client(("127.0.0.1", options["port"]), no_delay=True)
        self._client.version()

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Set with one pipelined call, each answered."""
        pairs = {key: bytes(value) for key, value in zip(keys, values, strict=True)}
        if self._client.set_many(pairs, noreply=False):
            raise ContestantError("some sets failed")

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Get with one call, then copy each."""
        found = self._client.get_many(keys)
        if len(found) < len(keys):
            raise ContestantError("a key is missing")
        for key, target in zip(keys, targets, strict=True):
            target[:] = found[key]

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Get values: it has no cheaper look-up."""
        found = self._client.get_many(keys)
        return [key in found for key in keys]

    def close(self) -> None:
        """Disconnect."""
        self._client.close()
