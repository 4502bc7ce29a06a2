"""Both ends of a connection for control messages, and one that says whatever a test likes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from kvstore.addresses import Address
from kvstore.cluster.rpc.connection import Connection, connect
from kvstore.cluster.rpc.frame import HEAD_SIZE, MAGIC, decode_body, encode_frame
from kvstore.cluster.rpc.service import Peer, Service, serve
from kvstore.errors import InvalidOptionError, KVStoreError

SECRET = b"a secret of the cluster"
TIMEOUT_S = 20.0
LOOPBACK = Address("127.0.0.1", 0)


class Echo:
    """Answers what it is asked, at once or later; fails when asked to."""

    def __init__(self) -> None:
        self.gone: list[str] = []
        self.bugs: list[str] = []
        self.release = asyncio.Event()
        self.peers: list[Peer] = []

    def request(
        self, peer: Peer, method: str, parameters: object, timeout_s: float
    ) -> object | Awaitable[object]:
        if peer not in self.peers:
            self.peers.append(peer)
        if method == "echo":
            return parameters
        if method == "later":
            return self.later(parameters)
        if method == "refuse":
            raise InvalidOptionError("not that one")
        if method == "push":
            peer.push(7, parameters)
            return None
        raise RuntimeError("a bug")

    async def later(self, parameters: object) -> object:
        await self.release.wait()
        return parameters

    def writable(self, peer: Peer) -> None:
        pass

    def closed(self, peer: Peer) -> None:
        self.gone.append(peer.name)

    def failed(self, peer: Peer, method: str, error: Exception) -> None:
        self.bugs.append(f"{method}: {error}")


@asynccontextmanager
async def service(echo: Echo, secret: bytes = SECRET) -> AsyncIterator[Service]:
    made = await serve(LOOPBACK, secret, echo)
    try:
        yield made
    finally:
        await made.close()


def address_of(made: Service) -> Address:
    return Address("127.0.0.1", made.port)


async def connected(
    made: Service, secret: bytes = SECRET, pushes: list[object] | None = None
) -> Connection:
    def pushed(number: int, news: object) -> None:
        if pushes is not None:
            pushes.append((number, news))

    return await connect(
        address_of(made), secret=secret, name="test", timeout_s=TIMEOUT_S, pushed=pushed
    )


class Raw:
    """A connection that says whatever a test likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, made: Service) -> "Raw":
        return cls(*await asyncio.open_connection("127.0.0.1", made.port))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    def greet(self, message: list[object]) -> None:
        self.send(MAGIC + encode_frame(message))

    async def magic(self) -> bytes:
        return await self._reader.readexactly(len(MAGIC))

    async def frame(self) -> bytes:
        head = await self._reader.readexactly(HEAD_SIZE)
        return await self._reader.readexactly(int.from_bytes(head, "little"))

    async def message(self) -> list[object]:
        return decode_body(await self.frame())

    async def rest(self) -> bytes:
        """Return everything until the other end closes."""
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""

    def close(self) -> None:
        self._writer.close()


async def refused(made: Service, secret: bytes) -> KVStoreError:
    """Return why a connection was refused."""
    try:
        connection = await connected(made, secret)
    except KVStoreError as error:
        return error
    connection.abort()
    raise AssertionError("it was not refused")
