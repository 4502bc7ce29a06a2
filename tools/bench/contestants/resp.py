"""What speaks Redis's protocol, by redis-py or valkey-py with hiredis, over TCP."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tools.bench.contestants.base import Options, Peer
from tools.bench.failures import ContestantError

READ_SIZE = 1 << 20


class RESP(Peer):
    """Batches by way of a connected client, which whoever derives from this makes."""

    _client: Any

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Pipeline SET."""
        pipeline = self._client.pipeline(transaction=False)
        for key, value in zip(keys, values, strict=True):
            pipeline.set(key, value)
        if not all(pipeline.execute()):
            raise ContestantError("SET failed")

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """MGET, then copy each."""
        for value, target in zip(self._client.mget(keys), targets, strict=True):
            if value is None:
                raise ContestantError("a key is missing")
            target[:] = value

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Pipeline EXISTS."""
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.exists(key)
        return [count > 0 for count in pipeline.execute()]

    def close(self) -> None:
        """Disconnect."""
        self._client.close()


class RedisTCP(RESP):
    """redis-py, connected to the option `port` of loopback."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Connect."""
        del directory
        library = import_module("redis")
        self._client = library.Redis("127.0.0.1", options["port"], socket_read_size=READ_SIZE)
        self._client.ping()


class Valkey(RESP):
    """valkey-py, connected to the option `port` of loopback."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Connect."""
        del directory
        library = import_module("valkey")
        self._client = library.Valkey("127.0.0.1", options["port"])
        self._client.ping()
