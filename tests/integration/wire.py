"""The wire's messages in Python: a second implementation, from the layouts in native/protocol.

It speaks to real nodes in the tests, so that what the C core says to itself is also what the
layouts say. Plain and slow: struct, hashlib, hmac and a table for CRC-32C. Leaves to others what a
well-behaved client does: nothing here retries, reconnects or checks more than it must.
"""

import hashlib
import hmac
import os
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

HEAD = struct.Struct("<IBBHQIIII")
HEAD_SIZE = 32
MAGIC = int.from_bytes(b"KVM1", "little")
VERSION = 1
CRC_SIZE = 4
COLUMNS_SIZE_MAX = 512 << 10
VALUES_SIZE_MAX = 68 << 20
COUNT_MAX = 4096
KEY_SIZE_MAX = 1024
LAST = 1
"""The flag of a request's last reply."""
REPEATED = 2
"""The flag of an update that was sent before."""
DEADLINE_S = 20.0
"""How long a message may take that is bound to come."""


class Kind(IntEnum):
    """Of a message."""

    HELLO = 1
    CHALLENGE = 2
    PROOF = 3
    WELCOME = 4
    REFUSAL = 5
    REQUEST = 16
    REPLY = 17
    CANCEL = 18
    CONTROL = 32
    CONTROL_REPLY = 33


class Operation(IntEnum):
    """Of a request."""

    SET = 1
    GET = 2
    EXISTS = 3
    MATCH_PREFIX = 4
    DELETE = 5
    STAT = 6
    PIN = 7
    UNPIN = 8


UPDATES = (Operation.SET, Operation.DELETE, Operation.PIN, Operation.UNPIN)


class EndedError(Exception):
    """The connection ended where a message was due."""


class RefusedError(Exception):
    """The node refused hello; the text is its reason."""


def crc_table() -> list[int]:
    """Return the table of CRC-32C: the polynomial 0x1EDC6F41, bits reflected."""
    table = []
    for byte in range(256):
        rest = byte
        for _ in range(8):
            rest = rest >> 1 ^ (0x82F63B78 if rest & 1 else 0)
        table.append(rest)
    return table


