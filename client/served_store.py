"""A store that nodes serve: batches go to the C core's client, all else walks over the targets.

mgmtd, or nodes ──► routing info ──► Routes ──► the core, and walks

Guarantees: a newer version of the routing info replaces an older one, never the other way round.
A walk over keys visits each chain once, at one of its targets; a walk over targets visits all that
serve, in the order of their ids. Leaves to others: batches, retries and connections, which are the
core's, and where routing info comes from.
"""

import errno
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from struct import Struct
from typing import TypeVar

from kvstore.addresses import Address
from kvstore.client.following import Follower, find
from kvstore.client.nodes_follower import REFRESH_TIMEOUT_S, reason_of
from kvstore.cluster.routes import RoutedChain, Routes, routes_of
from kvstore.cluster.routing import RoutingInfo
from kvstore.errors import (
    DeniedError,
    KVStoreError,
    KVTimeoutError,
    MalformedRoutingError,
    StoreCorruptError,
    StoreNotFoundError,
    StoreUnavailableError,
    StoreUnreachableError,
    StoreVersionError,
)
from kvstore.native.client import ControlError, NativeClient
from kvstore.native.listing import (
    END,
    LIST_BODY,
    LIST_REPLY,
    parse_bad_objects,
    parse_listing,
)
from kvstore.native.statistics import (
    NODE_STATISTICS_SIZE,
    SLAB_ROW,
    STORE_STATISTICS_SIZE,
    node_statistics_of,
    parse_slabs,
    stats_of,
)
from kvstore.options import ClientOptions
from kvstore.types import (
    BadObject,
    ControlKind,
    ListedObject,
    NodeStatistics,
    SlabRow,
    Stats,
)

PAGE_SIZE = 256 << 10
PAGE_SIZE_MAX = 8 << 20
"""Bytes of a page of keys, and where that is too small: room for the longest in one step."""
SLAB_ROWS_MAX = 1024
DESCRIPTION_SIZE = 1024
NAMES_SHOWN_MAX = 8
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

TARGET_MAX = (1 << 32) - 1
GONE = RoutedChain(1, ())
"""A chain that no slot leads to any more."""
T = TypeVar("T")

