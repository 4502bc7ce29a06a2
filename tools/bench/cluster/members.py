"""The members of a cluster, each a process that a row may kill, stop or start again.

Guarantees: leaving the context kills every member and waits until it is gone; ports are chosen by
the kernel, and a member that starts again has the port that it had.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.bench.cluster.place import Place
from tools.bench.failures import ContestantError

START_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 60.0
POLL_S = 0.02
LAST_WORDS_SIZE = 400
KVSTORE = (sys.executable, "-P", "-m", "kvstore")

Status = Mapping[str, Any]
"""What `kvstore status --json` prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a cluster is made of."""

    nodes: int = 3
    replicas: int = 3
    mgmtd: int = 1
    metadata: str = ""
    """The URL of the metadata; none: a directory."""
    mgmtd_options: Mapping[str, str | float] = field(default_factory=dict)
    options: Mapping[str, str | int] = field(default_factory=dict)
    """Of `kvstore storage`."""
    keys: Mapping[str, str | int] = field(default_factory=dict)
    """Of the nodes' files: what is no option of the command line."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of the nodes, beyond that of this process."""
    places: Mapping[str, Place] = field(default_factory=dict)
    """By the names of members, and `clients`; loopback unless given."""
    homes: Mapping[str, Path] = field(default_factory=dict)
    """Directories of nodes that are not in the cluster's."""


