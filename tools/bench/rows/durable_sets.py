"""Sets that survive loss of power, from many threads at once, against a flush after each write."""

from collections.abc import Iterator
from functools import partial

from tools.bench.process import Process
from tools.bench.result import OURS, RatioGoal, Row, Sample
from tools.bench.rows.play import UNLIMITED_S, Bench, Play, rate
from tools.bench.settings import KIB

SIZE = 64 * KIB
SETTERS = 64
AT_LEAST = 8.0
FLUSHED = "write + fdatasync"
FLUSHED_COUNT = 128
CAPACITY_FACTOR = 4
"""Space for so many times the values, and as many sets of each before the rounds."""


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the row."""
    with bench.play("sync") as play:
        turns, processes = {}, {}
        with play.attempt(OURS):
            processes[OURS] = start_ours(play)
            turns[OURS] = partial(set_concurrently, processes[OURS])
        with play.attempt(FLUSHED):
            turns[FLUSHED] = partial(set_one_by_one, start_flushed(play))
        play.interleave(turns)
        play.verify(processes)
        if OURS not in play.outcome.problems:
            play.count(processes[OURS])
        yield play.row(
            "sync-64K",
            f"batch_set, durability sync, {SETTERS} setters of 64 KiB",
            "sets/s",
            RatioGoal(AT_LEAST, FLUSHED),
        )


def start_ours(play: Play) -> Process:
    """Open a store that flushes; all of its space has been written."""
    count = SETTERS * play.bench.settings.setters_each
    capacity = count * SIZE * CAPACITY_FACTOR
    started = play.start("kvstore", play.folder("kvstore"), durability="sync", capacity=capacity)
    started.call("prepare", size=SIZE, batch_count=1, count=count)
    for _ in range(CAPACITY_FACTOR):
        started.call("set_concurrently", threads=SETTERS)
    return started


def start_flushed(play: Play) -> Process:
    """Make a file, and write all of it once."""
    started = play.start("flushed", play.folder("flushed"), count=FLUSHED_COUNT, size=SIZE)
    started.call("prepare", size=SIZE, batch_count=1, count=FLUSHED_COUNT)
    started.call("set", limit_s=UNLIMITED_S)
    return started


def set_concurrently(started: Process, round_index: int) -> Sample:
    """Set from all threads at once."""
    del round_index
    return rate(started.call("set_concurrently", threads=SETTERS), 1.0)


def set_one_by_one(started: Process, round_index: int) -> Sample:
    """Write and flush values one after another."""
    del round_index
    return rate(started.call("set", limit_s=UNLIMITED_S), SIZE)
