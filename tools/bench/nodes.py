"""Real nodes of this store, by `kvstore up` and `kvstore down`.

Guarantees: leaving the context ends every node, also after a failure or a signal.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tools.bench.accounting import living
from tools.bench.failures import ContestantError

COMMAND = "import sys; from kvstore.commands.main import main; sys.exit(main())"
COMMAND_TIMEOUT_S = 60.0
KILL_TIMEOUT_S = 10.0
POLL_S = 0.01
LAST_WORDS_SIZE = 400


@dataclass(frozen=True, slots=True)
class Cluster:
    """Started nodes."""

    url: str
    pids: tuple[int, ...]
    ports: tuple[int, ...]


@contextmanager
def nodes(directory: Path, count: int = 1, **options: str | int) -> Iterator[Cluster]:
    """Start nodes in a new directory, and end them. *options* are those of `kvstore up`.

    A node that outlives `kvstore down` is killed.
    """
    command = ["up", "--dir", str(directory), "--nodes", str(count), "--json"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    try:
        url = str(json.loads(last_line(kvstore(command)))["url"])
        found = written_down(directory)
        if len(found) != count:
            raise ContestantError(f"kvstore up wrote down {len(found)} of {count} nodes")
        yield Cluster(url, tuple(pid for pid, _ in found), tuple(port for _, port in found))
    finally:
        left = [pid for pid, _ in written_down(directory)]
        if left:
            with suppress(ContestantError):
                kvstore(["down", "--dir", str(directory)])
        kill(left)
        shutil.rmtree(directory, ignore_errors=True)


def kill(pids: Sequence[int]) -> None:
    """Kill those that live, and wait until they are gone."""
    for pid in filter(living, pids):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    limit = time.monotonic() + KILL_TIMEOUT_S
    while any(map(living, pids)) and time.monotonic() < limit:
        time.sleep(POLL_S)


def kvstore(arguments: Sequence[str]) -> str:
    """Run a command of this store, and return what it prints."""
    # Files, not pipes: a node may hold the descriptors for as long as it lives.
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        try:
            done = subprocess.run(
                [sys.executable, "-c", COMMAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ContestantError(
                f"kvstore {arguments[0]}: no end within {COMMAND_TIMEOUT_S:.0f} s"
            ) from error
        output.seek(0)
        errors.seek(0)
        text = output.read()
        if done.returncode != 0:
            words = " ".join((errors.read() or text).split())[-LAST_WORDS_SIZE:]
            raise ContestantError(f"kvstore {arguments[0]} ended with {done.returncode}: {words}")
    return text


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    lines = text.split("\n")
    return next((line for line in reversed(lines) if line.strip()), "null")


def written_down(directory: Path) -> list[tuple[int, int]]:
    """Return the process and the port of each node of a directory; none where none started."""
    try:
        found = json.loads((directory / "cluster.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [
        (int(node["pid"]), int(str(node["address"]).rpartition(":")[2])) for node in found["nodes"]
    ]
