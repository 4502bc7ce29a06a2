"""The control plane's network: nodes and mgmtds that speak by virtual wires.

Between two ends messages keep their order. What is sent while a way is blocked is lost, and the
connection with it a second later, as either end would find out by asking. Requests and answers are
those of the real wire, in msgpack; frames and hellos are left out.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from inspect import isawaitable
from random import Random
from typing import Protocol

import msgpack

from kvstore.addresses import Address
from kvstore.cluster.fields import Fields
from kvstore.cluster.ids import NodeId, TargetId
from kvstore.cluster.mgmtd import wire
from kvstore.cluster.mgmtd.events import ProbeOutcome
from kvstore.cluster.mgmtd.messages import (
    Heartbeat,
    HeartbeatAnswer,
    NodeRegistration,
    RegisterAnswer,
)
from kvstore.cluster.mgmtd.server import Mgmtd
from kvstore.cluster.routing import RoutingInfo
from kvstore.cluster.rpc.failures import RedirectError, decode_failure, encode_failure
from kvstore.cluster.rpc.service import Peer, Peers, Service
from kvstore.errors import (
    ConnectionLostError,
    KVStoreError,
    MgmtdUnavailableError,
    RoutingVersionError,
    RpcError,
)
from simulator.virtual import Process, VirtualLoop

DELAY_MIN_S = 0.0001
DELAY_SPAN_S = 0.0008
LONG_DELAY_S = 0.03
LOST_S = 1.0
PAUSE_MIN_S = 0.02
PAUSE_MAX_S = 0.2
WATCH_S = 0.15
SECRET = b"the secret of the cluster"
SUBSCRIPTION = 1


@dataclass(slots=True)
class Wires:
    """Who hears whom, and when."""

    loop: VirtualLoop
    random: Random
    blocked_until_s: dict[tuple[str, str], float] = field(default_factory=dict)
    _last_s: dict[tuple[str, str], float] = field(default_factory=dict)
    _nobody: Process = field(default_factory=lambda: Process("nobody"))

    def block(self, sender: str, hearer: str, until_s: float) -> None:
        """Lose everything that one says to the other."""
        self.blocked_until_s[sender, hearer] = until_s

    def open(self, sender: str, hearer: str) -> bool:
        """Say whether one hears the other."""
        return self.loop.time() >= self.blocked_until_s.get((sender, hearer), 0.0)

    def heal(self) -> None:
        """Block nothing any more."""
        self.blocked_until_s.clear()

    def send(
        self, sender: str, hearer: str, process: Process | None, arrive: Callable[[], None]
    ) -> bool:
        """Let something arrive in a process after a while; False: it is lost."""
        way, now_s, draw = (sender, hearer), self.loop.time(), self.random.random
        if now_s < self.blocked_until_s.get(way, 0.0):
            return False
        at_s = now_s + DELAY_MIN_S + draw() * DELAY_SPAN_S
        if draw() < 0.02:
            at_s += draw() * LONG_DELAY_S
        at_s = self._last_s[way] = max(at_s, self._last_s.get(way, 0.0))
        self.loop.call_at(at_s, arrive, context=(process or self._nobody).context)
        return True


class Reached(Protocol):
    """An mgmtd as others see it."""

    name: str
    address: str
    process: Process
    mgmtd: Mgmtd
    service: "SimulatedService | None"

    def listening(self) -> bool:
        """Say whether its process is there and listens."""


class SimulatedService(Service):
    """Who is connected to an mgmtd; see the real one."""

    def __init__(self, peers: Peers, process: Process, port: int) -> None:
        """Belong to a process."""
        super().__init__(SECRET, peers)
        self._process = process
        self._port = port

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port


class SimulatedPeer(Peer):
    """One node's connection to an mgmtd, both ends of it."""

    def __init__(self, number: int, wires: Wires, node: str, process: Process, at: Reached) -> None:
        """Be connected."""
        self.number = number
        self.name = node
        self.greeted = True
        self.lost = asyncio.Event()
        self.news: deque[bytes] = deque()
        """Versions that were pushed."""
        self.stirred = asyncio.Event()
        """Something was pushed, or it is lost."""
        self._wires = wires
        self._process = process
        self._at = at
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._calls = 0
        assert at.service is not None
        self._connected = at.service.connected
        self._connected.add(self)

    def __hash__(self) -> int:
        """Return its number, so that sets of peers have the same order in every run."""
        return self.number

    @property
    def host(self) -> str:
        """Return the address that it comes from."""
        return f"10.0.0.{int(self.name.split()[1]) + 1}"

    @property
    def stalled(self) -> bool:
        """Whether it does not take what is sent."""
        return False

    def push(self, subscription: int, news: object) -> None:
        """Send something that was not asked for just now."""
        packed = msgpack.packb(news)
        if not self._to_node(lambda: self._pushed(packed)):
            self._end_later()  # the next version would not lead on

    def _pushed(self, packed: bytes) -> None:
        if not self.lost.is_set():
            self.news.append(packed)
            self.stirred.set()

    def abort(self) -> None:
        """End it from mgmtd's side."""
        self._drop_there()
        if not self._to_node(self.drop_here):
            self._end_later()

    def drop(self) -> None:
        """End it from the node's side."""
        self.drop_here()
        if not self._wires.send(self.name, self._at.name, self._at.process, self._drop_there):
            self._end_later()

    def gone(self) -> None:
        """Tell the other end that one end's process is gone."""
        if self._at.process.dead:
            if not self._to_node(self.drop_here):
                self._end_later()
        else:
            self.drop()

    def drop_here(self) -> None:
        """Nothing is heard at the node any more."""
        self.lost.set()
        self.stirred.set()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionLostError("the connection to mgmtd is lost"))

    def _drop_there(self) -> None:
        if self in self._connected:
            self._connected.discard(self)
            self._at.mgmtd.closed(self)

    def _end_later(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(LOST_S, self.drop_here, context=self._process.context)
        loop.call_later(LOST_S, self._drop_there, context=self._at.process.context)

    def _to_node(self, arrive: Callable[[], None]) -> bool:
        return self._wires.send(self._at.name, self.name, self._process, arrive)

    async def call(self, method: str, parameters: object, timeout_s: float) -> object:
        """Ask mgmtd; TimeoutError where no answer comes."""
        if self.lost.is_set():
            raise ConnectionLostError("the connection to mgmtd is lost")
        self._calls += 1
        id, packed = self._calls, msgpack.packb(parameters)
        waiting = self._waiting[id] = asyncio.get_running_loop().create_future()
        self._wires.send(
            self.name,
            self._at.name,
            self._at.process,
            lambda: self._asked(id, method, msgpack.unpackb(packed, raw=False), timeout_s),
        )
        timer = asyncio.get_running_loop().call_later(timeout_s, _late, waiting)
        try:
            return await waiting
        finally:
            timer.cancel()
            del self._waiting[id]

    def _asked(self, id: int, method: str, parameters: object, timeout_s: float) -> None:
        """Answer at once, or later: in mgmtd's process."""
        if self not in self._connected:
            return
        try:
            result = self._at.mgmtd.request(self, method, parameters, timeout_s)
        except KVStoreError as error:
            self._fail(id, error)
            return
        if isawaitable(result):
            self._at.process.spawn(self._reply_later(id, result))
        else:
            self._reply(id, result)

    async def _reply_later(self, id: int, result: Awaitable[object]) -> None:
        try:
            self._reply(id, await result)
        except KVStoreError as error:
            self._fail(id, error)

    def _reply(self, id: int, result: object) -> None:
        packed = msgpack.packb(result)
        self._to_node(lambda: self._settle(id, msgpack.unpackb(packed, raw=False), None))

    def _fail(self, id: int, error: KVStoreError) -> None:
        failure = decode_failure(Fields(encode_failure(error), "failure", 3))
        self._to_node(lambda: self._settle(id, None, failure))

    def _settle(self, id: int, result: object, error: Exception | None) -> None:
        waiting = self._waiting.get(id)
        if waiting is None or waiting.done():
            return
        if error is not None:
            waiting.set_exception(error)
        else:
            waiting.set_result(result)


class Decoder:
    """Decodes routing info as nodes do, but each delta once for all nodes that apply it."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._bases: dict[bytes, RoutingInfo] = {}
        self._known: dict[tuple[bytes, int], RoutingInfo] = {}

    def news(self, routing: RoutingInfo, packed: bytes) -> RoutingInfo:
        """Return what news makes of routing info; RoutingVersionError where they do not fit."""
        fields = Fields(msgpack.unpackb(packed, raw=False), "news", 2)
        kind, parts = fields.integer("kind", wire.PUSH_DELTA), fields.any()
        assert isinstance(parts, list)
        return self.whole(parts) if kind == wire.PUSH_WHOLE else self._applied(parts, routing)

    def whole(self, parts: list[bytes]) -> RoutingInfo:
        """Return what a base and its deltas are."""
        base = self._bases.get(parts[0])
        if base is None:
            base = self._bases[parts[0]] = wire.decode_parts(parts[:1])
        return self._applied(parts[1:], base)

    def _applied(self, deltas: list[bytes], routing: RoutingInfo) -> RoutingInfo:
        for delta in deltas:
            key = (delta, routing.version)
            if key not in self._known:
                self._known[key] = wire.apply_deltas([delta], routing)
            routing = self._known[key]
        return routing


class SimulatedPrimary:
    """Implements what an agent asks of mgmtd: it finds the primary, and follows it."""

    def __init__(
        self,
        node: str,
        process: Process,
        wires: Wires,
        mgmtds: list[Reached],
        numbers: Callable[[], int],
        decoder: Decoder,
    ) -> None:
        """Know nobody yet."""
        self._decoder = decoder
        self._node = node
        self._process = process
        self._wires = wires
        self._mgmtds = mgmtds
        self._numbers = numbers
        self._at = 0
        self._pause_s = PAUSE_MIN_S
        self.peer: SimulatedPeer | None = None

    async def register(
        self, registration: NodeRegistration, *, timeout_s: float | None = None
    ) -> RegisterAnswer:
        """Join the cluster."""
        raw = await self._call(wire.REGISTER, wire.encode_registration(registration), timeout_s)
        assert isinstance(raw, list)
        *terms, parts = raw
        answer = wire.decode_register_answer([*terms, parts[:1]], SECRET)
        return replace(answer, routing=self._decoder.whole(parts))

    async def heartbeat(
        self, heartbeat: Heartbeat, *, timeout_s: float | None = None
    ) -> HeartbeatAnswer:
        """Report, and renew the lease."""
        raw = await self._call(wire.HEARTBEAT, wire.encode_heartbeat(heartbeat), timeout_s)
        return wire.decode_heartbeat_answer(raw)

    async def leave(
        self, node: NodeId, incarnation: int, *, timeout_s: float | None = None
    ) -> None:
        """Say that the node serves no more."""
        await self._call(wire.LEAVE, [node, incarnation], timeout_s)

    async def suspect(
        self, node: NodeId, target: TargetId | None, why: str, *, timeout_s: float | None = None
    ) -> None:
        """Tell that a target does not answer."""
        await self._call(wire.SUSPECT, [node, target or 0, why[: wire.WHY_SIZE_MAX]], timeout_s)

    async def subscribe(
        self, known: RoutingInfo | None = None
    ) -> AsyncGenerator[RoutingInfo, None]:
        """Yield the routing info, then each newer one."""
        routing = known or RoutingInfo()
        while True:
            try:
                peer = await self._connected(LOST_S)
                peer.news.clear()
                request = [SUBSCRIPTION, routing.cluster.bytes, routing.version]
                await peer.call(wire.SUBSCRIBE, request, LOST_S)
                while not peer.lost.is_set():
                    await peer.stirred.wait()
                    peer.stirred.clear()
                    while peer.news:
                        routing = self._decoder.news(routing, peer.news.popleft())
                        yield routing
            except RoutingVersionError:
                routing = RoutingInfo()
                self._drop()
            except RedirectError as error:
                self._redirected(error)
            except (KVStoreError, TimeoutError):
                self._drop()
            await asyncio.sleep(self._pause())

    async def _call(self, method: str, parameters: object, timeout_s: float | None) -> object:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + (timeout_s or 5.0)
        while True:
            left_s = max(0.001, deadline_s - loop.time())
            try:
                peer = await self._connected(left_s)
                result = await peer.call(method, parameters, left_s)
                self._pause_s = PAUSE_MIN_S
                return result
            except RedirectError as error:
                self._redirected(error)
            except ConnectionLostError:
                self._drop()
            except TimeoutError as error:
                self._drop()
                raise MgmtdUnavailableError("no answer in time") from error
            pause_s = self._pause()
            if loop.time() + pause_s >= deadline_s:
                raise MgmtdUnavailableError("no mgmtd answers")
            await asyncio.sleep(pause_s)

    def _pause(self) -> float:
        """Return how long to wait before the next attempt: longer each time."""
        pause_s = self._pause_s * (0.5 + self._wires.random.random() / 2)
        self._pause_s = min(PAUSE_MAX_S, 2 * self._pause_s)
        return pause_s

    async def _connected(self, timeout_s: float) -> SimulatedPeer:
        if self.peer is not None and not self.peer.lost.is_set():
            return self.peer
        at = self._mgmtds[self._at]
        there = self._wires.open(self._node, at.name) and self._wires.open(at.name, self._node)
        if not there:
            await asyncio.sleep(min(timeout_s, LOST_S / 4))
            self._drop()
            raise ConnectionLostError(f"{at.name} cannot be reached")
        if not at.listening():
            self._drop()
            raise ConnectionLostError(f"{at.name} refuses")
        self.peer = SimulatedPeer(self._numbers(), self._wires, self._node, self._process, at)
        return self.peer

    def _redirected(self, error: RedirectError) -> None:
        self._drop()
        for number, mgmtd in enumerate(self._mgmtds):
            if mgmtd.address == error.primary:
                self._at = number

    def _drop(self) -> None:
        """Try the next mgmtd."""
        if self.peer is not None:
            self.peer.drop()
            self.peer = None
        self._at = (self._at + 1) % len(self._mgmtds)


def _late(waiting: asyncio.Future[object]) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())


class SimulatedNetwork:
    """Implements Network for one mgmtd."""

    def __init__(
        self, owner: Reached, mgmtds: list[Reached], wires: Wires, nodes: Callable[[str], bool]
    ) -> None:
        """`nodes` says whether the process at an address is there."""
        self._owner = owner
        self._mgmtds = mgmtds
        self._wires = wires
        self._nodes = nodes

    async def serve(self, address: Address, secret: bytes, peers: Peers) -> Service:
        """Listen."""
        assert address.port is not None
        return SimulatedService(peers, self._owner.process, address.port)

    async def probe(self, addresses: Iterable[str]) -> ProbeOutcome:
        """Say whether a process still listens at any of these."""
        await asyncio.sleep(DELAY_MIN_S + self._wires.random.random() * DELAY_SPAN_S)
        outcome = ProbeOutcome.SILENT
        for address in addresses:
            name, there = self._at(address)
            both = self._wires.open(self._owner.name, name)
            if both and self._wires.open(name, self._owner.name):
                outcome = ProbeOutcome.ANSWERED if there else ProbeOutcome.REFUSED
        return outcome

    async def watch(self, address: Address, *, secret: bytes, name: str, timeout_s: float) -> None:
        """Return when its process is gone, or cannot be reached."""
        while True:
            other, there = self._at(str(address))
            if not there:
                raise RpcError(f"{address} is gone")
            if not self._wires.open(self._owner.name, other):
                await asyncio.sleep(timeout_s)
                raise RpcError(f"{address} does not answer")
            await asyncio.sleep(WATCH_S)

    def _at(self, address: str) -> tuple[str, bool]:
        for mgmtd in self._mgmtds:
            if mgmtd.address == address:
                return mgmtd.name, mgmtd.listening()
        return f"node {int(address.split(':')[0].split('.')[-1]) - 1}", self._nodes(address)
