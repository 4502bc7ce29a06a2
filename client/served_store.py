"""A store that nodes serve: batches go to the C core's client, all else walks over the targets.

connect ──► routing info from any node that answers ──► kv_client_route
               ▲                                              │
               └── a thread fetches it again ◄── batches meet a node or target that is not there

Guarantees: a newer version of the routing info replaces an older one, never the other way round;
nodes are asked for it at most once in a second. A walk visits targets in the order of their ids.
Leaves to others: batches, retries and connections, which are the core's.
"""

import errno
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from struct import Struct

from kvstore.addresses import Address
from kvstore.cluster.codec import decode_routing
from kvstore.cluster.routes import Routes, routes_of
from kvstore.errors import (
    DeniedError,
    KVStoreError,
    KVTimeoutError,
    MalformedRoutingError,
    StoreAccessError,
    StoreClosedError,
    StoreCorruptError,
    StoreOpenError,
    StoreUnavailableError,
    StoreUnreachableError,
    StoreVersionError,
)
from kvstore.native.client import ControlError, NativeClient
from kvstore.native.listing import END, parse_bad_objects, parse_listing
from kvstore.native.statistics import (
    NODE_STATISTICS_SIZE,
    SLAB_ROW,
    STORE_STATISTICS_SIZE,
    node_statistics_of,
    parse_slabs,
    stats_of,
)
from kvstore.options import ClientOptions
from kvstore.types import BadObject, ControlKind, ListedObject, NodeStatistics, SlabRow, Stats

REFRESH_INTERVAL_S = 1.0
"""How often batches are looked at for trouble, and nodes are asked at most."""
REFRESH_TIMEOUT_S = 2.0
"""How long one node may take to answer in the background: closing waits for it."""
ROUTING_SIZE_MAX = 4 << 20
"""Room for what a node answers: 1,000 nodes and 20,000 chains are 1.2 MB."""
PAGE_SIZE = 256 << 10
PAGE_SIZE_MAX = 8 << 20
"""Bytes of a page of keys, and where that is too small: room for the longest in one step."""
SLAB_ROWS_MAX = 1024
DESCRIPTION_SIZE = 1024
NO_TARGET = 0
"""For what a node answers as a whole."""
NO_AMOUNTS = frozenset(
    (
        "slab_size",
        "journal_generation",
        "sequence",
        "sequence_durable",
        "sequence_flushed",
        "checkpoint_sequence",
        "offline",
    )
)
"""Statistics that make no sense as sums over targets."""

LIST_BODY = Struct("<QI")
LIST_REPLY = Struct("<Q")
VERIFY_BODY = Struct("<QQI")
VERIFY_REPLY = Struct("<QQQ")
COUNT_REPLY = Struct("<I")

OPEN_ERRORS: dict[int, type[StoreOpenError]] = {
    errno.EACCES: StoreAccessError,
    errno.EPROTONOSUPPORT: StoreVersionError,
}
CALL_ERRORS: dict[int, type[KVStoreError]] = {
    errno.EACCES: DeniedError,
    errno.EROFS: DeniedError,
    errno.ETIMEDOUT: KVTimeoutError,
    errno.EBADMSG: StoreCorruptError,
}


@dataclass(frozen=True, slots=True)
class NodeSurvey:
    """What one node says of itself, or why it does not."""

    node: int
    address: Address
    statistics: NodeStatistics | None
    targets: dict[int, Stats]
    error: str


