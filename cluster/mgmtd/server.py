"""One mgmtd: it stands for election, answers as long as it is primary, and else says who is.

    standing ──elected──► loading ──► reigning ──lease lost, store failed──► standing
       │ while another is primary: watches its process, so that its death needs no waiting

Whoever is not primary answers every request with the primary's address. A primary answers nothing
from the moment that its lease may have run out, by its own clock.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from inspect import isawaitable
from itertools import count
from uuid import UUID, uuid4

from kvstore.addresses import Address
from kvstore.cluster.fields import Fields
from kvstore.cluster.ids import ID_MAX, ROUTING_VERSION_MAX, NodeId, TargetId
from kvstore.cluster.metadata.election import (
    PRIMARY_KEY,
    Holder,
    Primary,
    campaign,
    holder_of,
)
from kvstore.cluster.metadata.office import LOOKS_A_LEASE, Silence, held
from kvstore.cluster.metadata.port import (
    NO_SESSION,
    Created,
    Delete,
    Deleted,
    Entry,
    MetadataStore,
    Revision,
    Snapshot,
    follow,
)
from kvstore.cluster.mgmtd import wire
from kvstore.cluster.mgmtd.events import (
    Ask,
    Beat,
    Disconnected,
    Leave,
    ProbeOutcome,
    Register,
    Registered,
    Suspect,
    Tick,
)
from kvstore.cluster.mgmtd.messages import HeartbeatAnswer
from kvstore.cluster.mgmtd.network import Network, Sockets
from kvstore.cluster.mgmtd.persistence import take_over
from kvstore.cluster.mgmtd.reign import Clock, Counts, Log, Reign
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.rpc.failures import RedirectError
from kvstore.cluster.rpc.message import REQUEST_ID_MAX
from kvstore.cluster.rpc.service import Peer, Service
from kvstore.errors import (
    BusyError,
    KVStoreError,
    MalformedMessageError,
    MetadataError,
    NotPrimaryError,
    RpcError,
)

TICK_S = 0.05
PRIMARY_LEASE_S = 0.6
"""How long a primary that is not seen to die holds its office. A node's lease outlasts that, and
the search for the next one."""
SESSION_S_MIN = 1.0
"""A process's own session, and that of etcd, which rounds it up: where nobody takes the office."""
RETRY_S = 0.2
"""Before standing again when the metadata store fails."""
WATCH_TIMEOUT_S = 1.0
WATCH_PAUSE_S = 0.2
OPERATION_SIZE_MAX = 64

Request = Callable[["Mgmtd", Reign, Peer, object, float], object]


