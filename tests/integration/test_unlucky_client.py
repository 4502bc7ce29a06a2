"""Clients whose way to the node is bad luck, on a node that is well.

Whatever a proxy does to the bytes: every key is answered with what is true of it or with a failure,
never with wrong bytes; an update takes effect once, however often it is sent; no call outlives its
deadline; and the store goes on afterwards.
"""

import random
import time
from collections.abc import Iterator, Sequence

import pytest
from integration.callers import CALLERS, Caller, opened, read_into, timed
from integration.forked_nodes import Node, Starter
from integration.proxy import (
    Cut,
    Direction,
    Duplicate,
    Flip,
    Part,
    Proxy,
    Stall,
    Swap,
)
from integration.wire import HEAD_SIZE, Kind

import kvstore
from kvstore import SetStatus

DRIVERS = (("io_uring", "threads"), ("epoll", "io_uring"))
"""Of the reactors and of the device: each of them once."""
TIMEOUT_S = 10.0
SHORT_S = 0.4
MARGIN_S = 5.0
"""How much later than its deadline a call may return, on a machine however busy."""
SIZES = (0, 1, 700, 4096, 50_000)
ROOM = max(SIZES)
STAGES = 16
"""Where connections are cut, of each kind of call."""
GAVE_UP = (SetStatus.UNAVAILABLE, SetStatus.TIMEOUT)
PLACES = (0.0, 0.4, 0.999)
UNKNOWN_MAX = 3
"""Updates of a test that may end unknown: the first one of a channel is not repeated by a node."""
KINDS = {Direction.REQUESTS: Kind.REQUEST, Direction.REPLIES: Kind.REPLY}


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with Proxy() as proxy:
        yield proxy


@pytest.fixture(scope="module", params=DRIVERS, ids=lambda drivers: "-".join(drivers))
def node(
    request: pytest.FixtureRequest,
    starter: Starter,
    proxy: Proxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Node]:
    reactor, driver = request.param
    directory = tmp_path_factory.mktemp("node")
    advertise = f"127.0.0.1:{proxy.port}"
    with Node(starter, directory, reactor=reactor, driver=driver, advertise=advertise) as node:
        proxy.node_port = node.port
        yield node


