"""kill -9 at any moment, hundreds of times: what was acknowledged at `disk` is there, exactly.

The victims are children of kill_child.py. Each is killed at a moment that a seed chooses: after a
number of bytes of its reports, or right after it began an operation of one kind. The next one opens
the same directory, reports what it found and goes on; now and then this process looks for itself.
"""

import os
import random
import select
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL
from typing import NamedTuple

import pytest
from integration import kill_child
from integration.kill_child import KEYS, held_by

import kvstore

KILLS = 110
STORES = 2
"""Side by side, so that the kills take half the time."""
LOOK_EVERY = 10
REPORT_BYTES_MAX = 3000
IDS_A_CHILD = 1_000_000
SILENCE_S_MAX = 60.0
KINDS = ("checkpoint", "compact", "flush", "delete", "set")
OPTIONS = ("durability=disk", "durability=disk&driver=threads", "durability=sync")


class Moment(NamedTuple):
    """When to kill: after so many bytes of reports, and then at the next intent of a kind."""

    size: int
    kind: str | None


class Model:
    """What each key may be: one id once it was acknowledged, several while it is not. 0: no object.

    A key belongs to one thread of a child at a time, so reports on it come in their order.
    """

    def __init__(self) -> None:
        self.possible = {key: {0} for lane in KEYS for key in lane}
        self.pending: dict[int, dict[bytes, int]] = {}
        self.acknowledged = 0

    def hear(self, line: str) -> None:
        kind, *words = line.split()
        match kind:
            case "holds":
                self.found(identities_of(words))
            case "intent":
                self.begun(int(words[0]), identities_of(words[2:]))
            case "done":
                self.ended(int(words[0]), words[1:])
            case "failed":
                pytest.fail(line)

    def begun(self, number: int, identities: dict[bytes, int]) -> None:
        self.pending[number] = identities
        for key, identity in identities.items():
            self.possible[key].add(identity)

    def ended(self, number: int, statuses: list[str]) -> None:
        identities = self.pending.pop(number)
        assert ["0"] * len(identities) == statuses
        for key, identity in identities.items():
            self.possible[key] = {identity}
        self.acknowledged += 1

    def found(self, held: dict[bytes, int]) -> None:
        """Check what a store holds; from here on it holds exactly that."""
        self.pending.clear()
        for key, possible in self.possible.items():
            identity = held.get(key, 0)
            assert identity in possible, f"{key!r}: found {identity}, possible were {possible}"
            self.possible[key] = {identity}


def identities_of(words: list[str]) -> dict[bytes, int]:
    pairs = [word.split("=") for word in words]
    return {key.encode(): int(identity) for key, identity in pairs}


class ForkServer:
    """kill_child.py, as lines of reports."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, kill_child.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.lines = self.read_lines()
        self.child = 0

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        if self.child:
            os.kill(self.child, SIGKILL)
        self.process.communicate()

    def read_lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        descriptor, rest = self.process.stdout.fileno(), b""
        while select.select([descriptor], [], [], SILENCE_S_MAX)[0]:
            *lines, rest = (rest + os.read(descriptor, 4096)).split(b"\n")
            for line in lines:
                yield line.decode()
        pytest.fail(f"no report for {SILENCE_S_MAX} s")

    def order(self, url: str, seed: int, first_id: int) -> None:
        """Have a child work."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{url} {seed} {first_id}\n".encode())
        self.process.stdin.flush()
        born, pid = next(self.lines).split()
        assert born == "born"
        self.child = int(pid)

    def kill(self, moment: Moment, model: Model) -> None:
        """Hear the child, kill it at its moment, hear the rest."""
        size, killed = 0, moment == (0, None)
        if killed:
            os.kill(self.child, SIGKILL)
        while (line := next(self.lines)) != "dead":
            if not killed and size >= moment.size and moment.kind in (None, *line.split()[2:3]):
                os.kill(self.child, SIGKILL)
                killed = True
            size += len(line)
            model.hear(line)
        self.child = 0


def moment_of(generator: random.Random) -> Moment:
    """Choose when to kill; one child of eight does not live to see its store open."""
    kind = generator.choice((None, None, *KINDS))
    size = 0 if generator.random() < 1 / 8 else generator.randrange(REPORT_BYTES_MAX)
    return Moment(size, kind)


def kill_again_and_again(directory: Path, seed: int) -> int:
    """Return how many operations were acknowledged."""
    generator, model = random.Random(seed), Model()
    url = f"file://{directory}?memory=96MiB&capacity=96MiB&scrub_bytes_per_s=64MiB"
    with ForkServer() as server:
        for i in range(KILLS):
            options = f"{url}&{generator.choice(OPTIONS)}"
            server.order(options, generator.randrange(1 << 32), (i + 1) * IDS_A_CHILD)
            server.kill(moment_of(generator), model)
            if i % LOOK_EVERY == LOOK_EVERY - 1:
                look(url, model)
    return model.acknowledged


def look(url: str, model: Model) -> None:
    """Open the store here and check all of it."""
    with kvstore.connect_sync(url, mode="existing") as store:
        model.found(held_by(store))
        assert () == store.verify().bad
        assert 0 == store.stats().offline


def test_nothing_acknowledged_is_lost_by_kills(tmp_path: Path) -> None:
    with ThreadPoolExecutor(STORES) as threads:
        runs = [
            threads.submit(kill_again_and_again, tmp_path / f"store{seed}", seed)
            for seed in range(STORES)
        ]
        acknowledged = [run.result() for run in runs]

    assert all(count > KILLS for count in acknowledged)
