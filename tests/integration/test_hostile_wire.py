"""The second implementation of the wire (wire.py) against the first: one means what the other says.

It has the last word on the layouts that native/protocol draws; hostile tests are built from it.
"""

from collections.abc import Iterator

import pytest
from integration.forked_nodes import Node, Starter
from integration.wire import Names, Operation, Request, WireClient, crc32c

import kvstore

RIGHTS = 15
CONTROL_ROUTING, CONTROL_DESCRIBE = 1, 9
OK, EXISTS, NOT_FOUND, TOO_SMALL = 0, 1, 2, 9


@pytest.fixture(scope="module")
def node(starter: Starter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(starter, tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
def store(node: Node) -> Iterator[kvstore.Store]:
    with kvstore.connect_sync(node.url) as store:
        yield store


@pytest.fixture
def client(node: Node) -> Iterator[WireClient]:
    with WireClient(node.port) as client:
        client.greet()
        yield client


def test_the_checksum_is_crc32c() -> None:
    assert 0xE3069283 == crc32c(b"123456789")


def test_what_one_sets_the_other_gets(store: kvstore.Store, client: WireClient) -> None:
    keys, values = (b"a", b"empty", b"key of some length" * 20), (b"value", b"", b"v" * 70_000)
    set_ = Request(Operation.SET, keys, values)
    assert [OK] * 3 == client.call(set_).statuses(3)
    assert list(values) == store.batch_get(keys)

    store.batch_set(keys, reversed(values))
    reply = client.call(Request(Operation.GET, (*keys, b"missing")))
    assert [OK, OK, OK, NOT_FOUND] == reply.statuses(4)
    assert list(reversed(values)) == [reply.items[place].value for place in range(3)]


def test_every_operation_means_the_same(store: kvstore.Store, client: WireClient) -> None:
    store.set("here", b"five!", ttl_s=1000)
    keys = (b"here", b"not here")
    client.call(Request(Operation.DELETE, (b"new",)))

    assert [OK, NOT_FOUND] == client.call(Request(Operation.EXISTS, keys)).statuses(2)
    assert 1 == client.call(Request(Operation.MATCH_PREFIX, keys)).matched
    small = client.call(Request(Operation.GET, keys, room=4))
    assert [TOO_SMALL, NOT_FOUND] == small.statuses(2)
    assert 5 == small.items[0].size
    new = Request(Operation.SET, (b"here", b"new"), (b"x", b"y"), if_absent=True)
    assert [EXISTS, OK] == client.call(new).statuses(2)
    assert [OK, NOT_FOUND] == client.call(Request(Operation.PIN, keys)).statuses(2)

    item, stat = client.call(Request(Operation.STAT, keys)).items[0], store.stat("here")
    assert stat is not None
    assert stat.pinned
    assert stat.expiry_s is not None
    assert (stat.size, stat.version, stat.checksum, 1) == (
        item.size,
        item.version,
        item.checksum,
        item.flags,
    )
    assert stat.expiry_s == item.expiry_ms / 1000
    assert crc32c(b"five!") == stat.checksum

    assert [OK, NOT_FOUND] == client.call(Request(Operation.UNPIN, keys)).statuses(2)
    assert [OK, NOT_FOUND] == client.call(Request(Operation.DELETE, keys)).statuses(2)
    assert not store.exists("here")


def test_a_namespace_keeps_its_keys_to_itself(store: kvstore.Store, node: Node) -> None:
    with WireClient(node.port, Names(name_space=b"other")) as other:
        other.greet()
        other.call(Request(Operation.SET, (b"mine",), (b"other's",)))

        assert store.get("mine") is None
        with kvstore.connect_sync(node.url.replace("default", "other")) as same:
            assert b"other's" == same.get("mine")
            assert [b"mine"] == [entry.key for entry in same.list()]


def test_many_requests_are_answered_in_any_order(client: WireClient) -> None:
    ids = [client.start(Request(Operation.SET, (b"%d" % i,), (b"v%d" % i,))) for i in range(1)]
    ids += [client.start(Request(Operation.GET, (b"%d" % (i % 3),))) for i in range(30)]
    replies = client.finish(*ids)
    assert {OK, NOT_FOUND} >= {status for reply in replies.values() for status in reply.statuses(1)}


def test_a_repeated_update_is_answered_from_its_record(client: WireClient, node: Node) -> None:
    """On another connection of the same client, as after a connection that broke."""
    update = Request(Operation.SET, (b"once",), (b"v",), if_absent=True, channel=7, sequence=1)
    repeated = Request(
        Operation.SET, (b"once",), (b"v",), if_absent=True, channel=7, sequence=1, repeated=True
    )
    assert [OK] == client.call(update).statuses(1)
    before = node.metrics()
    with WireClient(node.port, client.names) as again:
        again.greet()
        assert [OK] == again.call(repeated).statuses(1)
    after = node.metrics()
    assert before["kvstore_updates_repeated_total"] + 1 == after["kvstore_updates_repeated_total"]
    sets = 'kvstore_target_sets_total{target="1"}'
    assert before[sets] == after[sets]


def test_control_requests_are_answered(client: WireClient, node: Node) -> None:
    number, routing = client.control(CONTROL_ROUTING)
    assert 0 == number
    assert str(node.port).encode() in routing
    number, text = client.control(CONTROL_DESCRIBE, target=1)
    assert 0 == number
    assert text.startswith(b"reactor=")


def test_a_grant_says_what_a_client_may(node: Node) -> None:
    with WireClient(node.port) as client:
        grant = client.greet()
    assert RIGHTS == grant.rights
    assert 4096 == grant.count_max
    assert 512 << 10 == grant.columns_size_max
    assert 68 << 20 == grant.values_size_max
    assert grant.run != 0
