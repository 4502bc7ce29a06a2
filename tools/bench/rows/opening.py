"""Opening a store of many objects: after kill -9 behind the last set, and after a clean close.

Each round opens a copy of the same killed store, so that each has all of the journal to replay. No
round warms up: an open is by a process that did nothing of the kind before.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools.bench.failures import ContestantError
from tools.bench.result import OURS, LimitGoal, Row, Sample
from tools.bench.rounds import Outcome
from tools.bench.rows.play import Bench, Play

VALUE_SIZE = 100
SECONDS_MAX = 2.0
CHECK_S = 0.05
"""How long random keys are looked up after each open."""


def measure(bench: Bench) -> Iterator[Row]:
    """Yield a row for each way in which the store was left."""
    count = bench.settings.open_objects
    with bench.play("open") as play:
        killed, closed = Outcome(), Outcome()
        with play.attempt(OURS):
            original = kill_full(play, count)
            for _ in range(bench.settings.rounds):
                samples = open_twice(play, original, count)
                for outcome, sample in zip((killed, closed), samples, strict=True):
                    outcome.samples.setdefault(OURS, []).append(sample)
        for name, how, outcome in (
            ("open-killed", "kill -9", killed),
            ("open-closed", "a clean close", closed),
        ):
            outcome.problems.update(play.outcome.problems)
            play.outcome = outcome
            measure_text = f"open after {how}, {count:,} objects"
            yield play.row(name, measure_text, "s", LimitGoal(SECONDS_MAX, "s"))


def kill_full(play: Play, count: int) -> Path:
    """Make a store of *count* objects and kill its process; the directory it leaves."""
    folder = play.folder("original")
    started = play.start("kvstore", folder)
    started.call("fill", first=0, count=count, size=VALUE_SIZE)
    started.kill()
    return folder


def open_twice(play: Play, original: Path, count: int) -> tuple[Sample, Sample]:
    """Open a copy of a killed store, close it, open it again."""
    folder = play.directory / "copy"
    subprocess.run(["cp", "-a", "--sparse=always", original, folder], check=True)
    os.sync()  # what cp wrote is not to be written back on the clock
    empty = play.folder("empty")
    started = play.start("kvstore", empty)  # imports and starts before the clock does
    started.call("close")
    seconds = []
    for _ in range(2):
        seconds.append(started.call("open", directory=str(folder), options={})["seconds"])
        found = started.call("statistics")["objects"]
        if found != count:
            raise ContestantError(f"{found:.0f} of {count} objects are left")
        batch = {"seed": 1, "batch_count": 1024, "hits": True, "limit_s": CHECK_S}
        started.call("exists", count=count, **batch)
        started.call("close")
    started.stop()
    shutil.rmtree(folder)
    shutil.rmtree(empty)
    return Sample(seconds[0]), Sample(seconds[1])
