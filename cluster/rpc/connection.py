"""The end of a connection that asks: many calls in flight, pushes as they come."""

import asyncio
import os
import secrets
from collections.abc import Callable
from itertools import count
from typing import cast

from kvstore.addresses import Address
from kvstore.cluster.fields import Fields
from kvstore.cluster.rpc.failures import decode_failure
from kvstore.cluster.rpc.frame import (
    MAGIC,
    REPLY_SIZE_MAX,
    FrameReader,
    decode_body,
    encode_frame,
)
from kvstore.cluster.rpc.hello import NONCE_SIZE, ClientHello
from kvstore.cluster.rpc.message import (
    PING,
    REQUEST_ID_MAX,
    REQUESTS_IN_FLIGHT_MAX,
    TIMEOUT_MS_MAX,
    Kind,
)
from kvstore.errors import (
    BusyError,
    ConnectionLostError,
    KVStoreError,
    KVTimeoutError,
    MalformedMessageError,
    MalformedRoutingError,
    NotMgmtdError,
    RpcError,
)

Pushed = Callable[[int, object], None]
"""Told the subscription and what is new; what it raises ends the connection."""


async def connect(
    address: Address,
    *,
    secret: bytes,
    name: str,
    timeout_s: float,
    pushed: Pushed,
) -> "Connection":
    """Return a connection whose hello is done; `address.name` is resolved already, or tried whole.

    NotMgmtdError where something else listens, StoreAccessError for a wrong secret, RpcError for
    everything else.
    """
    loop = asyncio.get_running_loop()
    hello = ClientHello(secret, secrets.token_bytes(NONCE_SIZE), name)
    connection = Connection(address, hello, pushed)
    try:
        async with asyncio.timeout(timeout_s):
            await loop.create_connection(lambda: connection, address.name, address.port)
            await connection.greeted()
    except TimeoutError as error:
        connection.abort()
        raise RpcError(f"{address}: no answer within {timeout_s:g} s") from error
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise RpcError(f"{address}: {why}") from error
    except BaseException:
        connection.abort()
        raise
    return connection


class Connection(asyncio.Protocol):
    """A connection to mgmtd. Made by `connect`."""

    def __init__(self, address: Address, hello: ClientHello, pushed: Pushed) -> None:
        """Say hello as soon as there is a connection."""
        self.address = address
        self._hello = hello
        self._pushed = pushed
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._ids = count(1)
        self._calls: dict[int, asyncio.Future[object]] = {}
        loop = asyncio.get_running_loop()
        self._greeting: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._failure: KVStoreError | None = None

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed.done()

    async def greeted(self) -> None:
        """Wait until the hello is done; raise why it is not."""
        await self._greeting

    async def until_closed(self) -> None:
        """Wait until the connection has ended."""
        await asyncio.shield(self._closed)

    async def call(self, method: str, parameters: object, timeout_s: float) -> object:
        """Ask, and return what is answered; raises what mgmtd raised."""
        if self.closed or self._transport is None or self._transport.is_closing():
            raise ConnectionLostError(f"the connection to {self.address} has ended")
        if len(self._calls) >= REQUESTS_IN_FLIGHT_MAX:
            raise BusyError(f"{REQUESTS_IN_FLIGHT_MAX} calls to {self.address} are under way")
        id = next(self._ids) % REQUEST_ID_MAX
        timeout_ms = min(TIMEOUT_MS_MAX, max(1, round(timeout_s * 1000)))
        answer = self._calls[id] = asyncio.get_running_loop().create_future()
        self._transport.write(encode_frame([Kind.REQUEST, id, method, timeout_ms, parameters]))
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise KVTimeoutError(
                f"{self.address} did not answer {method} within {timeout_s:g} s"
            ) from None
        finally:
            del self._calls[id]

    async def hold(self, every_s: float) -> None:
        """Return when the connection has ended: by the other end, or as that does not answer."""
        try:
            while not self.closed:
                await self.call(PING, None, every_s)
                await asyncio.wait((self._closed,), timeout=every_s)
        except (KVTimeoutError, ConnectionLostError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """End it now."""
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        # That of uvloop is one by what it does, not by its class.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.write(MAGIC + self._hello.begin())

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        try:
            self._reader.feed(data)
            while (body := self._reader.next()) is not None:
                self._take(body)
        except MalformedRoutingError as error:
            self._fail(MalformedMessageError(str(error)))
        except KVStoreError as error:
            self._fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell everybody who waits."""
        why = self._failure or self._end_of(error)
        if not self._greeting.done():
            self._greeting.set_exception(why)
            self._greeting.exception()  # who connects may have given up
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(ConnectionLostError(str(why)))
        self._closed.set_result(None)

    def _end_of(self, error: Exception | None) -> KVStoreError:
        if not self._reader.greeted:
            return NotMgmtdError(f"{self.address} ended the connection at hello: is it mgmtd?")
        return ConnectionLostError(f"{self.address} ended the connection{_because(error)}")

    def _fail(self, error: KVStoreError) -> None:
        if isinstance(error, NotMgmtdError):
            error = NotMgmtdError(f"{self.address}: {error}")
        self._failure = self._failure or error
        self.abort()

    def _take(self, body: bytes) -> None:
        assert self._transport is not None
        if not self._hello.done:
            answer = self._hello.step(body)
            if answer:
                self._transport.write(answer)
            else:
                self._reader.size_max = REPLY_SIZE_MAX
                if not self._greeting.done():
                    self._greeting.set_result(None)
            return
        kind, *raw = decode_body(body)
        if kind == Kind.REPLY:
            fields = Fields(raw, "reply", 2)
            self._settle(fields, lambda answer: answer.set_result(fields.any()))
        elif kind == Kind.FAILURE:
            fields = Fields(raw, "failure", 4)
            self._settle(fields, lambda answer: answer.set_exception(decode_failure(fields)))
        elif kind == Kind.PUSH:
            fields = Fields(raw, "push", 2)
            self._pushed(fields.integer("subscription", REQUEST_ID_MAX), fields.any())
        else:
            raise MalformedMessageError(f"{kind!r:.40} is no message to a client")

    def _settle(self, fields: Fields, settle: Callable[[asyncio.Future[object]], None]) -> None:
        """Answer a call; one that was given up is none of ours any more."""
        answer = self._calls.get(fields.integer("id", REQUEST_ID_MAX))
        if answer is not None and not answer.done():
            settle(answer)


def _because(error: Exception | None) -> str:
    return "" if error is None else f": {error}"