class Mgmtd:
    """One process's part in managing the cluster."""

    def __init__(
        self,
        store: MetadataStore,
        settings: Settings,
        *,
        secret: bytes,
        log: Log,
        primary_lease_s: float = PRIMARY_LEASE_S,
        clock: Clock = time.monotonic_ns,
        network: Network | None = None,
    ) -> None:
        """Do nothing yet. `network`: None: by TCP."""
        self._store = store
        self._settings = settings
        self._secret = secret
        self._secret_before: bytes | None = None
        self._log = log
        self._primary_lease_s = primary_lease_s
        self._clock = clock
        self._network = network or Sockets()
        self._name = ""
        self._service: Service | None = None
        self._sessions: dict[Peer, int] = {}
        self._session_numbers = count(1)
        self._session = NO_SESSION
        self._closing = False
        self._holder: Holder | None = None
        self._office: Entry | None = None
        """The key of the primary, and what it says, as far as it is known here."""
        self._office_changed = asyncio.Event()
        self.reign: Reign | None = None
        self.counts = Counts()

    @property
    def connections(self) -> int:
        """How many are connected."""
        return len(self._service.connected) if self._service else 0

    async def listen(self, address: Address, advertised: Address | None = None) -> Address:
        """Listen, and return where; `advertised` is what others are told, port 0: the same one."""
        self._service = await self._network.serve(address, self._secret, self)
        bound = Address(address.name, self._service.port)
        told = advertised or bound
        self._name = str(Address(told.name, told.port or bound.port))
        return bound

    async def run(self) -> None:
        """Stand, reign, and stand again, until cancelled. StoreAccessError: a wrong secret."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_holder())
                group.create_task(self._watch_holder())
                group.create_task(self._stand_again())
                if self._store.shared:
                    group.create_task(self._end_silence())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures

    async def change_secret(self, secret: bytes) -> None:
        """Prove another secret, and have it proven, on new connections; those that are there stay.

        The primary stores which one counts. Whoever becomes primary with the new one before that
        does it in its place.
        """
        if secret == self._secret:
            return
        if self.reign is not None:
            await self.reign.change_secret(secret)
        self._secret, self._secret_before = secret, self._secret
        if self._service is not None:
            self._service.secret = secret

    async def close(self) -> None:
        """Listen no more; give up the office, so that the next one need not wait."""
        self._closing = True  # it does not stand again for what it gives up
        reign, self.reign = self.reign, None
        if reign is not None:
            reign.end(NotPrimaryError("mgmtd stops"))
            await reign.primary.resign()
        if self._service is not None:
            await self._service.close()

    # The office.

    async def _stand_again(self) -> None:
        while not self._closing:
            try:
                await self._stand()
            except MetadataError as error:
                self._log.warning("not primary", why=str(error))
                await asyncio.sleep(RETRY_S)

    async def _stand(self) -> None:
        session = await self._store.session(max(self._primary_lease_s, SESSION_S_MIN))
        self._session = session.id
        try:
            primary = await campaign(self._store, session, self._name)
            if self._store.shared:
                async with held(primary, self._primary_lease_s, self._clock_s) as holding:
                    await self._reign(holding)
            else:
                await self._reign(primary)
        finally:
            await session.close()

    async def _reign(self, primary: Primary) -> None:
        assert self._service is not None
        secret = self._secret
        loaded = await take_over(primary, secret, uuid4(), self._secret_before)
        if secret != self._secret:  # changed meanwhile
            await loaded.persistence.change_secret(self._secret)
        self.counts.reigns += 1
        reign = Reign(
            primary,
            loaded,
            self._settings,
            spawn=self._service.spawn,
            log=self._log,
            counts=self.counts,
            clock=self._clock,
            probe=self._network.probe,
        )
        self.reign = reign
        routing = loaded.basis.routing
        self._log.info(
            "primary",
            epoch=primary.epoch,
            cluster=str(routing.cluster),
            routing_version=routing.version,
        )
        lost = asyncio.ensure_future(primary.lost())
        try:
            while not reign.over.done() and not lost.done():
                if primary.alive():  # else no heartbeat is answered, and silence proves nothing
                    reign.tell(Tick())
                await asyncio.wait(
                    (reign.over, lost), timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            lost.cancel()
            self.reign = None
            reign.end(NotPrimaryError("its lease ran out"))
            self._drop_peers()
        self._log.warning("primary no more", epoch=primary.epoch, why=str(reign.over.result()))

    def _clock_s(self) -> float:
        return self._clock() / 1e9

    def _drop_peers(self) -> None:
        """Send everybody to the next primary, subscribers above all."""
        assert self._service is not None
        for peer in list(self._service.connected):
            peer.abort()

    async def _follow_holder(self) -> None:
        """Know who is primary; step down when it is somebody else."""
        while True:
            try:
                async with aclosing(follow(self._store, PRIMARY_KEY)) as found:
                    async for changes in found:
                        rows = changes.entries if isinstance(changes, Snapshot) else changes.changes
                        self._take_holder(changes.revision, rows)
            except MetadataError as error:
                self._log.warning("cannot follow who is primary", why=str(error))
                await asyncio.sleep(RETRY_S)

    def _take_holder(self, revision: Revision, found: Sequence[Entry | Deleted]) -> None:
        entry = next((each for each in found if isinstance(each, Entry)), None)
        self._office = entry
        self._holder = None if entry is None else holder_of(entry)
        self._office_changed.set()
        reign = self.reign
        if reign is None or revision < reign.primary.token:
            return  # a watch may be late
        if entry is None or entry.created != reign.primary.token:
            reign.end(NotPrimaryError("its office was given to another"))

    async def _watch_holder(self) -> None:
        """Take the office of a primary whose process is gone, without waiting for its lease."""
        while True:
            await self._office_changed.wait()
            self._office_changed.clear()
            office, holder = self._office, self._holder
            if office is None or holder is None or office.session == self._session:
                continue
            try:
                # Who listens at its address is this process: the holder was one before it.
                if holder.name == self._name or await self._until_gone(holder):
                    gone = [Created(PRIMARY_KEY, office.created)]
                    await self._store.transaction(gone, [Delete(PRIMARY_KEY)])
            except KVStoreError as error:
                self._log.info("primary is not watched", primary=holder.name, why=str(error))

    async def _end_silence(self) -> None:
        """Take the office of a primary that renews it no more, whatever became of it."""
        silence = Silence(self._store, self._clock_s)
        while True:
            await asyncio.sleep(self._primary_lease_s / LOOKS_A_LEASE)
            if self.reign is not None:
                silence.forget()
                continue
            try:
                if await silence.end():
                    self._log.warning("primary is silent", primary=self._primary_address())
            except MetadataError as error:
                silence.forget()
                self._log.info("the office is not seen", why=str(error))

    async def _until_gone(self, holder: Holder) -> bool:
        """Watch a primary's process; False when somebody else has its office."""
        while self._holder == holder:
            with suppress(RpcError):  # whether it is gone, a probe tells
                await self._network.watch(
                    Address.parse(holder.name),
                    secret=self._secret,
                    name=f"mgmtd {self._name}",
                    timeout_s=WATCH_TIMEOUT_S,
                )
            if self._holder != holder:
                return False
            if await self._network.probe([holder.name]) is ProbeOutcome.REFUSED:
                self._log.warning("primary is gone", primary=holder.name, epoch=holder.epoch)
                return True
            await asyncio.sleep(WATCH_PAUSE_S)
        return False

    # What peers ask.

    def request(
        self, peer: Peer, method: str, parameters: object, timeout_s: float
    ) -> object | Awaitable[object]:
        """Answer a peer."""
        reign = self.reign
        if method == wire.WHO:
            return [int(reign is not None and reign.primary.alive()), self._primary_address()]
        if reign is None or not reign.primary.alive():
            raise RedirectError("this mgmtd is not primary", self._primary_address())
        answer = REQUESTS.get(method)
        if answer is None:
            raise MalformedMessageError(f"{method!r}: there is no such method")
        return answer(self, reign, peer, parameters, timeout_s)

    def writable(self, peer: Peer) -> None:
        """Send a peer what it lacks."""
        if self.reign is not None:
            self.reign.feed.caught_up(peer)

    def closed(self, peer: Peer) -> None:
        """Look after the nodes that spoke on a connection which has ended."""
        session = self._sessions.pop(peer, None)
        if self.reign is not None:
            self.reign.feed.drop(peer)
            if session is not None:
                self.reign.tell(Disconnected(session))

    def failed(self, peer: Peer, method: str, error: Exception) -> None:
        """Report a bug."""
        self._log.error("a request failed", peer=repr(peer), method=method, exc_info=error)

    def _primary_address(self) -> str:
        return "" if self._holder is None else self._holder.name

    def _session_of(self, peer: Peer) -> int:
        number = self._sessions.get(peer)
        if number is None:
            number = self._sessions[peer] = next(self._session_numbers)
        return number

    def _register(
        self, reign: Reign, peer: Peer, parameters: object, timeout_s: float
    ) -> Awaitable[object]:
        registration = wire.decode_registration(parameters)
        session = self._session_of(peer)
        asked = reign.ask(
            lambda ticket, deadline_ns: Register(
                ticket, session, registration, deadline_ns, peer.host
            ),
            timeout_s,
        )
        return self._registered(reign, asked)

    async def _registered(self, reign: Reign, asked: object) -> list[object]:
        result = await asked if isawaitable(asked) else asked
        assert isinstance(result, Registered)
        terms = self._settings.terms
        return wire.encode_register_answer(terms, reign.primary.epoch, reign.feed.parts())

    def _heartbeat(
        self, reign: Reign, peer: Peer, parameters: object, timeout_s: float
    ) -> list[object]:
        fields = Fields(parameters, "heartbeat", 5)
        node = NodeId(fields.integer("node", ID_MAX))
        incarnation = fields.integer("incarnation", ROUTING_VERSION_MAX)
        version = fields.integer("routing version", ROUTING_VERSION_MAX)
        states, measures = fields.any(), fields.any()
        if not isinstance(states, bytes) or not isinstance(measures, bytes):
            raise MalformedMessageError("heartbeat: states and measures are bytes")
        session = self._session_of(peer)
        self.counts.heartbeats += 1
        answer = reign.ask(
            lambda ticket, _: Beat(ticket, session, node, incarnation, version, states, measures),
            timeout_s,
        )
        assert isinstance(answer, HeartbeatAnswer)
        return wire.encode_heartbeat_answer(answer)

    def _leave(self, reign: Reign, peer: Peer, parameters: object, timeout_s: float) -> object:
        fields = Fields(parameters, "leave", 2)
        node = NodeId(fields.integer("node", ID_MAX))
        incarnation = fields.integer("incarnation", ROUTING_VERSION_MAX)
        return reign.ask(lambda ticket, _: Leave(ticket, node, incarnation), timeout_s)

    def _suspect(self, reign: Reign, peer: Peer, parameters: object, timeout_s: float) -> object:
        fields = Fields(parameters, "suspect", 3)
        node = NodeId(fields.integer("node", ID_MAX))
        target = TargetId(fields.integer("target", ID_MAX)) or None
        reign.tell(Suspect(node, target, fields.text("why", wire.WHY_SIZE_MAX * 4)))
        return None

    def _routing(self, reign: Reign, peer: Peer, parameters: object, timeout_s: float) -> object:
        return reign.feed.parts()

    def _subscribe(self, reign: Reign, peer: Peer, parameters: object, timeout_s: float) -> object:
        fields = Fields(parameters, "subscribe", 3)
        number = fields.integer("subscription", REQUEST_ID_MAX)
        cluster = UUID(bytes=fields.binary("cluster", 16))
        version = fields.integer("version", ROUTING_VERSION_MAX)
        if not reign.feed.subscribe(peer, number, cluster, version):
            raise BusyError("this connection has as many subscriptions as it may have")
        return None

    def _admin(self, reign: Reign, peer: Peer, parameters: object, timeout_s: float) -> object:
        fields = Fields(parameters, "admin", 2)
        operation = fields.text("operation", OPERATION_SIZE_MAX)
        given = wire.parameters_of(fields.any())
        asked = reign.ask(
            lambda ticket, deadline_ns: Ask(ticket, operation, given, deadline_ns), timeout_s
        )
        return self._operated(asked)

    async def _operated(self, asked: object) -> object:
        result = await asked if isawaitable(asked) else asked
        assert isinstance(result, Mapping)
        return {**result, "primary": self._name} if "epoch" in result else dict(result)


REQUESTS: "Mapping[str, Request]" = {
    wire.REGISTER: Mgmtd._register,
    wire.HEARTBEAT: Mgmtd._heartbeat,
    wire.LEAVE: Mgmtd._leave,
    wire.SUSPECT: Mgmtd._suspect,
    wire.ROUTING: Mgmtd._routing,
    wire.SUBSCRIBE: Mgmtd._subscribe,
    wire.ADMIN: Mgmtd._admin,
}
