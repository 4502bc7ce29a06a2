"""Hostile and unlucky clients against a real node.

The node stays up, cuts each of them, counts it by kind and says so in one line with the address;
its memory stays bounded; and a well-behaved client, in a process of its own, goes on undisturbed.
"""

import json
import resource
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from integration.forked_nodes import Line, Node, Starter
from integration.neighbour import Neighbour
from integration.wire import (
    COLUMNS_SIZE_MAX,
    COUNT_MAX,
    HEAD_SIZE,
    KEY_SIZE_MAX,
    VALUES_SIZE_MAX,
    EndedError,
    Head,
    Kind,
    Message,
    Names,
    Operation,
    RefusedError,
    Request,
    WireClient,
    proof_of,
)

SECRET = b"open sesame"
STALL_S = 2.0
DRIVERS = (("io_uring", "threads"), ("epoll", "io_uring"))
"""Of the reactors and of the device: each of them once."""
MEMORY_MAX = 64 << 20
MEMORY_OF_CONNECTION_MAX = 64 << 10
"""What a node may take beyond its DRAM tier."""
MIB = 1 << 20

REFUSED = "kvstore_connections_refused_total"
PROTOCOL, RESET, STALLED = (
    f'kvstore_connections_cut_total{{reason="{reason}"}}'
    for reason in ("protocol", "reset", "stalled")
)
SAID = {
    "connection refused": REFUSED,
    "connection cut: it breaks the protocol": PROTOCOL,
    "connection broke": RESET,
    "connection cut: stalled": STALLED,
}
LEFT_OUT = "events left out of the log"


