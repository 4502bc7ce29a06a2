"""Who gets which version of the routing info: the newest deltas, and what each subscriber has.

A subscriber gets deltas as long as it has a version from which they lead, else the whole. One that
does not take what is sent gets nothing more until it does, and then what it lacks; so nothing is
kept for anybody.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from kvstore.cluster.codec import encode_delta, encode_routing
from kvstore.cluster.delta import Delta
from kvstore.cluster.mgmtd.wire import PUSH_DELTA, PUSH_WHOLE
from kvstore.cluster.routing import RoutingInfo
from kvstore.cluster.rpc.service import Peer

DELTAS_MAX = 512
DELTAS_SIZE_MAX = 1 << 20
"""What is kept for subscribers that are behind; who lacks more gets the whole."""
SUBSCRIPTIONS_A_PEER_MAX = 16


@dataclass(slots=True)
class Subscriber:
    """One subscription."""

    peer: Peer
    number: int
    version: int
    """What it has, or is being sent."""


class Feed:
    """The versions in force, and those who follow them."""

    def __init__(self, routing: RoutingInfo, deltas: Iterable[Delta]) -> None:
        """Begin with the newest version and what led to it."""
        self.routing = routing
        self._encoded: bytes | None = None
        self._deltas: deque[tuple[int, bytes]] = deque()
        self._deltas_size = 0
        self._subscribers: dict[Peer, dict[int, Subscriber]] = {}
        for delta in deltas:
            self._keep(delta)

    @property
    def count(self) -> int:
        """How many subscriptions there are."""
        return sum(map(len, self._subscribers.values()))

    def encoded(self) -> bytes:
        """Return the whole routing info."""
        if self._encoded is None:
            self._encoded = encode_routing(self.routing)
        return self._encoded

    def publish(self, routing: RoutingInfo, delta: Delta) -> bytes:
        """Put a version in force, and send its delta; returns that as it is sent."""
        self.routing, self._encoded = routing, None
        encoded = self._keep(delta)
        for subscribers in self._subscribers.values():
            for subscriber in subscribers.values():
                self._send(subscriber)
        return encoded

    def subscribe(self, peer: Peer, number: int, cluster: UUID, version: int) -> bool:
        """Send what the subscriber lacks, now and from now on; False: it has too many."""
        subscribers = self._subscribers.setdefault(peer, {})
        if len(subscribers) >= SUBSCRIPTIONS_A_PEER_MAX and number not in subscribers:
            return False
        known = cluster == self.routing.cluster and version <= self.routing.version
        has = version if known else 0
        subscriber = subscribers[number] = Subscriber(peer, number, has)
        self._send(subscriber)
        return True

    def caught_up(self, peer: Peer) -> None:
        """Send what a peer lacks that takes what is sent again."""
        for subscriber in self._subscribers.get(peer, {}).values():
            self._send(subscriber)

    def drop(self, peer: Peer) -> None:
        """Forget a peer."""
        self._subscribers.pop(peer, None)

    def _send(self, subscriber: Subscriber) -> None:
        if subscriber.peer.stalled or subscriber.version >= self.routing.version:
            return
        first = self._deltas[0][0] if self._deltas else self.routing.version + 1
        if subscriber.version + 1 < first:
            subscriber.peer.push(subscriber.number, [PUSH_WHOLE, self.encoded()])
        else:
            for index in range(subscriber.version + 1 - first, len(self._deltas)):
                subscriber.peer.push(subscriber.number, [PUSH_DELTA, self._deltas[index][1]])
        subscriber.version = self.routing.version

    def _keep(self, delta: Delta) -> bytes:
        encoded = encode_delta(delta)
        assert not self._deltas or delta.version == self._deltas[-1][0] + 1
        self._deltas.append((delta.version, encoded))
        self._deltas_size += len(encoded)
        while len(self._deltas) > DELTAS_MAX or (
            self._deltas_size > DELTAS_SIZE_MAX and len(self._deltas) > 1
        ):
            self._deltas_size -= len(self._deltas.popleft()[1])
        return encoded