VERIFY_BODY = Struct("<QQI")
VERIFY_REPLY = Struct("<QQQ")
COUNT_REPLY = Struct("<I")

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
        """Learn where keys are; raises a StoreOpenError when nobody says it."""
        super().__init__(options)
        self._routes: Routes | None = None
        self._changing = threading.Condition()
        self._follower: Follower | None = None
        self._chain_indices: dict[int, int] = {}
        try:
            self._connect(time.monotonic() + max(options.timeout_s, options.connect_timeout_s))
        except BaseException:
            self.close(0.0)
            raise

    @property
    def routes(self) -> Routes:
        """Where batches go, by the newest routing info known."""
        assert self._routes is not None, "a store opens with them"
        return self._routes

    def close(self, timeout_s: float) -> None:
        """Wait for calls in progress, close every connection."""
        self.refuse()
        if self._follower is not None:
            self._follower.close()
        super().close(timeout_s)

    # Routing info.

    def _connect(self, deadline: float) -> None:
        self._follower, routing = find(self, self._adopt, deadline)
        try:
            self._adopt(routing)
        except MalformedRoutingError as error:
            if not self._follower.chained or routing.slot_tables:
                raise StoreUnreachableError(f"cannot open {self.options.name}: {error}") from error
        self._follower.start(routing)
        with self._changing:
            left_s = min(deadline - time.monotonic(), self.options.connect_timeout_s)
            if not self._changing.wait_for(lambda: self._routes is not None, max(0.0, left_s)):
                raise StoreUnreachableError(
                    f"cannot open {self.options.name}: its cluster has no chains yet: start its"
                    " storage nodes, then `kvstore admin create-chains`"
                )

    def _adopt(self, routing: RoutingInfo) -> None:
        """Go by this routing info, unless newer one is known."""
        chained = self._follower is None or self._follower.chained
        if chained and routing.slot_tables:
            self._check_namespace(routing)
        routes = routes_of(routing, self.options.name_space)
        with self._changing:
            known = self._routes
            if known is not None and routes.routing_version <= known.routing_version:
                return
            if chained:
                self._route_chains(routes)
            else:
                self._route_targets(routes)
            self._routes = routes
            self._changing.notify_all()

    def _check_namespace(self, routing: RoutingInfo) -> None:
        name = self.options.name_space
        if name not in routing.namespaces:
            names = sorted(routing.namespaces)
            shown = ", ".join(names[:NAMES_SHOWN_MAX]) or "none"
            more = f" and {len(names) - NAMES_SHOWN_MAX} more" * (len(names) > NAMES_SHOWN_MAX)
            raise StoreNotFoundError(
                f"cannot open {self.options.name}: there is no namespace {name!r}, there is"
                f" {shown}{more}: make it with `kvstore ns create {self.options.name}`"
            )

    def _route_targets(self, routes: Routes) -> None:
        places = {node: place for place, node in enumerate(routes.nodes)}
        targets = [routes.chains[chain].first for chain in routes.slots]
        self.route(
            routes.routing_version,
            list(routes.nodes.values()),
            [places[routes.targets[target]] for target in targets],
            targets,
        )

    def _route_chains(self, routes: Routes) -> None:
        places = {node: place for place, node in enumerate(routes.nodes)}
        # A chain keeps its index, also when it is gone: the core knows it by that.
        # Slots that are just moving to another chain are those of one that nobody serves.
        for chain in dict.fromkeys((*routes.chains, *routes.slots)):
            self._chain_indices.setdefault(chain, len(self._chain_indices))
        members: list[tuple[int, int]] = []
        rows: list[tuple[int, int, int]] = []
        for chain in self._chain_indices:
            routed = routes.chains.get(chain, GONE)
            rows.append((routed.version, len(members), len(routed.members)))
            members += [(places[routes.targets[target]], target) for target in routed.members]
        self.route_chains(
            routes.routing_version,
            list(map(str, routes.nodes.values())),
            members,
            rows,
            [self._chain_indices[chain] for chain in routes.slots],
        )

    def _refresh(self) -> None:
        if self._follower is not None:
            self._follower.refresh(self.routes.routing_version)

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

    # Every key: one target of each chain. A cursor is the chain, the target, and the target's own
    # cursor, which means nothing to another target. Without a target it is the chain's beginning.

    def list(self, cursor: int, prefix: bytes) -> tuple[int, tuple[ListedObject, ...]]:
        """Return the next cursor and one page of objects; cursors begin at 0 and end with END."""
        chain, target = cursor >> 96 or min(self.routes.chains), cursor >> 64 & TARGET_MAX
        if target:
            return self._list_from(chain, target, cursor & END, prefix)
        routed = self.routes.chains[chain]
        for member in routed.members[:0:-1]:
            with suppress(StoreUnavailableError, KVTimeoutError):
                return self._list_from(chain, member, 0, prefix)
        return self._list_from(chain, routed.first, 0, prefix)

    def _list_from(
        self, chain: int, target: int, position: int, prefix: bytes
    ) -> tuple[int, tuple[ListedObject, ...]]:
        reply = self._paged(
            target,
            ControlKind.LIST,
            lambda room: LIST_BODY.pack(position, room) + prefix,
            LIST_REPLY.size,
        )
        (following,) = LIST_REPLY.unpack_from(reply)
        found = parse_listing(reply[LIST_REPLY.size :])
        if following != END:
            return chain << 96 | target << 64 | following, found
        later = [other for other in self.routes.chains if other > chain]
        return (later[0] << 96 if later else END), found

    # Every copy: all targets that serve. A cursor is the target in the high bits and the target's
    # own in the low 64.

    def _targets(self) -> Sequence[int]:
        return self.routes.members

    def _on_each(self, ask: Callable[[int], T]) -> Iterator[T]:
        """Yield what each target answers; one that serves no more by now is left out."""
        for target in self._targets():
            try:
                yield ask(target)
            except KVStoreError:
                if target in self.routes.members:
                    raise

    def _place(self, cursor: int) -> tuple[int, int]:
        """Return target and cursor of a walk's cursor; 0 begins with the first target."""
        if not cursor and not self._targets():
            raise StoreUnavailableError(f"no target of {self.options.name} serves at the moment")
        return (cursor >> 64 or self._targets()[0]), cursor & END

    def _next(self, target: int, cursor: int) -> int:
        """Return a walk's cursor behind what a target has answered."""
        if cursor != END:
            return target << 64 | cursor
        following = [other for other in self._targets() if other > target]
        return following[0] << 64 if following else END

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
        for _ in self._on_each(lambda target: self._asked(target, ControlKind.FLUSH)):
            pass

    def compact(self, timeout_s: float) -> int:
        """Empty sparse slabs of every target; returns how many were freed."""

        def ask(target: int) -> bytes:
            room = COUNT_REPLY.size
            return self._asked(target, ControlKind.COMPACT, room=room, timeout_s=timeout_s)

        return sum(COUNT_REPLY.unpack(reply)[0] for reply in self._on_each(ask))

    def checkpoint(self, timeout_s: float) -> None:
        """Write a checkpoint of every target."""

        def ask(target: int) -> bytes:
            return self._asked(target, ControlKind.CHECKPOINT, timeout_s=timeout_s)

        for _ in self._on_each(ask):
            pass

    def slabs(self) -> tuple[SlabRow, ...]:
        """Return one row for each slab class in use, of all targets together."""

        def ask(target: int) -> bytes:
            return self._asked(target, ControlKind.SLABS, room=SLAB_ROWS_MAX * SLAB_ROW.size)

        merged: dict[int, SlabRow] = {}
        for packed in self._on_each(ask):
            for row in parse_slabs(packed):
                known = merged.get(row.slab_class)
                merged[row.slab_class] = row if known is None else added_rows(known, row)
        return tuple(merged[slab_class] for slab_class in sorted(merged))

    def stats(self) -> Stats:
        """Return the sums of every target's gauges and counters."""
        found = [*self._on_each(lambda target: self._statistics(target, self._asked)[1])]
        first, _ = self._place(0)
        targets = self._targets()
        text = self._asked(first, ControlKind.DESCRIBE, room=DESCRIPTION_SIZE)
        nodes = len({self.routes.targets.get(target) for target in targets})
        said = text.decode("utf-8", "replace")
        return summed(f"nodes={nodes} targets={len(targets)} {said}", found)

    def survey(self) -> Iterator[NodeSurvey]:
        """Yield what each node says of itself, also of those that do not answer."""
        routes = self.routes
        for node in sorted(routes.nodes):
            statistics: NodeStatistics | None = None
            stats: dict[int, Stats] = {}
            errors: list[str] = []
            for target in routes.targets_of(node):
                try:
                    statistics, stats[target] = self._statistics(target, self._asked_briefly)
                except KVStoreError as failure:
                    errors.append(str(failure))
            said = errors[0] if errors and statistics is None else ""
            yield NodeSurvey(node, routes.nodes[node], statistics, stats, said)

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