def descriptors_allowed() -> int:
    """Raise the limit of open files as far as it goes; nodes inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


CROWD = min(10_000, descriptors_allowed() - 1000)


@pytest.fixture(scope="module", params=DRIVERS, ids=lambda drivers: "-".join(drivers))
def node(
    request: pytest.FixtureRequest, starter: Starter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    reactor, driver = request.param
    directory = tmp_path_factory.mktemp("node")
    secret = directory / "secret"
    secret.touch(0o600)
    secret.write_bytes(SECRET)
    options = {
        "reactor": reactor,
        "driver": driver,
        "secret_file": str(secret),
        "stall_timeout_s": STALL_S,
        "hello_timeout_s": STALL_S,
    }
    with Node(starter, directory / "1", **options) as node:
        yield node
        expect_all_said_and_counted(node)


@pytest.fixture(scope="module")
def neighbour(node: Node) -> Iterator[Neighbour]:
    with Neighbour(node.url) as neighbour:
        yield neighbour


def expect_all_said_and_counted(node: Node) -> None:
    """Stop the node: whatever it counted was a line of its log, or is counted there, too."""
    node.wait_until(lambda metrics: metrics["kvstore_connections"] == 0)
    metrics = node.metrics()
    node.stop()
    lines: list[Line] = node.log.lines
    said = sum(line["event"] in SAID for line in lines)
    left_out = sum(line["count"] for line in lines if line["event"] == LEFT_OUT)
    assert sum(metrics[name] for name in SAID.values()) == said + left_out
    assert 0 == metrics["kvstore_events_dropped_total"]
    assert "stopped" == lines[-1]["event"]


@pytest.fixture(autouse=True)
def _own_lines(node: Node) -> None:
    """A test reads of its own connections only."""
    node.log.mark()


def connected(node: Node, names: Names | None = None) -> WireClient:
    """Return a client that said hello."""
    client = WireClient(node.port, names)
    client.greet(SECRET)
    return client


def expect_cut(node: Node, client: WireClient, name: str, before: dict[str, float]) -> Line:
    """Wait until the node has said in one line that it cut a client, and why; it counted it."""
    line = node.log.wait_about(client.address)
    assert name == SAID[line["event"]]
    assert before[name] + 1 == node.metrics()[name]
    assert 1 == node.log.count_about(client.address)
    return line


def get(*keys: bytes) -> Request:
    return Request(Operation.GET, keys)


def raw_request(columns: bytes, count: int = 1, values: bytes = b"") -> bytes:
    return Message(Head(Kind.REQUEST, 1, count), columns, values).encode()


def flipped(message: bytes, place: int) -> bytes:
    return message[:place] + bytes([message[place] ^ 0x10]) + message[place + 1 :]


def set_columns(
    sizes: list[int], key_size: int = 1, sequence: int = 1, operation: int = 1
) -> bytes:
    """Return columns of a set of keys of one size, whatever else its sizes say."""
    count = len(sizes)
    head = struct.pack("<BBHIIIIQQQ", operation, 0, 0, 1, 0, 0, key_size * count, 0, 0, sequence)
    columns = struct.pack(f"<{count}I{count}I{count}H", *sizes, *sizes, *[key_size] * count)
    return head + columns + b"k" * (key_size * count)


FOUL = {
    "wrong_magic": Head(Kind.REQUEST, magic=0x32_4D_56_4B).encode(),
    "another_protocol": b"GET /index.html HTTP/1.1\r\nHost: x\r\n\r\n",
    "damaged_head": flipped(get(b"key").encode(1), 9),
    "unknown_version": Head(Kind.REQUEST, 1, 1, 60, version=3).encode(),
    "version_not_agreed": Head(Kind.REQUEST, 1, 1, 60, version=2).encode(),
    "unknown_kind": Head(99).encode(),
    "oversize_columns": Head(Kind.REQUEST, 1, 1, COLUMNS_SIZE_MAX + 1).encode(),
    "columns_of_4_gib": Head(Kind.REQUEST, 1, 1, 0xFFFF_FFFF, 0xFFFF_FFFF).encode(),
    "oversize_values": Head(Kind.REQUEST, 1, 1, 64, VALUES_SIZE_MAX + 1).encode(),
    "too_many_items": Head(Kind.REQUEST, 1, COUNT_MAX + 1, 64).encode(),
    "no_columns": Head(Kind.REQUEST, 1, 1).encode(),
    "damaged_columns": flipped(get(b"key").encode(1), HEAD_SIZE + 20),
    "second_hello": Names().hello(proves=True),
    "a_reply": Message(Head(Kind.REPLY, 1), bytes(12)).encode(),
    "columns_too_short": raw_request(bytes(20)),
    "no_items": raw_request(set_columns([]), 0),
    "unknown_operation": raw_request(set_columns([0], operation=77)),
    "sequence_0": raw_request(set_columns([0], sequence=0)),
    "empty_key": raw_request(set_columns([0], key_size=0)),
    "long_key": raw_request(set_columns([0], key_size=KEY_SIZE_MAX + 1)),
    "more_items_than_columns": raw_request(set_columns([0]), 2),
    "values_that_do_not_add_up": raw_request(set_columns([5]), 1, b"four"),
    "huge_value": raw_request(set_columns([(64 << 20) + 1])),
}


@pytest.mark.parametrize("name", FOUL)
def test_who_breaks_the_protocol_is_cut(node: Node, name: str) -> None:
    before = node.metrics()
    with connected(node) as client:
        client.send(FOUL[name])

        assert b"" == client.expect_end()
        expect_cut(node, client, PROTOCOL, before)


EARLY = {
    "request": get(b"key").encode(1),
    "oversize_hello": Head(Kind.HELLO, columns_size=8193).encode(),
    "hello_of_another_head": replace(Head(Kind.HELLO, columns_size=64), version=2).encode(),
    "welcome": Message(Head(Kind.WELCOME), bytes(76)).encode(),
}


@pytest.mark.parametrize("name", EARLY)
def test_who_breaks_the_protocol_before_hello_is_cut(node: Node, name: str) -> None:
    before = node.metrics()
    with WireClient(node.port) as client:
        client.send(EARLY[name])

        assert b"" == client.expect_end()
        expect_cut(node, client, PROTOCOL, before)


REFUSALS = {
    "unknown_version": (replace(Names(), versions=(3, 9)).hello(True), "speaks versions 3 to 9"),
    "versions_upside_down": (replace(Names(), versions=(2, 1)).hello(True), "illegal"),
    "empty_tenant": (replace(Names(), tenant=b"").hello(True), "illegal"),
    "illegal_namespace": (replace(Names(), name_space=b"a/b").hello(True), "illegal"),
    "no_secret": (Names().hello(False), "wants a secret"),
    "proof_before_hello": (Message(Head(Kind.PROOF), bytes(32)).encode(), ""),
    "columns_too_short": (Message(Head(Kind.HELLO), bytes(8)).encode(), "no HELLO"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_hello_that_will_not_do_is_refused_with_the_reason(node: Node, name: str) -> None:
    hello, reason = REFUSALS[name]
    before = node.metrics()
    with WireClient(node.port) as client:
        client.send(hello)

        refusal = client.message()
        assert Kind.REFUSAL == refusal.head.kind
        assert (1, 2) == tuple(refusal.columns[:2])
        assert reason in refusal.columns[4:].decode()
        client.close_gracefully()
        expect_refused(node, client, before)


def expect_refused(node: Node, client: WireClient, before: dict[str, float]) -> None:
    line = expect_cut(node, client, REFUSED, before)
    assert SECRET.decode() not in json.dumps(line)


def test_a_wrong_secret_is_refused(node: Node) -> None:
    before = node.metrics()
    with WireClient(node.port) as client:
        with pytest.raises(RefusedError, match="does not prove the secret"):
            client.greet(b"open says me")

        client.close_gracefully()
        expect_refused(node, client, before)


def test_a_replayed_hello_is_refused(node: Node) -> None:
    """What a proven client said is worth nothing in another hello: the node's nonce differs."""
    with connected(node) as client:
        said = client.sent
    before = node.metrics()
    with WireClient(node.port) as thief:
        thief.send(said)

        assert Kind.CHALLENGE == thief.message().head.kind
        assert b"does not prove the secret" in thief.message().columns
        thief.close_gracefully()
        expect_refused(node, thief, before)


