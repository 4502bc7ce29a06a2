"""Mooncake Store over TCP, by its zero-copy batches between registered buffers and its memory."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tools.bench.contestants.base import Options, Peer
from tools.bench.contestants.memcpy import address_of
from tools.bench.failures import ContestantError

LOCAL_SIZE = 64 << 20


class Mooncake(Peer):
    """A client without memory of its own to lend; the option `port` is the master's."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Connect."""
        del directory
        self._store = import_module("mooncake.store").MooncakeDistributedStore()
        master = f"127.0.0.1:{options['port']}"
        code = self._store.setup("127.0.0.1", "P2PHANDSHAKE", 0, LOCAL_SIZE, "tcp", "", master)
        if code:
            raise ContestantError(f"setup answered {code}")
        self._addresses: dict[int, int] = {}
        self._registered: list[int] = []
        self._known: set[bytes] = set()

    def register(self, buffers: Sequence[memoryview]) -> None:
        """Register memory: the zero-copy calls take no other."""
        for buffer in buffers:
            address = address_of(buffer)
            code = self._store.register_buffer(address, len(buffer))
            if code:
                raise ContestantError(f"register_buffer answered {code}")
            self._registered.append(address)

    def unregister(self) -> None:
        """Have it forget them."""
        while self._registered:
            self._store.unregister_buffer(self._registered.pop())
        self._addresses.clear()

    def make_room(self, keys: Sequence[bytes]) -> None:
        """Remove those keys that are there: a put does not replace."""
        known = [key.decode() for key in keys if key in self._known]
        if known:
            self._store.batch_remove(known, True)
            self._known.difference_update(keys)

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Put from where the values lie."""
        addresses, sizes = self._located(values)
        codes = self._store.batch_put_from([key.decode() for key in keys], addresses, sizes)
        if any(codes):
            raise ContestantError(f"batch_put_from answered {min(codes)}")
        self._known.update(keys)

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Get to where the values belong."""
        addresses, sizes = self._located(targets)
        found = self._store.batch_get_into([key.decode() for key in keys], addresses, sizes)
        if list(found) != sizes:
            raise ContestantError(f"batch_get_into answered {min(found)}")

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Look up with one call."""
        found = self._store.batch_is_exist([key.decode() for key in keys])
        return [code == 1 for code in found]

    def close(self) -> None:
        """Disconnect."""
        self._store.close()

    def _located(self, views: Sequence[memoryview]) -> tuple[list[int], list[int]]:
        # Buffers come again and again: their addresses are looked up once, not on the clock.
        found = []
        for view in views:
            address = self._addresses.get(id(view))
            if address is None:
                address = self._addresses[id(view)] = address_of(view)
            found.append(address)
        return found, [len(view) for view in views]