CRC_TABLE = crc_table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of *data*."""
    rest, table = 0xFFFFFFFF, CRC_TABLE
    for byte in data:
        rest = rest >> 8 ^ table[(rest ^ byte) & 0xFF]
    return rest ^ 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Head:
    """The first 32 bytes of every message."""

    kind: int
    request: int = 0
    count: int = 0
    columns_size: int = 0
    values_size: int = 0
    flags: int = 0
    version: int = VERSION
    magic: int = MAGIC

    def encode(self) -> bytes:
        """Return the bytes, sealed."""
        start = HEAD.pack(
            self.magic,
            self.version,
            self.kind,
            self.flags,
            self.request,
            self.count,
            self.columns_size,
            self.values_size,
            0,
        )[:-CRC_SIZE]
        return start + crc32c(start).to_bytes(CRC_SIZE, "little")

    @classmethod
    def decode(cls, data: bytes) -> "Head":
        """Return what the bytes say, which must be sealed."""
        magic, version, kind, flags, request, count, columns, values, crc = HEAD.unpack(data)
        assert MAGIC == magic
        assert crc32c(data[:-CRC_SIZE]) == crc
        return cls(kind, request, count, columns, values, flags, version)

    @property
    def size(self) -> int:
        """Bytes of the whole message."""
        return HEAD_SIZE + self.columns_size + self.values_size


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    head: Head
    columns: bytes = b""
    """Without their CRC."""
    values: bytes = b""

    def encode(self) -> bytes:
        """Return the bytes; the sizes in the head are made to fit."""
        columns = seal(self.columns) if self.columns else b""
        head = replace(self.head, columns_size=len(columns), values_size=len(self.values))
        return head.encode() + columns + self.values


def seal(columns: bytes) -> bytes:
    """Put the CRC in front."""
    return crc32c(columns).to_bytes(CRC_SIZE, "little") + columns


def column(letter: str, values: Sequence[int]) -> bytes:
    """Return a column of integers of one width."""
    return struct.pack(f"<{len(values)}{letter}", *values)


@dataclass(frozen=True, slots=True)
class Request:
    """A batch of one operation for one target."""

    operation: int
    keys: Sequence[bytes]
    values: Sequence[bytes] = ()
    """Of a set."""
    room: int = 1 << 20
    """Of each value of a get."""
    target: int = 1
    timeout_ms: int = 10_000
    if_absent: bool = False
    repeated: bool = False
    channel: int = 0
    sequence: int = 0
    ttl_ms: int = 0
    chain_version: int = 0

    def encode(self, request: int) -> bytes:
        """Return the message under this id."""
        count, keys = len(self.keys), b"".join(self.keys)
        flags = (1 if self.if_absent else 0) | (REPEATED if self.repeated else 0)
        columns = struct.pack(
            "<BBHIIIIQQQ",
            self.operation,
            flags,
            0,
            self.target,
            self.timeout_ms,
            self.channel,
            len(keys),
            self.chain_version,
            self.ttl_ms,
            self.sequence,
        )
        if self.operation == Operation.SET:
            columns += column("I", [len(value) for value in self.values])
            columns += column("I", [crc32c(value) for value in self.values])
        elif self.operation == Operation.GET:
            columns += column("I", [self.room] * count)
        columns += column("H", [len(key) for key in self.keys]) + keys
        head = Head(Kind.REQUEST, request, count)
        return Message(head, columns, b"".join(self.values)).encode()


@dataclass(slots=True)
class Item:
    """What a reply says of one key."""

    status: int
    size: int = 0
    checksum: int = 0
    version: int = 0
    expiry_ms: int = 0
    flags: int = 0
    value: bytes = b""


@dataclass(slots=True)
class Reply:
    """What all replies to a request say."""

    status: int = 0
    matched: int = 0
    items: dict[int, Item] = field(default_factory=dict)
    """By place in the request."""
    messages: int = 0

    def take(self, message: Message) -> bool:
        """Add what one message says; whether it is the last one."""
        operation, status, _, matched, _ = struct.unpack_from("<BBHII", message.columns)
        count, at = message.head.count, 12

        def next_column(letter: str, wanted: bool = True) -> tuple[int, ...]:
            nonlocal at
            if not wanted:
                return (0,) * count
            found = struct.unpack_from(f"<{count}{letter}", message.columns, at)
            at += struct.calcsize(f"<{count}{letter}")
            return found

        stat, sized = operation == Operation.STAT, operation in (Operation.STAT, Operation.GET)
        versions, expiries = next_column("Q", stat), next_column("Q", stat)
        places = next_column("I")
        sizes, checksums = next_column("I", sized), next_column("I", sized)
        flags, statuses = next_column("I", stat), next_column("B")
        assert len(message.columns) == at

        begin = 0
        for i, place in enumerate(places):
            assert place not in self.items
            item = Item(statuses[i], sizes[i], checksums[i], versions[i], expiries[i], flags[i])
            if operation == Operation.GET and item.status == 0:
                item.value = message.values[begin : begin + item.size]
                begin += item.size
                assert crc32c(item.value) == item.checksum
            self.items[place] = item
        assert len(message.values) == begin
        self.messages += 1
        last = message.head.flags == LAST
        if last:
            self.status, self.matched = status, matched
        return last

    def statuses(self, count: int) -> list[int]:
        """Return the status of each of so many keys."""
        silent = Item(self.status)
        return [self.items.get(place, silent).status for place in range(count)]


@dataclass(frozen=True, slots=True)
class Grant:
    """What WELCOME grants."""

    rights: int
    requests_max: int
    count_max: int
    columns_size_max: int
    values_size_max: int
    stall_timeout_ms: int
    node: int
    run: int


@dataclass(frozen=True, slots=True)
class Names:
    """Who a client says it is."""

    client: bytes = field(default_factory=lambda: os.urandom(16))
    nonce: bytes = field(default_factory=lambda: os.urandom(32))
    tenant: bytes = b"default"
    name_space: bytes = b"default"
    token: bytes = b""
    versions: tuple[int, int] = (VERSION, VERSION)

    def hello(self, proves: bool) -> bytes:
        """Return the message HELLO."""
        columns = struct.pack(
            "<BBBBHHI16s32s",
            *self.versions,
            len(self.tenant),
            len(self.name_space),
            len(self.token),
            int(proves),
            0,
            self.client,
            self.nonce,
        )
        columns += self.tenant + self.name_space + self.token
        return Message(Head(Kind.HELLO), columns).encode()


def proof_of(secret: bytes, role: bytes, transcript: bytes, grant: bytes = b"") -> bytes:
    """Return what a role proves, over HELLO and CHALLENGE; zeros without a secret."""
    if not secret:
        return bytes(32)
    said = role + b"\0" + hashlib.sha256(transcript).digest() + grant
    return hmac.digest(secret, said, "sha256")


class WireClient:
    """One connection to a node; it has only the manners that a test gives it."""

    def __init__(self, port: int, names: Names | None = None) -> None:
        """Connect, and say nothing yet."""
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name, own_port = self.socket.getsockname()
        self.address = f"{name}:{own_port}"
        """Its own end, as the node's log names it."""
        self.names = names or Names()
        self.ids = 0
        self.sequence = 0
        self.sent = b""
        """What hello sent, to be replayed."""

    def __enter__(self) -> "WireClient":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def end(self, *, abruptly: bool) -> None:
        """End the connection, with a RST or in good order."""
        if abruptly:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close_gracefully(self) -> None:
        """Say that nothing follows, and wait until the node has ended the connection, too."""
        self.socket.shutdown(socket.SHUT_WR)
        self.expect_end()

    # Bytes and messages.

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def receive(self, size: int) -> bytes:
        """Receive exactly so much."""
        parts = bytearray()
        while len(parts) < size:
            part = self.socket.recv(min(size - len(parts), 1 << 20))
            if not part:
                raise EndedError(f"{len(parts)} of {size} bytes came")
            parts += part
        return bytes(parts)

    def message_bytes(self) -> bytes:
        """Receive one message as it is."""
        head = self.receive(HEAD_SIZE)
        return head + self.receive(Head.decode(head).size - HEAD_SIZE)

    def message(self) -> Message:
        """Receive one message, whose columns must be sealed."""
        data = self.message_bytes()
        head = Head.decode(data[:HEAD_SIZE])
        columns = data[HEAD_SIZE : HEAD_SIZE + head.columns_size]
        if columns:
            assert seal(columns[CRC_SIZE:]) == columns
        return Message(head, columns[CRC_SIZE:], data[HEAD_SIZE + head.columns_size :])

    def expect_end(self, deadline_s: float = DEADLINE_S) -> bytes:
        """Wait until the node has ended the connection; what it said before."""
        said, deadline = bytearray(), time.monotonic() + deadline_s
        while True:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                part = self.socket.recv(1 << 16)
            except ConnectionError:
                return bytes(said)
            if not part:
                return bytes(said)
            said += part

    # Hello.

    def greet(self, secret: bytes = b"") -> Grant:
        """Say hello; raises RefusedError when the node does not want this client."""
        hello = self.names.hello(bool(secret))
        self.send(hello)
        challenge = self.taken(Kind.CHALLENGE)
        version, wants_proof, _, _ = struct.unpack("<BBH32s", challenge.columns)
        assert VERSION == version
        assert bool(secret) == bool(wants_proof)
        transcript = hello + challenge.encode()
        proof = Message(Head(Kind.PROOF), proof_of(secret, b"client", transcript)).encode()
        self.send(proof)
        self.sent = hello + proof
        welcome = self.taken(Kind.WELCOME)
        said = welcome.columns[32:]
        assert proof_of(secret, b"node", transcript, said) == welcome.columns[:32]
        granted = struct.unpack("<6I4xQQ", said)
        assert bytes(4) == said[24:28]
        return Grant(*granted)

    def taken(self, kind: Kind) -> Message:
        """Receive a message of this kind, or a refusal."""
        message = self.message()
        if message.head.kind == Kind.REFUSAL:
            raise RefusedError(message.columns[4:].decode())
        assert kind == message.head.kind
        return message

    # Requests.

    def numbered(self, request: Request) -> Request:
        """Return an update with the next sequence of its channel; others as they are."""
        if request.operation not in UPDATES or request.sequence:
            return request
        self.sequence += 1
        return replace(request, sequence=self.sequence)

    def start(self, request: Request) -> int:
        """Send a request; its id."""
        self.ids += 1
        self.send(self.numbered(request).encode(self.ids))
        return self.ids

    def finish(self, *ids: int) -> dict[int, Reply]:
        """Receive every reply to these requests, which come in any order."""
        replies = {id_: Reply() for id_ in ids}
        left = set(ids)
        while left:
            message = self.message()
            assert Kind.REPLY == message.head.kind
            assert message.head.request in left
            if replies[message.head.request].take(message):
                left.discard(message.head.request)
        return replies

    def call(self, request: Request) -> Reply:
        """Send a request, receive its reply."""
        id_ = self.start(request)
        return self.finish(id_)[id_]

    def control(self, kind: int, target: int = 0, body: bytes = b"") -> tuple[int, bytes]:
        """Send a control request; the errno, 0 for none, and the body of the reply."""
        self.ids += 1
        self.send(Message(Head(Kind.CONTROL, self.ids, target, flags=kind), body).encode())
        reply = self.message()
        assert Kind.CONTROL_REPLY == reply.head.kind
        assert self.ids == reply.head.request
        return reply.head.count, reply.values