def test_a_node_proves_the_secret_over_what_it_grants(node: Node) -> None:
    """A client can tell its node from anybody else, and a grant that was tampered with."""
    with WireClient(node.port) as client:
        hello = client.names.hello(proves=True)
        client.send(hello)
        challenge = client.message().encode()
        proof = proof_of(SECRET, b"client", hello + challenge)
        client.send(Message(Head(Kind.PROOF), proof).encode())
        welcome = client.message()

        said = welcome.columns[32:]
        assert proof_of(SECRET, b"node", hello + challenge, said) == welcome.columns[:32]
        assert (
            proof_of(SECRET, b"node", hello + challenge, flipped(said, 4)) != welcome.columns[:32]
        )


def test_disconnects_at_every_byte_harm_nobody(node: Node, neighbour: Neighbour) -> None:
    before, connections = node.metrics(), 0
    neighbour.report()
    set_ = Request(Operation.SET, (b"torn/a", b"torn/b"), (b"value" * 9, b"v"), sequence=1)
    requests = [set_.encode(1), get(b"torn/a", b"torn/b", b"missing").encode(2)]
    hello = Names().hello(proves=True)

    for size in range(len(hello)):
        with WireClient(node.port) as client:
            client.send(hello[:size])
            client.end(abruptly=size % 2 == 0)
        connections += 1
    for size in range(HEAD_SIZE + 36):
        with WireClient(node.port, replace(Names(), nonce=bytes(32))) as client:
            client.send(hello)
            client.message()
            client.send(Message(Head(Kind.PROOF), bytes(32)).encode()[:size])
            client.end(abruptly=size % 2 == 1)
        connections += 1
    for request in requests:
        for size in range(1, len(request)):
            with connected(node) as client:
                client.send(request[:size])
                client.end(abruptly=size % 2 == 0)
            connections += 1

    node.wait_until(lambda metrics: metrics[RESET] >= before[RESET] + connections)
    neighbour.expect_undisturbed(STALL_S)
    with connected(node) as client:
        reply = client.call(Request(Operation.EXISTS, (b"torn/a", b"torn/b")))
    assert [2, 2] == reply.statuses(2)
    after = node.wait_until(lambda metrics: metrics["kvstore_requests_in_flight"] == 0)
    assert before[RESET] + connections == after[RESET]
    assert {REFUSED: before[REFUSED], PROTOCOL: before[PROTOCOL]} == {
        REFUSED: after[REFUSED],
        PROTOCOL: after[PROTOCOL],
    }


