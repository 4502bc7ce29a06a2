"""A TCP proxy that is bad luck: it cuts, corrupts, duplicates, reorders, stalls, delays, refuses.

    client ──requests──► Proxy ──► node
           ◄──replies─── Proxy ◄──

It runs on a thread of its own. One fault at a time is armed for each direction and sees the bytes
of all connections; where it is of messages, it must be armed while none is under way.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from integration.wire import HEAD_SIZE, Head

READ_SIZE = 1 << 16
DEADLINE_S = 20.0


class Direction(Enum):
    """Which way bytes go."""

    REQUESTS = "requests"
    REPLIES = "replies"


class Part(Enum):
    """Of a message."""

    HEAD = "head"
    COLUMNS = "columns"
    VALUES = "values"


class CutError(Exception):
    """Every connection is to be cut here."""


class Fault:
    """What happens to the bytes of one direction: by itself, nothing."""

    fired = False
    """Whether it did what it is for."""
    swallowed = False
    """Whether it keeps bytes that should have gone on."""

    def open(self) -> "Pipe":
        """Return what the bytes of a new connection go through."""
        return Pipe(self)

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield what goes on of *data*; may raise CutError."""
        yield data


class Pipe:
    """One direction of one connection, byte by byte."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    @property
    def astray(self) -> bool:
        """Whether bytes are missing behind it."""
        return self.fault.swallowed

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield what goes on."""
        return self.fault.take(data)


class MessagePipe(Pipe):
    """One direction of one connection, in whole messages."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self._rest = b""

    @property
    def astray(self) -> bool:
        """Whether bytes are missing behind it."""
        return bool(self._rest) or super().astray

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield what goes on of the messages that are complete."""
        self._rest += data
        while len(self._rest) >= HEAD_SIZE:
            size = Head.decode(self._rest[:HEAD_SIZE]).size
            if len(self._rest) < size:
                return
            message, self._rest = self._rest[:size], self._rest[size:]
            yield from self.fault.take(message)


class Cut(Fault):
    """Let so many bytes pass, then cut every connection, once; *then* happens right before."""

    def __init__(self, size: int, then: Callable[[], None] | None = None) -> None:
        self.size = size
        self.then = then

    def take(self, data: bytes) -> Iterator[bytes]:
        """Count the bytes of all connections."""
        if self.fired or self.size >= len(data):
            self.size -= 0 if self.fired else len(data)
            yield data
            return
        self.fired = True
        if self.size > 0:
            yield data[: self.size]
        if self.then is not None:
            self.then()
        raise CutError


