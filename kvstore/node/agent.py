"""A node's side of the cluster: it registers, keeps its lease, and goes by the routing info.

    registered ──► withheld ──its targets are out of their chains──► taking part ──leave()──► left

Guarantees: the core's lease is counted from before the heartbeat was sent that mgmtd answered, so
it ends on the node before mgmtd counts it as ended. The core is configured as soon as routing info
arrives, and only then mgmtd hears that it was. Leaves to others: what the core does with its
places, and when the process starts and stops.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from typing import Protocol

from kvstore.cluster.ids import Epoch, NodeId, TargetId
from kvstore.cluster.leases import NS_A_MS
from kvstore.cluster.mgmtd.messages import (
    Heartbeat,
    HeartbeatAnswer,
    NodeRegistration,
    Order,
    RegisterAnswer,
)
from kvstore.cluster.routing import RoutingInfo
from kvstore.errors import (
    ClusterError,
    MgmtdUnavailableError,
    NotMgmtdError,
    NotRegisteredError,
    StoreAccessError,
)
from kvstore.node.devices import Devices
from kvstore.node.log import Log
from kvstore.node.membership import (
    NOT_CONFIGURED,
    Configuration,
    configuration_of,
    in_chains,
    in_use,
    move_of,
    reports_of,
)
from kvstore.types import ChainPlace, ChainState, NodeEvent, NodeEventKind, SlotMoveOrder

REGISTER_TIMEOUT_S = 5.0
"""How long one attempt to register may take; there is another one after it."""
STRANGE_ANSWERS_MAX = 5
"""Answers in a row that are none of an mgmtd, before it is taken for something else."""
STRANGE_PAUSE_S = 0.2
LEAVE_TIMEOUT_S = 2.0
"""How long mgmtd may take to hear that the node leaves; its lease has ended in any case."""
SUSPECT_TIMEOUT_S = 2.0
SUSPECT_PAUSE_S = 0.2
"""A target is suspected at most so often: mgmtd looks at once, and looks itself after that."""
SUSPICIONS_MAX = 64
"""Waiting to be told; the core says again what is still lost."""
RETRY_PAUSE_S = 0.05
"""Between two heartbeats, where the first failed for another reason than a lack of time."""
HASTE_S = 0.02
"""Between two heartbeats while mgmtd waits for the next one."""
HEARTBEATS_A_LEASE = 3
"""Attempts at a heartbeat that fit into a lease."""


class Chained(Protocol):
    """A node whose targets are in chains."""

    def set_chains(
        self, routing_version: int, places: Sequence[ChainPlace], addresses: Sequence[str]
    ) -> None:
        """Serve by these places from now on."""

    def set_lease(self, end_ns: int) -> None:
        """Serve until then on the monotonic clock; 0: not at all."""

    def set_moves(self, moves: Sequence[SlotMoveOrder]) -> None:
        """Have targets send what they hold of slots that move."""

    def chain_states(self) -> list[ChainState]:
        """Return how every target is."""


class Primary(Protocol):
    """What an agent asks of mgmtd; see MgmtdClient for what each call may raise."""

    async def register(
        self, registration: NodeRegistration, *, timeout_s: float | None = None
    ) -> RegisterAnswer:
        """Join the cluster."""

    async def heartbeat(
        self, heartbeat: Heartbeat, *, timeout_s: float | None = None
    ) -> HeartbeatAnswer:
        """Report, and renew the lease."""

    async def leave(
        self, node: NodeId, incarnation: int, *, timeout_s: float | None = None
    ) -> None:
        """Say that the node serves no more."""

    async def suspect(
        self, node: NodeId, target: TargetId | None, why: str, *, timeout_s: float | None = None
    ) -> None:
        """Tell that a target does not answer."""

    def subscribe(self, known: RoutingInfo | None = None) -> AsyncGenerator[RoutingInfo, None]:
        """Yield the routing info, then each newer one."""


class Agent:
    """One start of a node, as mgmtd knows it."""

    def __init__(
        self,
        node: Chained,
        mgmtd: Primary,
        registration: NodeRegistration,
        log: Log,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Do nothing yet; the node serves nobody before it is told its places.

        `clock` is the one that the core counts its lease by.
        """
        self.log = log
        self._clock = clock
        self._node = node
        self._mgmtd = mgmtd
        self._registration = registration
        self._targets = frozenset(target.id for target in registration.targets)
        self._routing = RoutingInfo()
        self._configuration = NOT_CONFIGURED
        self._joined: RegisterAnswer | None = None
        self._epoch = Epoch(0)
        self._lease_end_ns = 0
        self._returned = False
        self._retired: frozenset[TargetId] = frozenset()
        self._devices = Devices()
        self._leaving = False
        self._refused = False
        self._orders: tuple[Order, ...] = ()
        self._due = asyncio.Event()
        self._renewed = asyncio.Event()
        self._adopted = asyncio.Condition()
        self._suspected_s: dict[TargetId, float] = {}
        self._suspicions: asyncio.Queue[tuple[TargetId, str]] = asyncio.Queue(SUSPICIONS_MAX)
        self._silent = False

    @property
    def routing(self) -> RoutingInfo:
        """The newest routing info known."""
        return self._routing

    @property
    def lease_left_s(self) -> float:
        """How long the node may still serve; 0 without a lease."""
        return max(0.0, (self._lease_end_ns - self._clock()) / 1e9)

    async def join(self) -> RegisterAnswer:
        """Register, as soon as a primary is there; RegistrationError: it may not."""
        strange = 0
        while True:
            try:
                answer = await self._mgmtd.register(
                    self._registration, timeout_s=REGISTER_TIMEOUT_S
                )
            except MgmtdUnavailableError as error:
                self.log.warning("mgmtd does not answer: trying again", error=str(error))
                continue
            except NotMgmtdError as error:
                # An mgmtd that dies in the middle of a hello looks the same, once.
                strange += 1
                if strange == STRANGE_ANSWERS_MAX:
                    raise
                self.log.warning("is that mgmtd? trying again", error=str(error))
                await asyncio.sleep(STRANGE_PAUSE_S)
                continue
            self._joined = answer
            self._epoch = answer.epoch
            self._adopt(answer.routing)
            return answer

    async def run(self) -> None:
        """Keep the lease and follow the routing info, until cancelled."""
        assert self._joined is not None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._keep_lease(self._joined))
            group.create_task(self._tell_suspicions())

    async def renewed(self) -> None:
        """Wait for the first lease."""
        await self._renewed.wait()

    def on_events(self, events: Iterable[NodeEvent]) -> None:
        """Take what the core tells; runs on the loop."""
        for event in events:
            match event.kind:
                case NodeEventKind.PEER_LOST:
                    self._suspect(TargetId(event.connection), event.text)
                case NodeEventKind.SYNCED | NodeEventKind.TARGET_OFFLINE:
                    self._due.set()
                case _:
                    pass

    async def leave(self, timeout_s: float) -> bool:
        """Serve nothing any more, and wait until the chains go on without this node's targets.

        Returns whether they do. run() must still go on.
        """
        self._leaving = True
        self._node.set_lease(0)
        self._lease_end_ns = 0
        if self._joined is None:
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._mgmtd.leave(
                    self._registration.id,
                    self._registration.incarnation,
                    timeout_s=min(timeout_s, LEAVE_TIMEOUT_S),
                )
                async with self._adopted:
                    await self._adopted.wait_for(lambda: not in_use(self._routing, self._targets))
        except (TimeoutError, ClusterError, StoreAccessError) as error:
            self.log.warning("left without mgmtd's word", error=str(error) or "it takes too long")
            return False
        return True

    # The lease.

    async def _keep_lease(self, joined: RegisterAnswer) -> None:
        terms = joined.terms
        timeout_s = terms.lease_ms / 1000 / HEARTBEATS_A_LEASE
        while not self._leaving:
            self._due.clear()
            sent_ns = self._clock()
            try:
                answer = await self._mgmtd.heartbeat(self._heartbeat(), timeout_s=timeout_s)
            except NotRegisteredError as error:
                self.log.warning("registering again", error=str(error))
                await self.join()
                continue
            except (ClusterError, StoreAccessError) as error:
                self._say_silent(error)
                await asyncio.sleep(RETRY_PAUSE_S)
                continue
            if self._silent:
                self.log.info("heartbeats again", epoch=answer.epoch)
            self._silent = False
            self._take(answer, sent_ns)
            interval_s = terms.heartbeat_ms / 1000
            next_s = sent_ns / 1e9 + (min(HASTE_S, interval_s) if answer.haste else interval_s)
            await self._wait_until(next_s)

    def _heartbeat(self) -> Heartbeat:
        states = self._node.chain_states()
        self._look_at_devices(states)
        return Heartbeat(
            node=self._registration.id,
            incarnation=self._registration.incarnation,
            routing_version=self._configuration.routing_version,
            targets=reports_of(states, self._withheld(), self._devices.left_out),
        )

    def _look_at_devices(self, states: Sequence[ChainState]) -> None:
        """Stop serving a target whose device does not answer, before that is reported."""
        before = self._devices.left_out
        self._devices.look(states, self._routing, self._clock() / 1e9)
        after = self._devices.left_out
        if after == before:
            return
        for target in sorted(after - before):
            self.log.error("the device of a target does not answer", target=target)
        for target in sorted(before - after):
            self.log.info("a target comes back, with its device", target=target)
        self._configure()

    def _take(self, answer: HeartbeatAnswer, sent_ns: int) -> None:
        """Take a lease, or what mgmtd wants first."""
        if answer.epoch < self._epoch or self._leaving:
            return
        self._epoch = answer.epoch
        self._refused = answer.lease_ms == 0
        if not self._refused:
            self._lease_end_ns = sent_ns + answer.lease_ms * NS_A_MS
            self._node.set_lease(self._lease_end_ns)
            self._renewed.set()
        self._take_orders(answer)
        new = self._wanted_back(answer.retire)
        needed = self._needed_again(answer)
        if new:
            self.log.info("targets retire", targets=sorted(new))
        if needed:
            self.log.info("targets are needed again", targets=sorted(needed))
        if new or needed:
            self._retired = (self._retired | new) - needed
            self._configure()
            self._due.set()

    def _take_orders(self, answer: HeartbeatAnswer) -> None:
        """Have the core do what mgmtd wants done about slots that move."""
        if answer.orders == self._orders or self._refused:
            return
        self._orders = answer.orders
        self._node.set_moves([move_of(order) for order in answer.orders])
        for order in answer.orders:
            self.log.info(
                "slots move",
                target=order.source,
                to=order.target,
                slots=len(order.slots),
                how=order.flags.name or "copy",
            )

    def _wanted_back(self, retire: Collection[TargetId]) -> frozenset[TargetId]:
        return (frozenset(retire) & in_chains(self._routing)) - self._retired

    def _needed_again(self, answer: HeartbeatAnswer) -> frozenset[TargetId]:
        """Return what is not to retire any more: by older routing info it may have left already."""
        if self._routing.version < answer.routing_version:
            return frozenset()
        return self._retired - frozenset(answer.retire)

    async def _wait_until(self, end_s: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, end_s - self._clock() / 1e9)):
                await self._due.wait()
        except TimeoutError:
            pass

    def _say_silent(self, error: Exception) -> None:
        if not self._silent:
            self.log.warning("no heartbeat", error=str(error), lease_left_s=self.lease_left_s)
        self._silent = True

    # Routing info.

    async def _follow(self) -> None:
        async with aclosing(self._mgmtd.subscribe(self._routing)) as versions:
            async for routing in versions:
                self._adopt(routing)
                async with self._adopted:
                    self._adopted.notify_all()

    def _adopt(self, routing: RoutingInfo) -> None:
        """Go by newer routing info."""
        if routing.version < self._routing.version:
            return
        self._routing = routing
        if not self._returned and not in_use(routing, self._targets):
            self._returned = True
            self.log.info("taking part", routing_version=routing.version)
        self._retired &= in_chains(routing)
        self._configure()

    def _withheld(self) -> frozenset[TargetId]:
        own = self._retired if self._returned else self._targets
        return own | self._devices.left_out

    def _configure(self) -> None:
        """Tell the core its places, and mgmtd at once where they have changed."""
        before = self._configuration
        after = configuration_of(self._routing, self._registration.id, self._withheld())
        self._configuration = after
        if not after.same_places(before):
            self._node.set_chains(after.routing_version, after.places, after.addresses)
            self._say_places(before, after)
            self._due.set()
        elif self._refused:
            self._due.set()

    def _say_places(self, before: Configuration, after: Configuration) -> None:
        for place in set(after.places) - set(before.places):
            self.log.info(
                "chain changed",
                chain=place.chain,
                chain_version=place.chain_version,
                target=place.target,
                place=place.flags.name or "none",
                successor=place.successor or None,
                routing_version=after.routing_version,
            )

    # Suspicions.

    def _suspect(self, target: TargetId, why: str) -> None:
        """Have mgmtd look after a target of another node, unless that was asked just now."""
        now_s = self._clock() / 1e9
        recent = now_s - self._suspected_s.get(target, 0.0) < SUSPECT_PAUSE_S
        if not recent and not self._suspicions.full():
            self._suspected_s[target] = now_s
            self._suspicions.put_nowait((target, why))

    async def _tell_suspicions(self) -> None:
        while True:
            target, why = await self._suspicions.get()
            known = self._routing.targets.get(target)
            if known is None:
                continue
            try:
                await self._mgmtd.suspect(
                    NodeId(known.node), target, why, timeout_s=SUSPECT_TIMEOUT_S
                )
            except (ClusterError, StoreAccessError) as error:
                self.log.warning("a suspicion was not told", target=target, error=str(error))