class SlowClient(WireClient):
    """Has all the time in the world."""

    def send(self, data: bytes) -> None:
        """Send it byte by byte, each in a segment of its own."""
        for byte in data:
            super().send(bytes([byte]))


def test_a_client_may_send_one_byte_at_a_time(node: Node) -> None:
    with SlowClient(node.port) as client, connected(node) as fast:
        client.greet(SECRET)
        set_ = Request(Operation.SET, (b"slow", b"empty"), (b"by the byte", b""))
        assert [0, 0] == client.call(set_).statuses(2)

        assert b"by the byte" == fast.call(get(b"slow")).items[0].value
        assert b"by the byte" == client.call(get(b"slow")).items[0].value


def test_who_stalls_is_cut_and_disturbs_nobody(node: Node, neighbour: Neighbour) -> None:
    """Half-open connections, halves of messages, and replies that nobody reads."""
    with connected(node) as client:
        keys = tuple(b"large/%d" % i for i in range(4))
        assert [0] * 4 == client.call(Request(Operation.SET, keys, (bytes(MIB),) * 4)).statuses(4)
    neighbour.report()
    before, memory = node.metrics(), node.memory()
    halves = {
        "silent": b"",
        "half of a head": Names().hello(True)[:16],
        "half of a hello": Names().hello(True)[:80],
    }
    late = {
        "half of a request's head": get(b"key").encode(1)[:7],
        "half of the columns": get(b"key").encode(1)[: HEAD_SIZE + 12],
        "half of a value": Request(Operation.SET, (b"half",), (bytes(9000),), sequence=1).encode(1)[
            :4000
        ],
    }
    with ExitStack() as stack:
        stalled = []
        for said in halves.values():
            stalled.append(stack.enter_context(WireClient(node.port)))
            stalled[-1].send(said)
        for said in late.values():
            stalled.append(stack.enter_context(connected(node)))
            stalled[-1].send(said)
        for _ in range(16):
            stalled.append(stack.enter_context(connected(node)))
            stalled[-1].send(b"".join(get(*keys).encode(id_) for id_ in range(8)))

        node.wait_until(lambda metrics: metrics[STALLED] >= before[STALLED] + len(stalled))
        for client in stalled:
            assert STALLED == SAID[node.log.wait_about(client.address)["event"]]
            assert 1 == node.log.count_about(client.address)
        grown = node.memory() - memory
    neighbour.expect_undisturbed(STALL_S)
    after = node.wait_until(lambda metrics: metrics["kvstore_lent_memory_bytes"] == 0)
    assert before[STALLED] + len(stalled) == after[STALLED]
    assert grown <= MEMORY_MAX + len(stalled) * MEMORY_OF_CONNECTION_MAX


def flood(node: Node, request: Request) -> str:
    """Send a request again and again, and never read; the address that was cut."""
    with connected(node) as client:
        sent = b"".join(request.encode(id_) for id_ in range(1, 101))
        with suppress(ConnectionError):
            while True:
                client.send(sent)
        return client.address


def test_a_flood_of_requests_is_bounded(node: Node, neighbour: Neighbour) -> None:
    """Who asks, never reads, and goes on asking is not read either, and cut in the end."""
    floods = [
        get(b"missing"),
        get(*(b"missing/%d" % i for i in range(1000))),
        get(*(b"large/%d" % i for i in range(4))),
        Request(Operation.STAT, (b"large/0",) * 500),
        Request(Operation.SET, (b"flood",), (bytes(3000),), sequence=1, repeated=True),
    ]
    neighbour.report()
    before, memory = node.metrics(), node.memory()
    with ThreadPoolExecutor(len(floods)) as threads:
        addresses = list(threads.map(lambda request: flood(node, request), floods))

    for address in addresses:
        assert SAID[node.log.wait_about(address)["event"]] in (PROTOCOL, STALLED)
        assert 1 == node.log.count_about(address)
    after = node.metrics()
    cut = sum(after[name] - before[name] for name in (PROTOCOL, STALLED))
    assert len(floods) == cut
    assert node.memory() - memory <= MEMORY_MAX + len(floods) * MEMORY_OF_CONNECTION_MAX
    neighbour.expect_undisturbed(STALL_S)