@pytest.fixture(scope="module", params=CALLERS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def caller(node: Node, proxy: Proxy, api: str) -> Iterator[Caller]:
    caller = opened(api, proxy.port, TIMEOUT_S)
    yield caller
    caller.close()


@pytest.fixture(scope="module")
def hasty(node: Node, proxy: Proxy, api: str) -> Iterator[Caller]:
    caller = opened(api, proxy.port, SHORT_S)
    yield caller
    caller.close()


@pytest.fixture(autouse=True)
def calm(proxy: Proxy) -> Iterator[None]:
    yield
    proxy.disarm()


class Batch:
    """Keys of one size each, and what they are set to."""

    def __init__(self, name: str, seed: int) -> None:
        generator = random.Random(seed)
        self.keys = [f"{name}/{seed}/{size}".encode() for size in SIZES]
        self.old = [generator.randbytes(size) for size in SIZES]
        self.new = [generator.randbytes(size) for size in SIZES]

    def set_old(self, caller: Caller) -> None:
        assert [SetStatus.OK] * len(self.keys) == caller.call("batch_set", self.keys, self.old)

    def expect(self, caller: Caller, *possible: Sequence[bytes]) -> None:
        """Every key has one of its possible values, and can be read."""
        written, values = read_into(caller, self.keys, ROOM)
        assert [len(value) for value in values] == written
        for value, of_key in zip(values, zip(*possible, strict=True), strict=True):
            assert value in of_key

    def size_of_set(self) -> int:
        """Bytes of a request that sets them, roughly."""
        return HEAD_SIZE + 48 + sum(SIZES) + sum(map(len, self.keys)) + 10 * len(SIZES)


def stored(node: Node) -> int:
    """Return how many values the node has stored since it started."""
    return int(node.metrics()['kvstore_target_sets_total{target="1"}'])


def wait_until_usable(caller: Caller) -> None:
    """Call until a call succeeds: between attempts to connect are pauses longer than SHORT_S."""
    deadline = time.monotonic() + TIMEOUT_S
    while isinstance(timed(caller, "get", b"any")[0], kvstore.KVStoreError):
        assert time.monotonic() < deadline


def stages(size: int, seed: int) -> list[int]:
    """Return numbers of bytes up to a size: the first ones, those around heads, and any."""
    generator = random.Random(seed)
    fixed = [0, 1, HEAD_SIZE - 1, HEAD_SIZE, HEAD_SIZE + 48, size - 1]
    return fixed + [generator.randrange(size) for _ in range(STAGES - len(fixed))]


@pytest.mark.parametrize("direction", Direction)
def test_a_set_takes_effect_once_wherever_it_is_cut(
    caller: Caller, proxy: Proxy, node: Node, direction: Direction
) -> None:
    batch = Batch("cut", 1)
    batch.set_old(caller)
    size = batch.size_of_set() if direction is Direction.REQUESTS else 80
    unknown = 0
    for stage in stages(size, 1):
        before = stored(node)
        proxy.arm(direction, Cut(stage))
        statuses, took_s = timed(caller, "batch_set", batch.keys, batch.new)
        proxy.disarm()

        assert took_s < TIMEOUT_S + MARGIN_S
        if statuses == [SetStatus.OK] * len(batch.keys):
            assert before + len(batch.keys) == stored(node), stage
            batch.expect(caller, batch.new)
        else:
            assert {SetStatus.OK, SetStatus.UNAVAILABLE} >= set(statuses), stage
            assert stored(node) <= before + len(batch.keys), stage
            batch.expect(caller, batch.old, batch.new)
            batch.set_old(caller)
            unknown += 1
            continue
        batch.old, batch.new = batch.new, batch.old
    assert unknown <= UNKNOWN_MAX


@pytest.mark.parametrize("direction", Direction)
def test_a_get_is_right_wherever_it_is_cut(
    caller: Caller, proxy: Proxy, direction: Direction
) -> None:
    batch = Batch("cut", 2)
    batch.set_old(caller)
    size = 250 if direction is Direction.REQUESTS else sum(SIZES) + 150
    for stage in stages(size, 2):
        proxy.arm(direction, Cut(stage))
        batch.expect(caller, batch.old)
        proxy.disarm()


@pytest.mark.parametrize("direction", Direction)
def test_if_absent_and_delete_say_what_they_did_wherever_they_are_cut(
    caller: Caller, proxy: Proxy, direction: Direction
) -> None:
    """Applied twice, a set of an absent key would answer EXISTS, and a delete False."""
    batch = Batch("once", 3)
    size = batch.size_of_set() if direction is Direction.REQUESTS else 80
    unknown = 0
    for stage in stages(size, 3):
        proxy.arm(direction, Cut(stage))
        statuses, _ = timed(caller, "batch_set", batch.keys, batch.new, if_absent=True)
        proxy.disarm()
        if statuses != [SetStatus.OK] * len(batch.keys):
            assert {SetStatus.OK, SetStatus.UNAVAILABLE} >= set(statuses), stage
            batch.set_old(caller)
            unknown += 1
        proxy.arm(direction, Cut(stage % 200 if direction is Direction.REQUESTS else stage))
        deleted, _ = timed(caller, "batch_delete", batch.keys)
        proxy.disarm()
        if deleted != [True] * len(batch.keys):
            assert isinstance(deleted, kvstore.OutcomeUnknownError), stage
            caller.call("batch_delete", batch.keys)
            unknown += 1
    assert unknown <= UNKNOWN_MAX


@pytest.mark.parametrize("part", Part)
@pytest.mark.parametrize("direction", Direction)
def test_corrupted_bytes_are_noticed_and_asked_for_again(
    node: Node, caller: Caller, proxy: Proxy, direction: Direction, part: Part
) -> None:
    batch = Batch("corrupt", 4)
    for place in PLACES:
        batch.set_old(caller)
        fault = Flip(KINDS[direction], part, place)
        proxy.arm(direction, fault)
        written, values = read_into(caller, batch.keys, ROOM)
        proxy.disarm()
        assert [len(value) for value in batch.old] == written
        assert batch.old == values
        assert fault.fired or (direction, part) == (Direction.REQUESTS, Part.VALUES)

        before = stored(node)
        fault = Flip(KINDS[direction], part, place)
        proxy.arm(direction, fault)
        statuses, _ = timed(caller, "batch_set", batch.keys, batch.new)
        proxy.disarm()
        assert isinstance(statuses, list)
        possible = {
            key: (new,) if status is SetStatus.OK else (old,)
            for key, new, old, status in zip(
                batch.keys, batch.new, batch.old, statuses, strict=True
            )
        }
        assert set(statuses) <= {SetStatus.OK, SetStatus.CORRUPT}
        assert before + statuses.count(SetStatus.OK) == stored(node)
        assert fault.fired or (direction, part) == (Direction.REPLIES, Part.VALUES)
        for key, values_of_key in possible.items():
            assert caller.call("get", key) in values_of_key


def test_values_that_always_arrive_corrupt_are_never_returned(caller: Caller, proxy: Proxy) -> None:
    batch = Batch("always", 5)
    batch.set_old(caller)
    proxy.arm(Direction.REPLIES, Flip(Kind.REPLY, Part.VALUES, 0.9, times=1 << 20))
    written, values = read_into(caller, batch.keys, ROOM)

    assert -3 in written
    for n, value, old in zip(written, values, batch.old, strict=True):
        assert n == -3 or old == value
    with pytest.raises(kvstore.CorruptValueError):
        caller.call("get", batch.keys[-1])
    proxy.disarm()
    batch.expect(caller, batch.old)


@pytest.mark.parametrize("fault", [Duplicate, Swap], ids=["twice", "out_of_order"])
@pytest.mark.parametrize("direction", Direction)
def test_messages_twice_or_out_of_order_change_nothing(
    node: Node, caller: Caller, proxy: Proxy, direction: Direction, fault: type[Duplicate | Swap]
) -> None:
    """Batches of several messages: values of 700 kB take one each.

    Who is sent a message twice may take it for an attack, and cut the connection: then an update on
    a channel that the node has not heard of ends unknown.
    """
    keys = [b"large/%d" % i for i in range(6)]
    many = keys * 6  # a request for values asks for several MiB
    generator = random.Random(6)
    for times in (2, 4):
        values = [generator.randbytes(700_000) for _ in keys]
        before = stored(node)
        proxy.arm(direction, fault(KINDS[direction], times))
        statuses, took_s = timed(caller, "batch_set", keys, values)
        proxy.disarm()
        assert set(statuses) <= {SetStatus.OK, SetStatus.UNAVAILABLE}
        assert statuses.count(SetStatus.OK) <= stored(node) - before <= len(keys)
        assert took_s < TIMEOUT_S + MARGIN_S
        assert [SetStatus.OK] * len(keys) == caller.call("batch_set", keys, values)

        proxy.arm(direction, fault(KINDS[direction], times))
        assert ([700_000] * len(many), values * 6) == read_into(caller, many, 700_000)
        proxy.disarm()


@pytest.mark.parametrize("passing", [0, 20, 100, 3000])
@pytest.mark.parametrize("direction", Direction)
def test_a_stalled_connection_holds_no_call_past_its_deadline(
    hasty: Caller, proxy: Proxy, direction: Direction, passing: int
) -> None:
    batch = Batch("stalled", 7)
    batch.set_old(hasty)
    proxy.arm(direction, Stall(passing))
    written, took_s = timed(hasty, "batch_get_into", batch.keys, [bytearray(ROOM) for _ in SIZES])
    assert took_s < SHORT_S + MARGIN_S
    assert {-3} >= {n for n, size in zip(written, SIZES, strict=True) if n != size}
    statuses, took_s = timed(hasty, "batch_set", batch.keys, batch.new)
    assert took_s < SHORT_S + MARGIN_S
    assert set(statuses) <= {SetStatus.OK, *GAVE_UP}
    proxy.disarm()

    wait_until_usable(hasty)
    batch.expect(hasty, batch.old, batch.new)
    assert [SetStatus.OK] * len(SIZES) == hasty.call("batch_set", batch.keys, batch.new)
    batch.expect(hasty, batch.new)


def test_a_node_that_cannot_be_reached_holds_no_call_past_its_deadline(
    hasty: Caller, proxy: Proxy
) -> None:
    batch = Batch("refused", 8)
    batch.set_old(hasty)
    proxy.refusing = True
    proxy.cut()
    statuses, took_s = timed(hasty, "batch_set", batch.keys, batch.new)
    assert set(statuses) <= {SetStatus.UNAVAILABLE}
    assert took_s < SHORT_S + MARGIN_S
    written, took_s = timed(hasty, "batch_get_into", batch.keys, [bytearray(ROOM) for _ in SIZES])
    assert [-3] * len(SIZES) == written
    assert took_s < SHORT_S + MARGIN_S
    proxy.disarm()

    wait_until_usable(hasty)
    batch.expect(hasty, batch.old)


def test_a_slow_way_is_slow_and_right(caller: Caller, proxy: Proxy) -> None:
    batch = Batch("slow", 9)
    proxy.delay_s = 0.02
    batch.set_old(caller)
    batch.expect(caller, batch.old)
    assert [True] * len(SIZES) == caller.call("batch_delete", batch.keys)
