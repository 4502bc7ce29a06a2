"""One contestant in a process of its own: a command a line comes in as JSON, an answer goes out.

    python -m tools.bench.worker KIND        KIND is a name of tools.bench.contestants.openers

It runs in the interpreter that has the contestant's packages, so it needs nothing but the standard
library. When its standard input ends, it closes the contestant and ends.
"""

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import TypeAlias

from tools.bench.contestants.abilities import Crowd, Pipelined, SingleGetter, Watching
from tools.bench.contestants.base import Contestant, Options
from tools.bench.contestants.openers import opener
from tools.bench.failures import ContestantError
from tools.bench.pages import Pages, Windows, key_of, make_windows
from tools.bench.phases import (
    concurrent_set_phase,
    exists_phase,
    get_phase,
    set_phase,
    task_set_phase,
    verify_phase,
)
from tools.bench.phases_network import pipelined_get_phase, single_get_phase

Answer: TypeAlias = "dict[str, float | str]"
Answers: TypeAlias = "dict[str, object]"

FILL_BATCH_COUNT = 1024
MISSING = 1 << 40
"""Keys from here on are never set."""


class Worker:
    """The state between two commands; each public method is a command."""

    def __init__(self, kind: str) -> None:
        """Wait for open()."""
        self._opener = opener(kind)
        self._contestant: Contestant | None = None
        self._pages: Pages | None = None
        self._windows: Windows | None = None

    def open(self, directory: str, options: Options) -> Answer:
        """Open the contestant; how long it took."""
        before = time.perf_counter()
        self._contestant = self._opener(Path(directory), options)
        return {"seconds": time.perf_counter() - before}

    def close(self) -> Answer:
        """Close the contestant; how long it took."""
        before = time.perf_counter()
        if self._contestant is not None:
            self._contestant.close()
            self._contestant = None
        return {"seconds": time.perf_counter() - before}

    def prepare(self, size: int, batch_count: int, count: int) -> Answer:
        """Make values and buffers, in place of those before."""
        self._windows = self._windows or make_windows()
        self._pages = Pages(size, batch_count, count, self._windows)
        return {}

    def register(self) -> Answer:
        """Have the contestant know where values and buffers lie."""
        self._held().register(self._prepared().windows())
        return {}

    def unregister(self) -> Answer:
        """Have it forget."""
        self._held().unregister()
        return {}

    def set(self, limit_s: float) -> Answer:
        """Time sets of every key."""
        return dict(set_phase(self._held(), self._prepared(), limit_s).to_json())

    def get(self, seed: int, limit_s: float, passes_max: int) -> Answer:
        """Time gets."""
        return dict(get_phase(self._held(), self._prepared(), seed, limit_s, passes_max).to_json())

    def get_pipelined(self, seed: int, limit_s: float, depth: int) -> Answer:
        """Time gets of which *depth* batches are in flight."""
        held = self._held()
        if not isinstance(held, Pipelined):
            raise ContestantError("has one batch in flight")
        return dict(pipelined_get_phase(held, self._prepared(), seed, limit_s, depth).to_json())

    def get_single(self, seed: int, limit_s: float) -> Answer:
        """Time gets of single keys."""
        held = self._held()
        if not isinstance(held, SingleGetter):
            raise ContestantError("has no call for one key")
        return dict(single_get_phase(held, self._prepared(), seed, limit_s).to_json())

    def set_mixed(self, batches: int) -> Answer:
        """Set the values that a crowd gets."""
        self._crowd().set_mixed(batches)
        return {}

    def crowd(self, seed: int, batches: int, start_at: float, seconds: float) -> Answers:
        """Have a crowd of clients get; what each of them did."""
        return self._crowd().run(seed, batches, start_at, seconds)

    def watch(
        self, keys: int, size: int, pause_s: float, start_at: float, event_at: float, end_at: float
    ) -> Answers:
        """Read and write while something happens to the cluster; what that took."""
        held = self._held()
        if not isinstance(held, Watching):
            raise ContestantError("cannot be watched")
        return held.watch(keys, size, pause_s, start_at, event_at, end_at)

    def verify(self, seed: int) -> Answer:
        """Compare every byte of every value."""
        verify_phase(self._held(), self._prepared(), seed)
        return {}

    def set_concurrently(self, threads: int) -> Answer:
        """Time sets from many threads."""
        return dict(concurrent_set_phase(self._held(), self._prepared(), threads).to_json())

    def set_by_tasks(self, tasks: int) -> Answer:
        """Time sets from many tasks of an event loop."""
        return dict(task_set_phase(self._held(), self._prepared(), tasks).to_json())

    def fill(self, first: int, count: int, size: int) -> Answer:
        """Set small objects of *size* bytes, keys from *first* on; how long it took."""
        contestant = self._held()
        value = memoryview(os.urandom(size))
        before = time.perf_counter()
        for at in range(first, first + count, FILL_BATCH_COUNT):
            end = min(at + FILL_BATCH_COUNT, first + count)
            contestant.set_batch([key_of(0, i) for i in range(at, end)], [value] * (end - at))
        return {"seconds": time.perf_counter() - before}

    def exists(self, seed: int, count: int, batch_count: int, hits: bool, limit_s: float) -> Answer:
        """Time look-ups of keys among the first *count*, or of missing ones."""
        chosen = random.Random(seed)
        first = 0 if hits else MISSING
        batches = [
            [key_of(0, first + chosen.randrange(count)) for _ in range(batch_count)]
            for _ in range(max(1, count // batch_count // 4))
        ]
        return dict(exists_phase(self._held(), batches, hits, limit_s).to_json())

    def statistics(self) -> Answer:
        """Return what the contestant counts."""
        return self._held().statistics()

    def resident(self) -> Answer:
        """Return this process's resident memory in bytes."""
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return {"size": pages * os.sysconf("SC_PAGE_SIZE")}

    def _held(self) -> Contestant:
        if self._contestant is None:
            raise ContestantError("not open")
        return self._contestant

    def _crowd(self) -> Crowd:
        held = self._held()
        if not isinstance(held, Crowd):
            raise ContestantError("is one client")
        return held

    def _prepared(self) -> Pages:
        if self._pages is None:
            raise ContestantError("not prepared")
        return self._pages


COMMANDS = (
    "open",
    "close",
    "prepare",
    "register",
    "unregister",
    "set",
    "get",
    "get_pipelined",
    "get_single",
    "set_mixed",
    "crowd",
    "watch",
    "verify",
    "set_concurrently",
    "set_by_tasks",
    "fill",
    "exists",
    "statistics",
    "resident",
)


def answer(worker: Worker, line: str) -> dict[str, object]:
    """Perform one command. What a peer's library raises is that peer's answer."""
    command = json.loads(line)
    name = command.pop("command")
    assert name in COMMANDS
    try:
        return {"answer": getattr(worker, name)(**command)}
    except Exception as error:
        return {"problem": f"{name}: {type(error).__name__}: {error}"}


def main() -> None:
    """Answer commands until there are no more."""
    # Libraries that print must not get between two answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(answer(worker, line)), file=answers)
    worker.close()


if __name__ == "__main__":
    main()
