"""Nodes that are killed in the middle of a batch, seen by their clients, and started again.

Every key is answered with what is true of it or with a failure, never with wrong bytes; no call
outlives its deadline; the store goes on when the node is there again; what was acknowledged is.
"""

import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from signal import SIGKILL

import pytest
from integration.callers import CALLERS, Caller, opened, read_into, timed
from integration.forked_nodes import Node, Starter
from integration.proxy import Cut, Direction, Proxy
from integration.wire import HEAD_SIZE

from kvstore import SetStatus

DRIVERS = (("io_uring", "threads"), ("epoll", "io_uring"))
"""Of the reactors and of the device: each of them once."""
KILLS = 6
"""Of each API, driver and direction."""
TIMEOUT_S = 20.0
SHORT_S = 0.3
MARGIN_S = 5.0
SIZES = (1, 700, 4096, 50_000, 300_000)
GAVE_UP = (SetStatus.UNAVAILABLE, SetStatus.TIMEOUT)


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
    options = {
        "reactor": reactor,
        "driver": driver,
        "durability": "disk",
        "advertise": f"127.0.0.1:{proxy.port}",
    }
    with Node(starter, tmp_path_factory.mktemp("node"), **options) as node:
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


class Killer(Cut):
    """Kills a node when so many bytes have passed."""

    def __init__(self, size: int, node: Node) -> None:
        super().__init__(size, lambda: os.kill(node.pid, SIGKILL))
        self.dead = threading.Event()

    def take(self, data: bytes) -> Iterator[bytes]:
        """Tell the test, too."""
        try:
            yield from super().take(data)
        finally:
            if self.fired:
                self.dead.set()


class Values:
    """What each key may be: one value when that was acknowledged, several while it was not."""

    def __init__(self, name: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.keys = [f"{name}/{size}".encode() for size in SIZES]
        self.possible: list[set[bytes | None]] = [{None} for _ in SIZES]

    def fresh(self) -> list[bytes]:
        """Return values to set."""
        return [self.random.randbytes(size) for size in SIZES]

    def settle(self, values: list[bytes], statuses: list[SetStatus]) -> None:
        """Take in what became of a set."""
        for place, (value, status) in enumerate(zip(values, statuses, strict=True)):
            assert status is SetStatus.OK or status in GAVE_UP
            if status is SetStatus.OK:
                self.possible[place] = {value}
            else:
                self.possible[place].add(value)

    def expect(self, written: list[int], values: list[bytes], *, all_answered: bool) -> None:
        """Take in what was read, and check it."""
        for place, (n, value) in enumerate(zip(written, values, strict=True)):
            if n == -3 and not all_answered:
                continue
            found = None if n == -1 else value
            assert found in self.possible[place], (self.keys[place], n)
            self.possible[place] = {found}


@pytest.mark.parametrize("direction", Direction)
def test_a_batch_survives_a_kill_at_any_byte(
    caller: Caller, proxy: Proxy, node: Node, api: str, direction: Direction
) -> None:
    """The node is started again at once, so that a batch may go on; a set may end unknown."""
    model = Values(f"{api}-{direction.value}", 1)
    sizes = sum(SIZES) + 300
    for kill in range(KILLS):
        values, sets = model.fresh(), kill % 2 == 0
        long = sets == (direction is Direction.REQUESTS)
        fixed = (0, HEAD_SIZE)
        size = fixed[kill // 2] if kill < 4 else model.random.randrange(sizes if long else 140)
        killer = Killer(size, node)
        proxy.arm(direction, killer)
        with ThreadPoolExecutor(1) as threads:
            if sets:
                call = threads.submit(timed, caller, "batch_set", model.keys, values)
            else:
                call = threads.submit(read_into, caller, model.keys, max(SIZES))  # type: ignore[arg-type]
            while not killer.dead.wait(0.01) and not call.done():
                pass
            if killer.dead.is_set():
                node.bury()
                node.start()
            proxy.disarm()
            result, took = call.result(TIMEOUT_S + MARGIN_S)
        if sets:
            model.settle(values, result)
            assert took < TIMEOUT_S + MARGIN_S
        else:
            model.expect(result, took, all_answered=True)  # type: ignore[arg-type]
        model.expect(*read_into(caller, model.keys, max(SIZES)), all_answered=True)


def test_a_node_that_stays_away_holds_no_call_past_its_deadline(
    proxy: Proxy, node: Node, api: str
) -> None:
    hasty = opened(api, proxy.port, SHORT_S)
    model = Values(f"{api}-away", 2)
    values = model.fresh()
    model.settle(values, hasty.call("batch_set", model.keys, values))
    for direction in Direction:
        killer = Killer(model.random.randrange(60), node)
        proxy.arm(direction, killer)
        values = model.fresh()
        statuses, took_s = timed(hasty, "batch_set", model.keys, values)
        assert took_s < SHORT_S + MARGIN_S
        model.settle(values, statuses)
        assert killer.dead.is_set()
        statuses, took_s = timed(hasty, "batch_set", model.keys, values)
        assert took_s < SHORT_S + MARGIN_S
        assert set(statuses) <= {SetStatus.UNAVAILABLE, SetStatus.TIMEOUT}
        model.expect(*read_into(hasty, model.keys, max(SIZES)), all_answered=False)

        node.bury()
        node.start()
        proxy.disarm()
        while -3 in (read := read_into(hasty, model.keys, max(SIZES)))[0]:
            pass  # between attempts to connect are pauses longer than SHORT_S
        model.expect(*read, all_answered=True)
    hasty.close()
