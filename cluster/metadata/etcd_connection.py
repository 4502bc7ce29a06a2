"""Connections to the members of an etcd: one channel to each address, and turns among them.

Names are resolved here, not by gRPC: all addresses of a name are tried, and names are resolved
again each time every address had its turn. Reads are retried until their deadline. A mutation waits
for a channel that is connected and is then sent once: what fails before is
MetadataUnavailableError, what fails after is AmbiguousError, unless etcd said clearly that it
refused.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from kvstore.cluster.metadata import etcd_pb2 as wire
from kvstore.errors import (
    AmbiguousError,
    CompactedError,
    MetadataError,
    MetadataUnavailableError,
    SessionLostError,
)

MESSAGE_SIZE_MAX = 16 << 20
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 0.5
CONNECT_TIMEOUT_S = 0.5
ADDRESSES_MAX = 64
CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.keepalive_time_ms", 10_000),  # more often than each 5 s, and etcd hangs up
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),  # gRPC's own retries would send a mutation twice
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", MESSAGE_SIZE_MAX),
)
MISSED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
DOUBTFUL = (*MISSED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True)
class EtcdOptions:
    """Where an etcd is, and how to be let in. PEM certificates as bytes; None: without TLS."""

    endpoints: tuple[str, ...]
    """`host:port`; a host may be a name with several addresses, or an address, `[::1]:2379`."""
    prefix: bytes = b"/kvstore/"
    """Every key of the store begins with it; two clusters in one etcd need two."""
    user: str = ""
    password: str = ""
    authority: bytes | None = None
    """The certificate of the authority that signed etcd's own; turns TLS on."""
    certificate: bytes | None = None
    private_key: bytes | None = None
    timeout_s: float = 6.0
    """How long a read may go from member to member, or a change wait for a connection."""
    attempt_s: float = 2.0
    """How long one member may take for one request; an election takes about as long."""
    heartbeat_s: float = 1.0
    """A watch that is silent for so long is asked whether it is still there."""


@dataclass(frozen=True, slots=True)
class Method(Generic[RequestT, ResponseT]):
    """One method of etcd's interface."""

    path: str
    response: type[ResponseT]
    request: type[RequestT]


RANGE = Method("/etcdserverpb.KV/Range", wire.RangeResponse, wire.RangeRequest)
TXN = Method("/etcdserverpb.KV/Txn", wire.TxnResponse, wire.TxnRequest)
COMPACT = Method("/etcdserverpb.KV/Compact", wire.CompactionResponse, wire.CompactionRequest)
WATCH = Method("/etcdserverpb.Watch/Watch", wire.WatchResponse, wire.WatchRequest)
GRANT = Method("/etcdserverpb.Lease/LeaseGrant", wire.LeaseGrantResponse, wire.LeaseGrantRequest)
REVOKE = Method(
    "/etcdserverpb.Lease/LeaseRevoke", wire.LeaseRevokeResponse, wire.LeaseRevokeRequest
)
RENEW = Method(
    "/etcdserverpb.Lease/LeaseKeepAlive", wire.LeaseKeepAliveResponse, wire.LeaseKeepAliveRequest
)
AUTHENTICATE = Method(
    "/etcdserverpb.Auth/Authenticate", wire.AuthenticateResponse, wire.AuthenticateRequest
)


@dataclass(frozen=True, slots=True)
class Address:
    """One address of a member, and the name that its certificate must carry."""

    target: str
    name: str