class MessageFault(Fault):
    """Concerns messages of one kind, at most *times* of them."""

    def __init__(self, kind: int, times: int = 1) -> None:
        self.kind = kind
        self.times = times

    def open(self) -> Pipe:
        """Return a pipe of messages."""
        return MessagePipe(self)

    def concerns(self, head: Head) -> bool:
        """Whether a message is one of those."""
        return head.kind == self.kind and self.times > 0

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield what becomes of a message."""
        if not self.concerns(Head.decode(data[:HEAD_SIZE])):
            yield data
            return
        self.times -= 1
        self.fired = True
        yield from self.happen(data)

    def happen(self, message: bytes) -> Iterator[bytes]:
        """Yield what becomes of one that is concerned."""
        raise NotImplementedError


class Flip(MessageFault):
    """Change one bit of a part of a message, at a place between 0 and 1."""

    def __init__(self, kind: int, part: Part, place: float, times: int = 1) -> None:
        super().__init__(kind, times)
        self.part = part
        self.place = place

    def concerns(self, head: Head) -> bool:
        """A message without that part is left alone."""
        return super().concerns(head) and self.span(head)[1] > 0

    def span(self, head: Head) -> tuple[int, int]:
        """Return where the part begins, and its size."""
        if self.part is Part.HEAD:
            return 0, HEAD_SIZE
        if self.part is Part.COLUMNS:
            return HEAD_SIZE, head.columns_size
        return HEAD_SIZE + head.columns_size, head.values_size

    def happen(self, message: bytes) -> Iterator[bytes]:
        """Flip a bit."""
        begin, size = self.span(Head.decode(message[:HEAD_SIZE]))
        place = begin + int(self.place * size)
        yield message[:place] + bytes([message[place] ^ 0x04]) + message[place + 1 :]


class Duplicate(MessageFault):
    """Send a message twice."""

    def happen(self, message: bytes) -> Iterator[bytes]:
        """Send it, and again."""
        yield message
        yield message


class Swap(MessageFault):
    """Hold a message back until the next one of its kind has passed, on whatever connection."""

    held = b""

    def happen(self, message: bytes) -> Iterator[bytes]:
        """Hold it, or let both go."""
        if not self.held:
            self.held, self.swallowed = message, True
            return
        held, self.held, self.swallowed = self.held, b"", False
        yield message
        yield held


class Stall(Fault):
    """Let so many bytes pass, then no more."""

    def __init__(self, size: int = 0) -> None:
        self.size = size

    def take(self, data: bytes) -> Iterator[bytes]:
        """Swallow what is too much: nobody hears of it."""
        passed, self.size = data[: self.size], max(0, self.size - len(data))
        if len(passed) < len(data):
            self.fired = self.swallowed = True
        if passed:
            yield passed


@dataclass(eq=False, slots=True)
class Way:
    """One direction of one connection: where its bytes go, and through what."""

    direction: Direction
    writer: asyncio.StreamWriter
    pipe: Pipe

    def abort(self) -> None:
        """End it with a RST."""
        end = self.writer.get_extra_info("socket")
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Proxy:
    """Listens on loopback, and connects each client to the node at `node_port`."""

    def __init__(self) -> None:
        self.node_port = 0
        self.port = 0
        self.refusing = False
        """Whether new connections are closed at once."""
        self.delay_s = 0.0
        """How late everything comes."""
        self._faults = {direction: Fault() for direction in Direction}
        self._ways: set[Way] = set()
        self._loop = asyncio.new_event_loop()
        self._done = asyncio.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._run()])

    def __enter__(self) -> "Proxy":
        self._thread.start()
        assert self._listening.wait(DEADLINE_S)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(DEADLINE_S)
        self._loop.close()

    # From the test's thread.

    def arm(self, direction: Direction, fault: Fault) -> None:
        """Have a fault from now on, also on connections that there are."""
        self._call(lambda: self._arm(direction, fault))

    def disarm(self) -> None:
        """Be a good proxy; connections whose bytes went astray are cut."""

        def calm() -> None:
            self.refusing, self.delay_s = False, 0.0
            for way in [way for way in self._ways if way.pipe.astray]:
                way.abort()
            for direction in Direction:
                self._arm(direction, Fault())

        self._call(calm)

    def cut(self) -> None:
        """Cut every connection."""
        self._call(self._cut)

    def _call(self, action: Callable[[], None]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(act)
        assert done.wait(DEADLINE_S)

    # On its own thread.

    def _arm(self, direction: Direction, fault: Fault) -> None:
        self._faults[direction] = fault
        for way in self._ways:
            if way.direction is direction:
                way.pipe = fault.open()

    def _cut(self) -> None:
        for way in self._ways:
            way.abort()

    async def _run(self) -> None:
        listening = await asyncio.start_server(self._connect, "127.0.0.1", 0, backlog=256)
        self.port = listening.sockets[0].getsockname()[1]
        self._listening.set()
        await self._done.wait()
        listening.close()
        self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=DEADLINE_S)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.close()
            return
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.node_port)
        except OSError:
            writer.close()
            return
        there = Way(Direction.REQUESTS, other_writer, self._faults[Direction.REQUESTS].open())
        back = Way(Direction.REPLIES, writer, self._faults[Direction.REPLIES].open())
        await asyncio.gather(self._pump(reader, there, back), self._pump(other_reader, back, there))

    async def _pump(self, reader: asyncio.StreamReader, way: Way, other: Way) -> None:
        """Take bytes along; when they end, so do those of the other direction."""
        way.writer.transport.set_write_buffer_limits(0)
        self._ways.add(way)
        try:
            while data := await reader.read(READ_SIZE):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                for piece in way.pipe.take(data):
                    way.writer.write(piece)
                    await way.writer.drain()
        except CutError:
            self._cut()
        except OSError:
            pass
        finally:
            self._ways.discard(way)
            way.writer.close()
            other.writer.close()
