"""LMCache's server in its own protocol: requests pipelined, values received into the buffers.

It has no batches and answers no put: a look-up behind the last one shows that all have arrived.
"""

import hashlib
import socket
import struct
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tools.bench.contestants.base import Options, Peer
from tools.bench.failures import ContestantError

KEY_SIZE_MAX = 150
REQUEST = struct.Struct(f"9i{KEY_SIZE_MAX}s")
HASH_SIZE = 7
SUCCESS = 200


class LMCache(Peer):
    """A client of the option `port` of loopback."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Connect."""
        del directory
        protocol = import_module("lmcache.v1.protocol")
        self._key_of = import_module("lmcache.utils").CacheEngineKey
        self._type = import_module("torch").uint8
        self._type_code = protocol.DTYPE_TO_INT[self._type]
        self._format = import_module("lmcache.v1.memory_management").MemoryFormat.BINARY.value
        self._commands = protocol.ClientCommand
        self._reply = bytearray(protocol.ServerMetaMessage.packlength())
        self._socket = socket.create_connection(("127.0.0.1", int(options["port"])))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._names: dict[bytes, bytes] = {}

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Put one after another, then look up the last."""
        for key, value in zip(keys, values, strict=True):
            request = self._request(self._commands.PUT.value, key, len(value))
            self._socket.sendall(request)
            self._socket.sendall(value)
        if not self.exists_batch(keys[-1:])[0]:
            raise ContestantError("a put failed")

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Send all requests, then receive each value into its buffer."""
        code = self._commands.GET.value
        self._socket.sendall(b"".join([self._request(code, key, 0) for key in keys]))
        for target in targets:
            if not self._succeeded():
                raise ContestantError("a key is missing")
            self._receive(target)

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Send all requests, then receive the answers."""
        code = self._commands.EXIST.value
        self._socket.sendall(b"".join([self._request(code, key, 0) for key in keys]))
        return [self._succeeded() for _ in keys]

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()

    def _request(self, command: int, key: bytes, size: int) -> bytes:
        name = self._names.get(key)
        if name is None:
            number = int.from_bytes(hashlib.blake2b(key, digest_size=HASH_SIZE).digest(), "big")
            text = self._key_of("bench", 1, 0, number, self._type).to_string()
            name = self._names[key] = text.encode().ljust(KEY_SIZE_MAX)
        return REQUEST.pack(command, size, self._format, self._type_code, 0, size, 0, 0, 0, name)

    def _succeeded(self) -> bool:
        self._receive(memoryview(self._reply))
        code: int = struct.unpack_from("i", self._reply)[0]
        return code == SUCCESS

    def _receive(self, target: memoryview) -> None:
        received = 0
        while received < len(target):
            size = self._socket.recv_into(target[received:])
            if size == 0:
                raise ContestantError("the connection ended")
            received += size
