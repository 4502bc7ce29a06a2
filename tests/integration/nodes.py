"""Nodes for tests: in this process, where that will do, or real ones that a test may kill."""

import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kvstore.addresses import Address
from kvstore.cluster.codec import encode_routing
from kvstore.cluster.static_routing import even_slots, static_routing
from kvstore.native.node import NativeNode
from kvstore.options import NodeOptions, ReactorDriver, StoreOptions

MIB = 1 << 20
DEADLINE_S = 60.0
POLL_S = 0.005


@contextmanager
def served(
    directory: Path,
    targets: int = 2,
    secret: bytes = b"",
    reactor: ReactorDriver = ReactorDriver.AUTO,
    capacity: int = 256 * MIB,
) -> Iterator[str]:
    """Serve targets in *directory* by a node in this process; yields the URL."""
    node = NativeNode(NodeOptions(node=1, secret=secret, reactors=2, reactor=reactor))
    try:
        for target in range(1, targets + 1):
            options = StoreOptions(
                directory=str(directory / f"target-{target}"),
                memory=96 * MIB,
                capacity=capacity,
                scrub_bytes_per_s=0,
            )
            node.add_target(target, options)
        address = node.listen(Address("127.0.0.1", 0))
        numbers = range(1, targets + 1)
        slots = even_slots(list(numbers))
        routing = static_routing(1, {1: address}, dict.fromkeys(numbers, 1), slots)
        node.publish_routing(encode_routing(routing))
        yield f"kv://{address}/default"
    finally:
        node.drain(1.0)
        node.close(10.0)


class NodeProcess:
    """A real `kvstore storage`; a context manager that kills it in the end."""

    def __init__(
        self, directory: Path, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.ready_file = directory / "ready.json"
        self.ready_file.unlink(missing_ok=True)
        self.log = directory / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "kvstore", "storage", "--log", "json"),
                    *("--ready-file", str(self.ready_file), *map(str, arguments)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )

    def __enter__(self) -> "NodeProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()

    def wait_until_ready(self) -> dict[str, Any]:
        """Return the ready file, as soon as it is there."""
        wait_for(lambda: self.ready_file.exists() or self.process.poll() is not None, self.text)
        assert self.process.poll() is None, self.text()
        return self.ready()

    def ready(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ready_file.read_text())
        return found

    def url(self) -> str:
        return f"kv://{self.wait_until_ready()['listen'][0]}/default"

    def text(self) -> str:
        return self.log.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """The log; every line of it must be an object."""
        return [json.loads(line) for line in self.text().splitlines()]

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines()]

    def wait_for_event(self, event: str, count: int = 1) -> dict[str, Any]:
        """Return the line of the log that has the event for the *count*th time."""

        def found() -> bool:
            lines = [line for line in self.text().split("\n")[:-1] if f'"event": "{event}"' in line]
            return len(lines) >= count

        wait_for(found, self.text)
        return [line for line in self.lines() if line["event"] == event][count - 1]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Return the exit code, as soon as there is one."""
        return self.process.wait(DEADLINE_S)


def wait_for(true: Any, text: Any) -> None:
    """Return when *true()* is; a deadline that no test should meet tells *text()*."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, text()
        select.select([], [], [], POLL_S)


def page(address: str, path: str) -> str:
    """Return a page of the metrics endpoint."""
    with urllib.request.urlopen(f"http://{address}{path}", timeout=DEADLINE_S) as answer:
        body: bytes = answer.read()
        return body.decode()