class ServedStore(NativeClient):
    """An open store on nodes."""

    def __init__(self, options: ClientOptions) -> None:
        """Ask a node where keys are; raises a StoreOpenError when none says it."""
        super().__init__(options)
        self._routes: Routes | None = None
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._refresh_timeout_s = min(REFRESH_TIMEOUT_S, options.connect_timeout_s)
        self._watcher = threading.Thread(target=self._watch, name="kvstore-routing", daemon=True)
        try:
            self._connect(time.monotonic() + max(options.timeout_s, options.connect_timeout_s))
            self._watcher.start()
        except BaseException:
            super().close(0.0)
            raise

    @property
    def routes(self) -> Routes:
        """Where batches go, by the newest routing info known."""
        assert self._routes is not None, "a store opens with them"
        return self._routes

    def close(self, timeout_s: float) -> None:
        """Wait for calls in progress, close every connection."""
        self._stopping.set()
        super().close(timeout_s)
        self._watcher.join()

    # Routing info.

    def _connect(self, deadline: float) -> None:
        failures: list[StoreOpenError] = []
        for address in self.options.addresses:
            left_s = min(deadline - time.monotonic(), self.options.connect_timeout_s)
            if left_s <= 0:
                break
            try:
                self._adopt(self._fetch(address, left_s))
            except StoreOpenError as failure:
                failures.append(failure)
            else:
                return
        # A node that answered and refused says more than one that did not answer.
        telling = [f for f in failures if not isinstance(f, StoreUnreachableError)] or failures
        kind = type(telling[0]) if telling else StoreUnreachableError
        said = "; ".join(map(str, failures)) or "no time to ask any node"
        raise kind(f"cannot open {self.options.name}: {said}")

    def _fetch(self, address: Address, timeout_s: float) -> Routes:
        try:
            kind = ControlKind.ROUTING
            encoded = self.control(address, NO_TARGET, kind, b"", ROUTING_SIZE_MAX, timeout_s)
            return routes_of(decode_routing(encoded), self.options.name_space)
        except ControlError as error:
            kind_of_error = OPEN_ERRORS.get(error.number, StoreUnreachableError)
            raise kind_of_error(named(address, error)) from error
        except MalformedRoutingError as error:
            raise StoreUnreachableError(f"{address}: {error}") from error

    def _adopt(self, routes: Routes) -> None:
        """Go by these routes, unless newer ones are known."""
        with self._changing:
            known = self._routes
            if known is not None and routes.routing_version <= known.routing_version:
                return
            places = {node: place for place, node in enumerate(routes.nodes)}
            self.route(
                routes.routing_version,
                list(routes.nodes.values()),
                [places[routes.targets[target]] for target in routes.slots],
                routes.slots,
            )
            self._routes = routes

    def _watch(self) -> None:
        """Ask for newer routing info while batches are in trouble; runs on its own thread."""
        try:
            seen = self.setback_count()
            while not self._stopping.wait(REFRESH_INTERVAL_S):
                now = self.setback_count()
                if now != seen:
                    self._refresh()
                    # Asking a node that is not there is trouble, too: it must not ask again.
                    seen = self.setback_count()
        except StoreClosedError:
            pass

    def _refresh(self) -> None:
        known = self.routes.routing_version
        addresses = dict.fromkeys((*self.routes.nodes.values(), *self.options.addresses))
        for address in addresses:
            if self._stopping.is_set():
                return
            try:
                self._adopt(self._fetch(address, self._refresh_timeout_s))
            except StoreOpenError:
                continue
            if self.routes.routing_version > known:
                return

    # Control requests to one target.

    def _ask(
        self, target: int, kind: ControlKind, body: bytes, room: int, timeout_s: float
    ) -> bytes:
        """Return what a target answers; once more, by newer routing info, where none does."""
        deadline = time.monotonic() + timeout_s
        try:
            return self.control(self._address_of(target), target, kind, body, room, timeout_s)
        except ControlError as error:
            left_s = deadline - time.monotonic()
            if error.number in (*CALL_ERRORS, errno.EMSGSIZE, errno.ENOBUFS) or left_s <= 0:
                raise
        self._refresh()
        return self.control(self._address_of(target), target, kind, body, room, max(left_s, 0.001))

    def _address_of(self, target: int) -> Address:
        routes = self.routes
        node = routes.targets.get(target)
        if node is None:
            raise ControlError(errno.ENOENT, f"target {target} is in no chain any more")
        return routes.nodes[node]

    def _asked(
        self, target: int, kind: ControlKind, body: bytes = b"", room: int = 0, timeout_s: float = 0
    ) -> bytes:
        """The same, with the errors of the public API."""
        try:
            return self._ask(target, kind, body, room, timeout_s or self.options.timeout_s)
        except ControlError as error:
            raise self._failure(target, kind, error) from error

    def _failure(self, target: int, kind: ControlKind, error: ControlError) -> KVStoreError:
        call = kind.name.lower()
        made = CALL_ERRORS.get(error.number, StoreUnavailableError)
        return made(f"cannot {call} in {self.options.name}, target {target}: {reason_of(error)}")

    def _paged(
        self, target: int, kind: ControlKind, body_of: Callable[[int], bytes], head: int
    ) -> bytes:
        """Return a reply with a page of keys, in as much room as it needs."""
        try:
            room = head + PAGE_SIZE
            return self._ask(target, kind, body_of(PAGE_SIZE), room, self.options.timeout_s)
        except ControlError as error:
            if error.number not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise self._failure(target, kind, error) from error
        return self._asked(target, kind, body_of(PAGE_SIZE_MAX), head + PAGE_SIZE_MAX)

    # The whole store. A cursor is the target in the high bits and the target's own in the low 64.

    def _targets(self) -> list[int]:
        return sorted(self.routes.targets)

    def _place(self, cursor: int) -> tuple[int, int]:
        """Return target and cursor of a walk's cursor; 0 begins with the first target."""
        return (cursor >> 64 or self._targets()[0]), cursor & END

    def _next(self, target: int, cursor: int) -> int:
        """Return a walk's cursor behind what a target has answered."""
        if cursor != END:
            return target << 64 | cursor
        following = [other for other in self._targets() if other > target]
        return following[0] << 64 if following else END

    def list(self, cursor: int, prefix: bytes) -> tuple[int, tuple[ListedObject, ...]]:
        """Return the next cursor and one page of objects; cursors begin at 0 and end with END."""
        target, position = self._place(cursor)
        reply = self._paged(
            target,
            ControlKind.LIST,
            lambda room: LIST_BODY.pack(position, room) + prefix,
            LIST_REPLY.size,
        )
        (following,) = LIST_REPLY.unpack_from(reply)
        return self._next(target, following), parse_listing(reply[LIST_REPLY.size :])

    def verify(self, cursor: int, size: int) -> tuple[int, int, int, tuple[BadObject, ...]]:
        """Have a node check about *size* bytes of values, as NativeStore.verify does."""
        target, position = self._place(cursor)
        reply = self._paged(
            target,
            ControlKind.VERIFY,
            lambda room: VERIFY_BODY.pack(position, size, room),
            VERIFY_REPLY.size,
        )
        following, objects, verified = VERIFY_REPLY.unpack_from(reply)
        bad = parse_bad_objects(reply[VERIFY_REPLY.size :])
        return self._next(target, following), objects, verified, bad

    def flush(self) -> None:
        """Make everything acknowledged so far survive loss of power, on every target."""
        for target in self._targets():
            self._asked(target, ControlKind.FLUSH)

    def compact(self, timeout_s: float) -> int:
        """Empty sparse slabs of every target; returns how many were freed."""
        freed = 0
        for target in self._targets():
            reply = self._asked(
                target, ControlKind.COMPACT, room=COUNT_REPLY.size, timeout_s=timeout_s
            )
            freed += COUNT_REPLY.unpack(reply)[0]
        return freed

    def checkpoint(self, timeout_s: float) -> None:
        """Write a checkpoint of every target."""
        for target in self._targets():
            self._asked(target, ControlKind.CHECKPOINT, timeout_s=timeout_s)

    def slabs(self) -> tuple[SlabRow, ...]:
        """Return one row for each slab class in use, of all targets together."""
        merged: dict[int, SlabRow] = {}
        for target in self._targets():
            packed = self._asked(target, ControlKind.SLABS, room=SLAB_ROWS_MAX * SLAB_ROW.size)
            for row in parse_slabs(packed):
                known = merged.get(row.slab_class)
                merged[row.slab_class] = row if known is None else added_rows(known, row)
        return tuple(merged[slab_class] for slab_class in sorted(merged))

    def stats(self) -> Stats:
        """Return the sums of every target's gauges and counters."""
        targets = self._targets()
        found = [self._statistics(target, self._asked)[1] for target in targets]
        text = self._asked(targets[0], ControlKind.DESCRIBE, room=DESCRIPTION_SIZE)
        nodes = len({self.routes.targets.get(target) for target in targets})
        said = text.decode("utf-8", "replace")
        return summed(f"nodes={nodes} targets={len(targets)} {said}", found)

    def survey(self) -> Iterator[NodeSurvey]:
        """Yield what each node says of itself, also of those that do not answer."""
        routes = self.routes
        for node in sorted(routes.nodes):
            address, error = routes.nodes[node], ""
            statistics: NodeStatistics | None = None
            stats: dict[int, Stats] = {}
            try:
                for target in routes.targets_of(node):
                    statistics, stats[target] = self._statistics(target, self._asked_briefly)
            except KVStoreError as failure:
                error, statistics, stats = str(failure), None, {}
            yield NodeSurvey(node, address, statistics, stats, error)

    def _asked_briefly(self, target: int, kind: ControlKind, body: bytes, room: int) -> bytes:
        return self._asked(target, kind, body, room, REFRESH_TIMEOUT_S)

    def _statistics(
        self, target: int, ask: Callable[[int, ControlKind, bytes, int], bytes]
    ) -> tuple[NodeStatistics, Stats]:
        size = NODE_STATISTICS_SIZE + STORE_STATISTICS_SIZE
        packed = ask(target, ControlKind.STATISTICS, b"", size)
        if len(packed) != size:
            raise StoreVersionError(
                f"target {target} of {self.options.name} answers {len(packed)} bytes of "
                f"statistics, this release reads {size}: node and client are of different releases"
            )
        node, store = packed[:NODE_STATISTICS_SIZE], packed[NODE_STATISTICS_SIZE:]
        return node_statistics_of(node), stats_of("", store)


def named(address: Address, error: ControlError) -> str:
    """Say what went wrong, with the address in front unless it is there already."""
    text = reason_of(error)
    return text if text.startswith(str(address)) else f"{address}: {text}"


def reason_of(error: ControlError) -> str:
    """Say what the errno of a control request means where the core does not say it."""
    if error.number == errno.ENODEV:
        return "a device failure took the target offline"
    if error.number == errno.ENOENT:
        return "the node has no such target, or no routing info"
    return str(error)


def added_rows(one: SlabRow, other: SlabRow) -> SlabRow:
    """Return the slabs of one slab class on two targets."""
    return SlabRow(
        one.slab_class,
        one.extent_size,
        one.slabs + other.slabs,
        one.live_count + other.live_count,
        one.live_size + other.live_size,
        one.free_size + other.free_size,
    )


def summed(description: str, found: list[Stats]) -> Stats:
    """Return the sums; of what is no amount the largest; the first errno that took one offline."""
    names = [field.name for field in fields(Stats) if field.name != "description"]
    values = {
        name: (max if name in NO_AMOUNTS else sum)(getattr(stats, name) for stats in found)
        for name in names
    }
    values["offline"] = next((stats.offline for stats in found if stats.offline), 0)
    return Stats(description=description, **values)
