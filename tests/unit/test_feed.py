"""What subscribers are sent, and how much of it at once."""

import asyncio
from uuid import UUID

import pytest

from kvstore.cluster.ids import RoutingVersion
from kvstore.cluster.mgmtd import feed as feed_module
from kvstore.cluster.mgmtd.feed import Base, Feed
from kvstore.cluster.mgmtd.wire import PUSH_DELTA
from kvstore.cluster.routing import RoutingInfo
from kvstore.cluster.rpc.service import Peer

CLUSTER = UUID(int=1)


class Taking(Peer):
    """A peer without a connection, that takes everything unless it is full."""

    def __init__(self) -> None:
        self.full = False
        self.news: list[object] = []

    @property
    def stalled(self) -> bool:
        return self.full

    def push(self, subscription: int, news: object) -> None:
        del subscription
        self.news.append(news)


def version(number: int) -> RoutingInfo:
    return RoutingInfo(RoutingVersion(number), CLUSTER)


def followed_by(count: int) -> tuple[Feed, list[Taking]]:
    """Return a feed of version 1 and peers that have it."""
    feed = Feed(version(1), Base(RoutingVersion(1), b"whole"), ())
    peers = [Taking() for _ in range(count)]
    for peer in peers:
        assert feed.subscribe(peer, 1, CLUSTER, 1)
    return feed, peers


async def test_a_large_change_is_sent_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "SENT_AT_ONCE_MAX", 10)
    feed, peers = followed_by(5)

    feed.publish(version(2), b"delta 2", None)
    sent = [len(peer.news) for peer in peers]
    feed.publish(version(3), b"delta 3", None)
    feed.drop(peers[4])
    for _ in range(5):
        await asyncio.sleep(0)

    assert [1, 1, 0, 0, 0] == sent
    assert [[PUSH_DELTA, [b"delta 2"]], [PUSH_DELTA, [b"delta 3"]]] == peers[0].news
    assert [[PUSH_DELTA, [b"delta 2", b"delta 3"]]] == peers[2].news == peers[3].news
    assert [] == peers[4].news


def test_a_small_change_is_sent_to_all_at_once() -> None:
    feed, peers = followed_by(3)
    peers[1].full = True

    feed.publish(version(2), b"delta", None)
    peers[1].full = False
    feed.caught_up(peers[1])

    assert [[[PUSH_DELTA, [b"delta"]]]] * 3 == [peer.news for peer in peers]