class EtcdConnection:
    """The channels, whose turn it is, and the token of the user."""

    def __init__(
        self,
        options: EtcdOptions,
        clock_s: Callable[[], float],
        resolve: Callable[[str], Awaitable[list[Address]]],
    ) -> None:
        """Connect to nothing yet; `resolve` returns the addresses of an endpoint."""
        assert options.endpoints
        self._resolve_endpoint = resolve
        self.options = options
        self.clock_s = clock_s
        self._addresses: list[Address] = []
        self._turn = 0
        self._channels: dict[Address, grpc.aio.Channel] = {}
        self._token = ""
        self._closed = False

    async def read(self, method: Method[RequestT, ResponseT], request: RequestT) -> ResponseT:
        """Send what changes nothing, to one member after the other until the time is over."""
        deadline_s = self.clock_s() + self.options.timeout_s
        pause_s = PAUSE_MIN_S
        tries = 0
        while True:
            turn = self._turn
            left_s = deadline_s - self.clock_s()
            try:
                return await self._call(
                    method, request, max(0.05, min(left_s, self.options.attempt_s))
                )
            except grpc.aio.AioRpcError as error:
                if not self._read_again(error, tries) or self.clock_s() >= deadline_s:
                    raise failure(error) from error
                await self._authenticate_again(error)
            except AmbiguousError as error:
                raise MetadataError("the metadata store was closed meanwhile") from error
            except MetadataUnavailableError:
                if self.clock_s() >= deadline_s:
                    raise
            tries += 1
            self.rotate(turn)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def send_once(self, method: Method[RequestT, ResponseT], request: RequestT) -> ResponseT:
        """Send a mutation. AmbiguousError when it was sent and no certain answer came."""
        await self._connected(self.clock_s() + self.options.timeout_s)
        turn = self._turn
        try:
            return await self._call(method, request, self.options.attempt_s)
        except grpc.aio.AioRpcError as error:
            if token_refused(error):  # refused at the door, so it is safe to send it again
                await self._authenticate_again(error)
                return await self._call(method, request, self.options.attempt_s)
            self.rotate(turn)
            if error.code() in DOUBTFUL:
                raise AmbiguousError(
                    f"no answer from etcd: {error.code().name}: {error.details()!s}"
                ) from error
            raise failure(error) from error

    async def stream(
        self, method: Method[RequestT, ResponseT], timeout_s: float | None = None
    ) -> "grpc.aio.StreamStreamCall[RequestT, ResponseT]":
        """Open a stream to the member whose turn it is."""
        channel = await self._channel()
        multi = channel.stream_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        call = multi(timeout=timeout_s, metadata=await self._metadata())
        return cast("grpc.aio.StreamStreamCall[RequestT, ResponseT]", call)

    @property
    def turn(self) -> int:
        """Whose turn it is, to be handed to `rotate` when that member fails."""
        return self._turn

    def rotate(self, turn: int) -> None:
        """Let the next address have its turn, unless somebody else has seen to it."""
        if turn == self._turn:
            self._turn += 1

    async def forget_token(self) -> None:
        """Ask for a new token before the next request."""
        self._token = ""

    async def close(self) -> None:
        """Close every channel; what is under way fails."""
        self._closed = True
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            await channel.close()

    async def _call(
        self, method: Method[RequestT, ResponseT], request: RequestT, timeout_s: float
    ) -> ResponseT:
        channel = await self._channel()
        unary = channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        metadata = await self._metadata() if method is not AUTHENTICATE else ()
        try:
            return await unary(request, timeout=timeout_s, metadata=metadata)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise AmbiguousError("the metadata store was closed meanwhile") from None
            raise

    async def _connected(self, deadline_s: float) -> None:
        """Wait until the channel whose turn it is, or one after it, is connected."""
        while self.clock_s() < deadline_s:
            turn = self._turn
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await (await self._channel()).channel_ready()
                    return
            except (TimeoutError, MetadataUnavailableError):
                self.rotate(turn)
                await asyncio.sleep(PAUSE_MIN_S)
        raise MetadataUnavailableError(f"no etcd at {', '.join(self.options.endpoints)} answers")

    async def _channel(self) -> grpc.aio.Channel:
        if self._closed:
            raise MetadataError("the metadata store is closed")
        if self._turn >= len(self._addresses) or not self._addresses:
            await self._resolve()
        address = self._addresses[self._turn % len(self._addresses)]
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._open(address)
        return channel

    async def _resolve(self) -> None:
        """Look all names up, begin with the first address, and close what is gone."""
        addresses: dict[Address, None] = {}
        for endpoint in self.options.endpoints:
            addresses.update(dict.fromkeys(await self._resolve_endpoint(endpoint)))
        if not addresses:
            raise MetadataUnavailableError(
                f"none of {', '.join(self.options.endpoints)} has an address"
            )
        self._addresses = list(addresses)[:ADDRESSES_MAX]
        self._turn = 0
        if len(self._channels) > ADDRESSES_MAX:
            for address in self._channels.keys() - addresses.keys():
                await self._channels.pop(address).close(self.options.timeout_s)

    def _open(self, address: Address) -> grpc.aio.Channel:
        options = [*CHANNEL_OPTIONS, ("grpc.default_authority", address.name)]
        if self.options.authority is None:
            return grpc.aio.insecure_channel(address.target, options=options)
        credentials = grpc.ssl_channel_credentials(
            self.options.authority, self.options.private_key, self.options.certificate
        )
        options.append(("grpc.ssl_target_name_override", address.name))
        return grpc.aio.secure_channel(address.target, credentials, options=options)

    async def _metadata(self) -> tuple[tuple[str, str], ...]:
        leader = ("hasleader", "true")  # a member that is cut off from the others says so
        if not self.options.user:
            return (leader,)
        if not self._token:
            request = wire.AuthenticateRequest(
                name=self.options.user, password=self.options.password
            )
            response = await self._call(AUTHENTICATE, request, self.options.attempt_s)
            self._token = response.token
        return (leader, ("token", self._token))

    def _read_again(self, error: grpc.aio.AioRpcError, tries: int) -> bool:
        return error.code() in DOUBTFUL or (token_refused(error) and tries == 0)

    async def _authenticate_again(self, error: grpc.aio.AioRpcError) -> None:
        if token_refused(error):
            await self.forget_token()


async def addresses_of(endpoint: str) -> list[Address]:
    """Return every address that an endpoint has now; none when its name is not known."""
    host, _, port = endpoint.rpartition(":")
    name = host.strip("[]")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            name, int(port), type=socket.SOCK_STREAM
        )
    except (OSError, ValueError):
        return []
    addresses: list[Address] = []
    for family, _, _, _, where in found:
        number = cast("str", where[0])
        if family == socket.AF_INET6:
            addresses.append(Address(f"ipv6:[{number}]:{port}", name))
        elif family == socket.AF_INET:
            addresses.append(Address(f"ipv4:{number}:{port}", name))
    return addresses


def token_refused(error: grpc.aio.AioRpcError) -> bool:
    """Say whether etcd no longer knows the token, as after a restart."""
    return error.code() is grpc.StatusCode.UNAUTHENTICATED


def failure(error: grpc.aio.AioRpcError) -> MetadataError:
    """Return what a refusal by etcd means."""
    details = str(error.details() or "")
    message = f"etcd: {error.code().name}: {details}"
    if error.code() in MISSED:
        return MetadataUnavailableError(message)
    if "lease not found" in details:
        return SessionLostError(message)
    if "has been compacted" in details:
        return CompactedError(message)
    return MetadataError(message)
