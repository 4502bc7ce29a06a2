"""kill -9 of a node under load from several processes: what was acknowledged is there.

The clients (load_child.py) know what must be there and check it all the time. Each start of the
node uses another pair of drivers, on the same directory and port.
"""

import random
import select
import subprocess
import sys
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from integration import load_child
from integration.forked_nodes import Node, Starter

import kvstore

KILLS = 12
CLIENTS = 3
BATCHES_MAX = 12
"""That each client may have acknowledged between two kills, at least."""
TIMEOUT_S = 30.0
SILENCE_S_MAX = 60.0
DRIVERS = tuple(product(("io_uring", "epoll"), ("io_uring", "threads")))
"""Of the reactors and of the device."""


class Client:
    """load_child.py, as lines of reports."""

    def __init__(self, url: str, seed: int) -> None:
        self.acknowledged = 0
        self.process = subprocess.Popen(
            [sys.executable, load_child.__file__, f"{url}?timeout_s={TIMEOUT_S}", str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        """Return its next report."""
        assert self.process.stdout is not None
        ready = select.select([self.process.stdout], [], [], SILENCE_S_MAX)[0]
        assert ready, f"no report for {SILENCE_S_MAX} s"
        return self.process.stdout.readline().decode().strip()

    def hear(self, batches: int) -> None:
        """Wait until so many more batches were acknowledged."""
        for _ in range(batches):
            assert "acknowledged" == self.line()
            self.acknowledged += 1

    def finish(self) -> None:
        """Have it read everything once more."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None
        while (line := self.line()) == "acknowledged":
            self.acknowledged += 1
        assert "fine" == line


def test_nothing_acknowledged_is_lost_by_kills_of_a_node(starter: Starter, tmp_path: Path) -> None:
    generator = random.Random(1)
    with Node(starter, tmp_path / "node", durability="disk") as node, ExitStack() as stack:
        clients = [stack.enter_context(Client(node.url, seed + 1)) for seed in range(CLIENTS)]
        for kill in range(KILLS):
            for client in clients:
                client.hear(generator.randrange(1, BATCHES_MAX))
            node.kill()
            reactor, driver = DRIVERS[kill % len(DRIVERS)]
            node.start(reactor=reactor, driver=driver)
        for client in clients:
            client.hear(1)
            client.finish()

        with kvstore.connect_sync(node.url) as store:
            assert () == store.verify().bad
            assert 0 == store.stats().offline