@dataclass(slots=True)
class Member:
    """One process."""

    name: str
    home: Path
    command: list[str]
    environment: Mapping[str, str]
    process: "subprocess.Popen[bytes] | None" = None
    address: str = ""
    metrics: str = ""

    @property
    def pid(self) -> int:
        """Its pid."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it; wait() is to be called next."""
        (self.home / "ready.json").unlink(missing_ok=True)
        listen = ["--listen", self.address] if self.address else []
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, *listen],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it serves."""
        ready = self.home / "ready.json"
        limit = time.monotonic() + START_TIMEOUT_S
        while not ready.exists():
            assert self.process is not None
            if self.process.poll() is not None:
                raise ContestantError(f"{self.name} ended: {self.last_words()}")
            if time.monotonic() > limit:
                raise ContestantError(f"{self.name} does not serve: {self.last_words()}")
            time.sleep(POLL_S)
        found = json.loads(ready.read_text(encoding="utf-8"))
        listen = found["listen"]
        self.address = listen[0] if isinstance(listen, list) else listen
        self.metrics = str(found.get("metrics") or "")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as kill -9 does, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """Return the end of its log."""
        text = (self.home / "log").read_text(encoding="utf-8", errors="replace").strip()
        return text[-LAST_WORDS_SIZE:]


@dataclass(slots=True)
class Members:
    """A cluster that runs."""

    shape: Shape
    mgmtd: list[Member]
    nodes: list[Member]

    @property
    def url(self) -> str:
        """Return where clients find it."""
        return f"kv://{','.join(member.address for member in self.mgmtd)}/default"

    @property
    def pids(self) -> tuple[int, ...]:
        """Return the nodes' processes."""
        return tuple(member.pid for member in self.nodes)

    @property
    def clients(self) -> Place:
        """Return where clients run."""
        return self.shape.places.get("clients", Place())

    def status(self) -> Status:
        """Return what mgmtd says."""
        command = [*self.clients.command, *KVSTORE, "status", self.url, "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise ContestantError(f"kvstore status: {done.stderr.strip()[-LAST_WORDS_SIZE:]}")
        found: Status = json.loads(done.stdout)
        return found

    def wait_until(self, what: str, true: Callable[[Status], bool], timeout_s: float) -> Status:
        """Ask for the status until something is true of it."""
        limit = time.monotonic() + timeout_s
        while not true(found := self.status()):
            if time.monotonic() > limit:
                raise ContestantError(f"{what}: not within {timeout_s:.0f} s")
        return found

    def wait_whole(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until every target of every chain serves."""
        wanted = self.shape.replicas
        self.wait_until("every target serves", lambda found: whole(found, wanted), timeout_s)

    def in_order(self) -> list[Member]:
        """Return the nodes of the first chain, from its head to its tail."""
        places = self.status()["chains"][0]["targets"]
        return [self.nodes[place["node"] - 1] for place in places if place["state"] == "serving"]


def whole(status: Status, replicas: int) -> bool:
    """Return whether chains are there, and each has so many targets that serve."""
    chains = status["chains"]
    return bool(chains) and all(
        sum(place["state"] == "serving" for place in chain["targets"]) == replicas
        for chain in chains
    )


@contextmanager
def cluster(directory: Path, shape: Shape) -> Iterator[Members]:
    """Start a cluster, wait until every target serves, and kill it."""
    mgmtd = [
        mgmtd_member(directory, shape, f"mgmtd-{number}") for number in range(1, shape.mgmtd + 1)
    ]
    started: list[Member] = []
    try:
        start_all(mgmtd, started)
        found = ",".join(member.address for member in mgmtd)
        nodes = [node_member(directory, shape, number, found) for number in range_of(shape)]
        start_all(nodes, started)
        members = Members(shape, mgmtd, nodes)
        members.wait_whole()
        yield members
    finally:
        for member in started:
            member.kill()


@contextmanager
def standalone(directory: Path, options: Mapping[str, str | int]) -> Iterator[Member]:
    """Start a node that is on its own, without mgmtd, and kill it."""
    home = directory / "node-1"
    arguments = ["storage", "--target", str(home / "target-1"), *flags(options)]
    started: list[Member] = []
    try:
        start_all([member_of("node-1", home, arguments, Place(), {})], started)
        yield started[0]
    finally:
        for member in started:
            member.kill()


def range_of(shape: Shape) -> range:
    """Return the numbers of the nodes."""
    return range(1, shape.nodes + 1)


def start_all(members: Sequence[Member], started: list[Member]) -> None:
    """Start members at the same time; each of them is in *started* once it has a process."""
    for member in members:
        started.append(member)
        member.start()
    for member in members:
        member.wait()


def mgmtd_member(directory: Path, shape: Shape, name: str) -> Member:
    """Return an mgmtd that makes the chains once every node is there."""
    home = directory / name
    metadata = shape.metadata or str(home / "metadata")
    expected = {"expected-nodes": shape.nodes, "replicas": shape.replicas}
    arguments = ["mgmtd", "--metadata", metadata, *flags({**expected, **shape.mgmtd_options})]
    return member_of(name, home, arguments, shape.places.get(name, Place()), {})


def node_member(directory: Path, shape: Shape, number: int, mgmtd: str) -> Member:
    """Return a node with one target."""
    name = f"node-{number}"
    home = shape.homes.get(name, directory / name)
    arguments = ["storage", "--node", str(number), "--mgmtd", mgmtd, *flags(shape.options)]
    arguments += ["--target", f"{number}={home / 'target'}"]
    if shape.keys:
        home.mkdir(parents=True, exist_ok=True)
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in shape.keys.items()]
        (home / "node.toml").write_text("".join(lines), encoding="utf-8")
        arguments += ["--config", str(home / "node.toml")]
    place = shape.places.get(name, Place())
    return member_of(name, home, arguments, place, shape.environment)


def member_of(
    name: str, home: Path, arguments: Sequence[str], place: Place, environment: Mapping[str, str]
) -> Member:
    """Return a member with a directory of its own."""
    home.mkdir(parents=True, exist_ok=True)
    own = ["--metrics", f"{place.address}:0", "--ready-file", str(home / "ready.json")]
    # Nobody else is in the namespaces of links.
    anyone = [] if place == Place() else ["--open"]
    command = [*place.command, *KVSTORE, *arguments, *own, *anyone, "--log", "json"]
    return Member(name, home, command, environment, address=f"{place.address}:0")


def flags(options: Mapping[str, str | float]) -> list[str]:
    """Return options as a command line has them."""
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]
