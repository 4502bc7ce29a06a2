"""Who gets which version of the routing info: a base, the deltas since, what each subscriber has.

A subscriber gets deltas as long as it has a version from which they lead, else the base and all of
them: the whole is never encoded for anybody. One that does not take what is sent gets nothing more
until it does, and then what it lacks; so nothing is kept for anybody.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from kvstore.cluster.ids import RoutingVersion
from kvstore.cluster.mgmtd.wire import PUSH_DELTA, PUSH_WHOLE
from kvstore.cluster.routing import RoutingInfo
from kvstore.cluster.rpc.service import Peer

DELTAS_MAX = 512
"""Deltas that are kept for subscribers that are behind; those since the base always are."""
SUBSCRIPTIONS_A_PEER_MAX = 16
SENT_AT_ONCE_MAX = 8 << 20
"""Bytes, to all subscribers: milliseconds of the event loop."""


@dataclass(frozen=True, slots=True)
class Base:
    """A version of the routing info, encoded."""

    version: RoutingVersion
    encoded: bytes


@dataclass(slots=True)
class Subscriber:
    """One subscription."""

    peer: Peer
    number: int
    version: int
    """What it has, or is being sent."""


class Feed:
    """The version in force, what leads to it, and those who follow it."""

    def __init__(self, routing: RoutingInfo, base: Base, deltas: Sequence[bytes]) -> None:
        """Begin with what is in force; the deltas lead there from the base."""
        assert base.version + len(deltas) == routing.version
        self.routing = routing
        self._base = base
        self._deltas = deque(deltas)
        self._subscribers: dict[Peer, dict[int, Subscriber]] = {}
        self._behind: deque[Subscriber] = deque()
        """Whose turn is still to come; while there is anybody, a turn is scheduled."""

    @property
    def count(self) -> int:
        """How many subscriptions there are."""
        return sum(map(len, self._subscribers.values()))

    @property
    def _first(self) -> int:
        """The version that the first of the deltas leads to."""
        return self.routing.version - len(self._deltas) + 1

    def parts(self) -> list[bytes]:
        """Return the whole routing info: a base, and the deltas that lead from there."""
        return [self._base.encoded, *self._since(self._base.version)]

    def publish(self, routing: RoutingInfo, delta: bytes, base: Base | None) -> None:
        """Put a version in force, and send its delta; with a new base for later ones."""
        assert routing.version == self.routing.version + 1
        self.routing = routing
        self._deltas.append(delta)
        self._base = base or self._base
        while len(self._deltas) > DELTAS_MAX and self._first <= self._base.version:
            self._deltas.popleft()
        waiting = bool(self._behind)
        for subscribers in self._subscribers.values():
            self._behind.extend(subscribers.values())
        if not waiting:
            self._send_some()

    def subscribe(self, peer: Peer, number: int, cluster: UUID, version: int) -> bool:
        """Send what the subscriber lacks, now and from now on; False: it has too many."""
        subscribers = self._subscribers.setdefault(peer, {})
        if len(subscribers) >= SUBSCRIPTIONS_A_PEER_MAX and number not in subscribers:
            return False
        known = cluster == self.routing.cluster and version <= self.routing.version
        subscriber = subscribers[number] = Subscriber(peer, number, version if known else 0)
        self._send(subscriber)
        return True

    def caught_up(self, peer: Peer) -> None:
        """Send what a peer lacks that takes what is sent again."""
        for subscriber in self._subscribers.get(peer, {}).values():
            self._send(subscriber)

    def drop(self, peer: Peer) -> None:
        """Forget a peer."""
        self._subscribers.pop(peer, None)

    def _send_some(self) -> None:
        """Send as much as is sent at once; the rest when others have had their turn."""
        left = SENT_AT_ONCE_MAX
        while self._behind and left > 0:
            subscriber = self._behind.popleft()
            known = self._subscribers.get(subscriber.peer, {})
            if known.get(subscriber.number) is subscriber:
                left -= self._send(subscriber)
        if self._behind:
            asyncio.get_running_loop().call_soon(self._send_some)

    def _send(self, subscriber: Subscriber) -> int:
        """Send what a subscriber lacks, if it takes anything; the size."""
        if subscriber.peer.stalled or subscriber.version >= self.routing.version:
            return 0
        # In one message: nobody is ever shown a version that is not in force any more.
        if subscriber.version + 1 < self._first:
            kind, parts = PUSH_WHOLE, self.parts()
        else:
            kind, parts = PUSH_DELTA, self._since(subscriber.version)
        subscriber.peer.push(subscriber.number, [kind, parts])
        subscriber.version = self.routing.version
        return sum(map(len, parts))

    def _since(self, version: int) -> list[bytes]:
        """Return the deltas that lead from a version to the one in force."""
        skipped = version + 1 - self._first
        assert 0 <= skipped <= len(self._deltas)
        return [self._deltas[index] for index in range(skipped, len(self._deltas))]
