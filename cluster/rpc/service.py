"""The end of connections that answers: it greets, limits and cuts whoever connects.

What always holds, whoever connects:
1. Nobody is heard before the hello is done, and nobody keeps more than a hello's bytes until then.
2. A peer that does not take its answers is not read from, and is cut when that lasts.
3. A peer from which nothing comes is cut; clients ping.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable
from typing import Protocol, cast

from kvstore.addresses import Address
from kvstore.cluster.fields import Fields
from kvstore.cluster.rpc.failures import encode_failure
from kvstore.cluster.rpc.frame import (
    MAGIC,
    REQUEST_SIZE_MAX,
    FrameReader,
    decode_body,
    encode_frame,
)
from kvstore.cluster.rpc.hello import NONCE_SIZE, MgmtdHello, Refused, answer_to, refusal
from kvstore.cluster.rpc.message import (
    METHOD_SIZE_MAX,
    PING,
    REQUEST_ID_MAX,
    REQUESTS_IN_FLIGHT_MAX,
    TIMEOUT_MS_MAX,
    Kind,
)
from kvstore.errors import BusyError, KVStoreError, MalformedMessageError, NotMgmtdError

CONNECTIONS_MAX = 16_384
HELLO_TIMEOUT_S = 5.0
IDLE_TIMEOUT_S = 30.0
STALL_TIMEOUT_S = 10.0
SWEEP_S = 1.0
WRITE_BUFFER_MAX = 1 << 20
"""Bytes that wait to be sent to one peer before it is read from no more."""


class Peers(Protocol):
    """Who answers the peers of a service."""

    def request(
        self, peer: "Peer", method: str, parameters: object, timeout_s: float
    ) -> object | Awaitable[object]:
        """Return the result, or something to await for it, or raise."""

    def writable(self, peer: "Peer") -> None:
        """Learn that a peer that was slow takes pushes again."""

    def closed(self, peer: "Peer") -> None:
        """Learn that a peer that had been greeted is gone."""

    def failed(self, peer: "Peer", method: str, error: Exception) -> None:
        """Learn of a bug that a request brought out."""


async def serve(address: Address, secret: bytes, peers: Peers) -> "Service":
    """Listen at an address; port 0: any."""
    service = Service(secret, peers)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: Peer(service), address.name, address.port, backlog=1024
    )
    service.begin(listening)
    return service


class Service:
    """Everybody who is connected."""

    def __init__(self, secret: bytes, peers: Peers) -> None:
        """Listen when `begin` is called."""
        self.secret = secret
        self.peers = peers
        self.connected: set[Peer] = set()
        self.cut_count = 0
        self.refused_count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None

    def begin(self, listening: asyncio.Server) -> None:
        """Own the listening socket, and look after the connections."""
        self._listening = listening
        self.spawn(self._sweep())

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._listening is not None
        return int(self._listening.sockets[0].getsockname()[1])

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Do something until it is done or the service closes."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Listen no more, and end every connection."""
        if self._listening is not None:
            self._listening.close()
        for peer in list(self.connected):
            peer.abort()
        await asyncio.sleep(0)  # what was just begun must have begun to be cancelled
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _sweep(self) -> None:
        """Cut who is silent or slow."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = asyncio.get_running_loop().time()
            for peer in list(self.connected):
                if peer.overdue(now_s):
                    self.cut_count += 1
                    peer.abort()


class Peer(asyncio.Protocol):
    """One who is connected."""

    def __init__(self, service: Service) -> None:
        """Wait for its hello."""
        self.name = ""
        self.greeted = False
        self._service = service
        self._hello = MgmtdHello(service.secret, secrets.token_bytes(NONCE_SIZE))
        self._reader = FrameReader()
        self._loop = asyncio.get_running_loop()
        self._since_s = self._heard_s = self._loop.time()
        self._stalled_s: float | None = None
        self._in_flight = 0
        self._transport: asyncio.Transport | None = None

    def __repr__(self) -> str:
        """Show who it is."""
        return f"Peer({self.name!r}, {self.host}, greeted={self.greeted})"

    @property
    def host(self) -> str:
        """Return the address that it comes from."""
        name = self._transport and self._transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    @property
    def stalled(self) -> bool:
        """Whether it does not take what is sent: nothing is to be pushed."""
        return self._stalled_s is not None

    def push(self, subscription: int, news: object) -> None:
        """Send something that was not asked for just now."""
        self._send([Kind.PUSH, subscription, news])

    def abort(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def overdue(self, now_s: float) -> bool:
        """Say whether it is to be cut."""
        if not self.greeted:
            return now_s - self._since_s > HELLO_TIMEOUT_S
        if self._stalled_s is not None:
            return now_s - self._stalled_s > STALL_TIMEOUT_S
        return now_s - self._heard_s > IDLE_TIMEOUT_S

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or refuse where there are too many."""
        # That of uvloop is one by what it does, not by its class.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_MAX)
        transport.write(MAGIC)
        if len(self._service.connected) >= CONNECTIONS_MAX:
            self._service.refused_count += 1
            transport.write(refusal(Refused.BUSY, f"{CONNECTIONS_MAX} connections are open"))
            transport.close()
            return
        self._service.connected.add(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self._heard_s = self._loop.time()
        try:
            self._reader.feed(data)
        except NotMgmtdError:
            self._cut()
            return
        self._work()

    def pause_writing(self) -> None:
        """Read nothing from who does not take its answers."""
        assert self._transport is not None
        self._stalled_s = self._loop.time()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        assert self._transport is not None
        self._stalled_s = None
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        self._work()
        if self.greeted and not self.stalled:
            self._service.peers.writable(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell that it is gone."""
        del error  # why a peer went makes no difference
        if self in self._service.connected:
            self._service.connected.discard(self)
            if self.greeted:
                self._service.peers.closed(self)

    def _work(self) -> None:
        """Do what has come, as long as the answers are taken."""
        assert self._transport is not None
        try:
            while not self.stalled and not self._transport.is_closing():
                body = self._reader.next()
                if body is None:
                    break
                if self._hello.done:
                    self._take(body)
                else:
                    self._greet(body)
        except KVStoreError:
            self._cut()

    def _greet(self, body: bytes) -> None:
        assert self._transport is not None
        try:
            self._transport.write(self._hello.step(body))
        except KVStoreError as error:
            self._service.refused_count += 1
            self._transport.write(answer_to(error))
            self._transport.close()
            return
        if self._hello.done:
            self.greeted = True
            self.name = self._hello.name
            self._reader.size_max = REQUEST_SIZE_MAX

    def _cut(self) -> None:
        self._service.cut_count += 1
        self.abort()

    def _take(self, body: bytes) -> None:
        kind, *raw = decode_body(body)
        if kind != Kind.REQUEST:
            raise MalformedMessageError(f"{kind!r:.40} is no message to mgmtd")
        fields = Fields(raw, "request", 4)
        id = fields.integer("id", REQUEST_ID_MAX)
        method = fields.text("method", METHOD_SIZE_MAX)
        timeout_s = fields.integer("timeout", TIMEOUT_MS_MAX) / 1000
        parameters = fields.any()
        if method == PING:
            self._send([Kind.REPLY, id, None])
            return
        self._answer(id, method, lambda: self._request(method, parameters, timeout_s))

    def _request(self, method: str, parameters: object, timeout_s: float) -> object:
        if self._in_flight >= REQUESTS_IN_FLIGHT_MAX:
            raise BusyError(f"{REQUESTS_IN_FLIGHT_MAX} requests of this connection are under way")
        return self._service.peers.request(self, method, parameters, timeout_s)

    def _answer(self, id: int, method: str, work: Callable[[], object]) -> None:
        """Do it now, and answer now or when what it returned is done."""
        try:
            result = work()
        except Exception as error:  # a bug must end the request, not the process
            self._failed(id, method, error)
            return
        if isawaitable(result):
            self._in_flight += 1
            self._service.spawn(self._answer_later(id, method, result))
        else:
            self._send([Kind.REPLY, id, result])

    async def _answer_later(self, id: int, method: str, result: Awaitable[object]) -> None:
        try:
            self._send([Kind.REPLY, id, await result])
        except Exception as error:
            self._failed(id, method, error)
        finally:
            self._in_flight -= 1

    def _failed(self, id: int, method: str, error: Exception) -> None:
        if not isinstance(error, KVStoreError):
            self._service.peers.failed(self, method, error)
        self._send([Kind.FAILURE, id, *encode_failure(error)])

    def _send(self, message: list[object]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_frame(message))