def test_a_flood_within_the_limits_is_served_in_turn(node: Node, neighbour: Neighbour) -> None:
    """As many requests in flight as were granted, on several connections, all the time."""
    neighbour.report()
    count, rounds = 8, 20
    with ExitStack() as stack:
        clients = [stack.enter_context(WireClient(node.port)) for _ in range(count)]
        granted = [client.greet(SECRET).requests_max for client in clients]
        for _ in range(rounds):
            asked = [
                [client.start(get(b"missing", b"nothing")) for _ in range(most)]
                for client, most in zip(clients, granted, strict=True)
            ]
            for client, ids in zip(clients, asked, strict=True):
                for reply in client.finish(*ids).values():
                    assert [2, 2] == reply.statuses(2)
    neighbour.expect_undisturbed(STALL_S)


@pytest.mark.parametrize("count", [CROWD], ids=lambda count: f"{count}_connections")
def test_a_crowd_of_connections_costs_little(
    starter: Starter, tmp_path: Path, node: Node, count: int
) -> None:
    """Most of them are half-open, some are greeted and silent; each costs the node a little RAM."""
    reactor = node.code.partition("reactor=")[2].split()[0]
    options = {"hello_timeout_s": 600, "connections_max": CROWD + 10, "reactor": reactor}
    with Node(starter, tmp_path / "crowded", **options) as crowded, ExitStack() as stack:
        neighbour = stack.enter_context(Neighbour(crowded.url))
        memory = crowded.memory()
        clients = []
        for place in range(count):
            clients.append(stack.enter_context(WireClient(crowded.port)))
            if place % 10 == 0:
                clients[-1].greet()

        crowded.wait_until(lambda metrics: metrics["kvstore_connections"] >= count)
        assert crowded.memory() - memory <= MEMORY_MAX + count * MEMORY_OF_CONNECTION_MAX
        neighbour.expect_undisturbed(STALL_S)
        for client in clients[:: count // 10]:
            if client.sent:
                assert [2] == client.call(get(b"missing")).statuses(1)
        for client in clients:
            client.close()
        crowded.wait_until(lambda metrics: metrics["kvstore_connections"] < 100)


def test_a_node_out_of_descriptors_serves_those_it_has(
    starter: Starter, tmp_path: Path, node: Node
) -> None:
    reactor = node.code.partition("reactor=")[2].split()[0]
    with Node(starter, tmp_path / "tight", reactor=reactor) as tight, ExitStack() as stack:
        neighbour = stack.enter_context(Neighbour(tight.url))
        used = len(list(Path(f"/proc/{tight.pid}/fd").iterdir()))
        _, most = resource.prlimit(tight.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(tight.pid, resource.RLIMIT_NOFILE, (used + 20, most))
        crowd = [stack.enter_context(WireClient(tight.port)) for _ in range(100)]
        neighbour.expect_undisturbed(STALL_S)

        for client in crowd:
            client.close()
        with WireClient(tight.port) as late:
            late.greet()
            assert [2] == late.call(get(b"missing")).statuses(1)


def test_one_connection_too_many_is_told_so(starter: Starter, tmp_path: Path) -> None:
    with Node(starter, tmp_path / "small", connections_max=3) as small, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(WireClient(small.port)).greet()
        before = small.metrics()
        with WireClient(small.port) as client:
            with pytest.raises((RefusedError, EndedError), match="too many connections"):
                client.greet()
            client.close_gracefully()
            expect_cut(small, client, REFUSED, before)
