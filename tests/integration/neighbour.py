"""A well-behaved client beside hostile ones, in a process of its own, and how it fares.

As a script it works on the store at the URL that it is given: sets and gets values, checks each,
and notes how long every operation took. A line on standard input asks for a report on what
happened since the last one.
"""

import json
import random
import select
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import kvstore

OPERATIONS_MIN = 60
"""In a report: it is waited for so many."""
SIZES = (100, 4096, 70_000)
VALUES = [random.Random(size).randbytes(size) for size in SIZES]
DEADLINE_S = 60.0
MEDIAN_RATIO_MAX = 10.0
"""Of medians; whoever runs the tests may do something else beside."""


@dataclass(frozen=True, slots=True)
class Fared:
    """How the operations of a while went."""

    count: int
    failed: int
    median_s: float
    slowest_s: float


class Neighbour:
    """Works on a store from now on."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.report()
        self.before = self.report()

    def __enter__(self) -> "Neighbour":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def report(self) -> Fared:
        """Return how it fared since the last report."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"report\n")
        self._process.stdin.flush()
        assert select.select([self._process.stdout], [], [], DEADLINE_S)[0], "it hangs"
        return Fared(**json.loads(self._process.stdout.readline()))

    def expect_undisturbed(self, slowest_s_max: float) -> None:
        """Compare what happened since the last report with the times before and after it."""
        during, after = self.report(), self.report()
        usual_s = max(self.before.median_s, after.median_s)
        assert (0, 0) == (during.failed, after.failed)
        assert during.median_s <= MEDIAN_RATIO_MAX * usual_s, (self.before, during, after)
        assert during.slowest_s < slowest_s_max, (self.before, during, after)


def operate(store: kvstore.Store, number: int) -> bool:
    """Set a key, or get one and check it; whether that went well."""
    place = number // 2 % len(VALUES)
    if number % 2 == 0:
        return store.batch_set([f"neighbour/{place}"], [VALUES[place]]) == [kvstore.SetStatus.OK]
    return store.batch_get([f"neighbour/{place}"]) == [VALUES[place]]


def work(url: str) -> None:
    """Operate until standard input ends."""
    times: list[float] = []
    failed = number = asked = 0
    with kvstore.connect_sync(url) as store:
        while True:
            start = time.perf_counter()
            failed += not operate(store, number)
            times.append(time.perf_counter() - start)
            number += 1
            if select.select([sys.stdin], [], [], 0)[0]:
                if not sys.stdin.readline():
                    return
                asked += 1
            if asked and len(times) >= OPERATIONS_MIN:
                fared = [len(times), failed, statistics.median(times), max(times)]
                names = ("count", "failed", "median_s", "slowest_s")
                print(json.dumps(dict(zip(names, fared, strict=True))), flush=True)
                times, failed, asked = [], 0, 0


if __name__ == "__main__":
    work(sys.argv[1])
