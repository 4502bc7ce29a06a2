"""How storage nodes, clients and commands talk to mgmtd: they find the primary and follow it."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from itertools import count
from typing import Self

from kvstore.addresses import Address
from kvstore.cluster.fields import Fields
from kvstore.cluster.ids import NodeId, TargetId
from kvstore.cluster.mgmtd import wire
from kvstore.cluster.mgmtd.finder import Finder
from kvstore.cluster.mgmtd.messages import (
    Heartbeat,
    HeartbeatAnswer,
    NodeRegistration,
    RegisterAnswer,
)
from kvstore.cluster.routing import RoutingInfo
from kvstore.cluster.rpc.connection import Connection
from kvstore.cluster.rpc.failures import RedirectError
from kvstore.errors import (
    ConnectionLostError,
    KVTimeoutError,
    MalformedRoutingError,
    MgmtdUnavailableError,
    RoutingVersionError,
    RpcError,
    StoreAccessError,
)

CALL_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 1.0
HOLD_S = 1.0
"""How often a subscriber asks whether mgmtd is there; it gives up a connection after as long."""
PAUSE_MIN_S = 0.02
PAUSE_MAX_S = 0.2
SUBSCRIPTION_MAX = 2**31


class MgmtdClient:
    """One process's way to mgmtd. Used from one event loop; close it, or use `async with`.

    Calls are sent to the primary, over one connection. Where it is not known, lost, or no longer
    primary, each address of each name is tried, names are resolved anew, and redirects are
    followed, with jittered pauses, until the call's deadline. What a caller may get from every
    call: MgmtdUnavailableError, when no primary answered by then; StoreAccessError, when the secret
    is wrong; NotMgmtdError, when something else than mgmtd listens at every address. A call whose
    connection is lost is sent again: every operation may be done twice, or is refused then.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        secret: bytes = b"",
        timeout_s: float = CALL_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        name: str = "client",
    ) -> None:
        """Do nothing yet. `timeout_s` is the deadline of each call that names none.

        `name` is who calls, for mgmtd's log.
        """
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._finder = Finder(addresses, secret, name, self._pushed)
        self._random = random.Random()
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._subscriptions: dict[int, _Subscription] = {}
        self._numbers = count(1)
        self._closed = False

    async def register(
        self, registration: NodeRegistration, *, timeout_s: float | None = None
    ) -> RegisterAnswer:
        """Join the cluster. RegistrationError says why not, and what to do about it."""
        parameters = wire.encode_registration(registration)
        raw = await self._call(wire.REGISTER, parameters, timeout_s)
        return wire.decode_register_answer(raw, self._finder.secret)

    async def heartbeat(
        self, heartbeat: Heartbeat, *, timeout_s: float | None = None
    ) -> HeartbeatAnswer:
        """Report, and renew the lease. NotRegisteredError: register again."""
        parameters = wire.encode_heartbeat(heartbeat)
        return wire.decode_heartbeat_answer(await self._call(wire.HEARTBEAT, parameters, timeout_s))

    async def leave(
        self, node: NodeId, incarnation: int, *, timeout_s: float | None = None
    ) -> None:
        """Say that the node serves no more, from now on: its targets leave their chains at once.

        The node has stopped serving before it calls this.
        """
        await self._call(wire.LEAVE, [node, incarnation], timeout_s)

    async def suspect(
        self, node: NodeId, target: TargetId | None, why: str, *, timeout_s: float | None = None
    ) -> None:
        """Tell that a node, or one of its targets, does not answer: mgmtd looks at once."""
        await self._call(wire.SUSPECT, [node, target or 0, why[: wire.WHY_SIZE_MAX]], timeout_s)

    async def routing(self, *, timeout_s: float | None = None) -> RoutingInfo:
        """Return the whole routing info that is in force."""
        return wire.decode_parts(await self._call(wire.ROUTING, None, timeout_s))

    async def subscribe(
        self, known: RoutingInfo | None = None
    ) -> AsyncGenerator[RoutingInfo, None]:
        """Yield the routing info, then each newer one, for ever; close it with `aclosing`.

        Versions that a slow reader missed are left out, never the newest. It reconnects by itself,
        raises nothing but StoreAccessError, and with `known` yields only what is newer than that.
        """
        subscription = _Subscription(next(self._numbers) % SUBSCRIPTION_MAX, known)
        self._subscriptions[subscription.number] = subscription
        following = asyncio.ensure_future(self._follow(subscription))
        try:
            while not self._closed:
                fresh = asyncio.ensure_future(subscription.news.wait())
                await asyncio.wait((fresh, following), return_when=asyncio.FIRST_COMPLETED)
                fresh.cancel()
                if following.done():
                    following.result()
                    return
                subscription.news.clear()
                assert subscription.routing is not None
                yield subscription.routing
        finally:
            del self._subscriptions[subscription.number]
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following

    async def admin(
        self, operation: str, *, timeout_s: float | None = None, **parameters: object
    ) -> dict[str, object]:
        """Do an operator's operation, and return what came of it; `admin` lists the operations.

        Raises InvalidOptionError for what makes no sense, ChainChangeError and PlacementError for
        what would lose data or cannot be placed; the messages say what to do.
        """
        result = await self._call(wire.ADMIN, [operation, parameters], timeout_s)
        if not isinstance(result, dict):
            raise MalformedRoutingError(f"{operation}: the answer is no map")
        return result

    def change_secret(self, secret: bytes) -> None:
        """Prove another secret, from a new connection on; calls and subscriptions go on there.

        An mgmtd that refuses it is shown the one that was taken last.
        """
        if secret != self._finder.secret:
            self._finder.secret = secret
            self._drop(self._connection)

    async def close(self) -> None:
        """End the connection and every subscription."""
        self._closed = True
        for subscription in self._subscriptions.values():
            subscription.ended.set()
        self._drop(self._connection)

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close."""
        await self.close()

    async def _call(self, method: str, parameters: object, timeout_s: float | None) -> object:
        """Ask the primary, whoever that is by the deadline."""
        loop = asyncio.get_running_loop()
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        deadline_s = loop.time() + timeout_s
        pause_s = PAUSE_MIN_S
        while True:
            connection = await self._primary(deadline_s)
            left_s = deadline_s - loop.time()
            try:
                return await connection.call(method, parameters, max(left_s, 0.001))
            except RedirectError as error:
                self._drop(connection)
                self._finder.hint(error.primary)
                why: Exception = error
            except ConnectionLostError as error:
                self._drop(connection)
                why = error
            except KVTimeoutError as error:
                self._drop(connection)  # another mgmtd may be primary by now
                raise MgmtdUnavailableError(f"{error}: it may be done yet") from error
            pause_s = await self._pause(pause_s, deadline_s, why)

    async def _primary(self, deadline_s: float) -> Connection:
        """Return the connection to the primary; made now where there is none."""
        loop = asyncio.get_running_loop()
        pause_s = PAUSE_MIN_S
        while True:
            if self._closed:
                raise MgmtdUnavailableError("this client is closed")
            async with self._connecting:
                if self._connection is not None and not self._connection.closed:
                    return self._connection
                left_s = deadline_s - loop.time()
                try:
                    timeout_s = max(0.001, min(self._connect_timeout_s, left_s))
                    self._connection = await self._finder.find(timeout_s)
                    return self._connection
                except MgmtdUnavailableError as error:
                    why = error
            pause_s = await self._pause(pause_s, deadline_s, why)

    async def _pause(self, pause_s: float, deadline_s: float, why: Exception) -> float:
        """Wait a little before the next attempt, and return how long to wait after that."""
        jittered_s = pause_s * self._random.uniform(0.5, 1.0)
        if asyncio.get_running_loop().time() + jittered_s >= deadline_s:
            raise MgmtdUnavailableError(f"no mgmtd answers: {why}") from why
        await asyncio.sleep(jittered_s)
        return min(2 * pause_s, PAUSE_MAX_S)

    def _drop(self, connection: Connection | None) -> None:
        if connection is not None:
            connection.abort()
            if self._connection is connection:
                self._connection = None

    # Subscriptions.

    async def _follow(self, subscription: "_Subscription") -> None:
        """Be subscribed at whoever is primary, until the client is closed."""
        loop = asyncio.get_running_loop()
        while not self._closed:
            try:
                connection = await self._primary(loop.time() + self._timeout_s)
                await connection.call(wire.SUBSCRIBE, subscription.request(), HOLD_S)
                await self._hold(connection, subscription)
            except StoreAccessError:
                raise
            except RedirectError as error:
                self._drop(self._connection)
                self._finder.hint(error.primary)
            except (RpcError, KVTimeoutError, MgmtdUnavailableError):
                self._drop(self._connection)
            if not self._closed:
                await asyncio.sleep(PAUSE_MIN_S * self._random.uniform(0.5, 1.0))

    async def _hold(self, connection: Connection, subscription: "_Subscription") -> None:
        """Return when the connection has ended, or the subscription must begin anew."""
        held = asyncio.ensure_future(connection.hold(HOLD_S))
        ended = asyncio.ensure_future(subscription.ended.wait())
        try:
            await asyncio.wait((held, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (held, ended):
                task.cancel()
        subscription.ended.clear()

    def _pushed(self, number: int, news: object) -> None:
        subscription = self._subscriptions.get(number)
        if subscription is not None:
            subscription.take(news)


class _Subscription:
    """What one subscriber has."""

    def __init__(self, number: int, known: RoutingInfo | None) -> None:
        self.number = number
        self.routing = known
        self.news = asyncio.Event()
        self.ended = asyncio.Event()

    def request(self) -> list[object]:
        """Return what tells mgmtd where to go on."""
        known = self.routing or RoutingInfo()
        return [self.number, known.cluster.bytes, known.version]

    def take(self, news: object) -> None:
        """Take what was pushed; begin anew from the whole where it leads from something else."""
        fields = Fields(news, "news", 2)
        kind, parts = fields.integer("kind", wire.PUSH_DELTA), fields.any()
        if kind == wire.PUSH_WHOLE:
            self.routing = wire.decode_parts(parts)
            self.news.set()
            return
        try:
            self.routing = wire.apply_deltas(parts, self.routing or RoutingInfo())
            self.news.set()
        except RoutingVersionError:
            self.routing = None
            self.ended.set()
