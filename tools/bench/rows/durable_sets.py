"""Sets that survive loss of power, from many setters at once, against a flush after each write.

The setters are tasks of one event loop, which is what a program with so many of them would use.
Beside it: the same from as many threads; and the device's limit, fio with as many writes in flight
and a flush after each so many, so that its flushes are as shared as they can be.
"""

from collections.abc import Iterator
from functools import partial

from tools.bench.failures import ContestantError
from tools.bench.fio import Fio
from tools.bench.process import Process
from tools.bench.result import OURS, RatioGoal, Row, Sample
from tools.bench.rows.play import GB, UNLIMITED_S, Bench, Play, rate
from tools.bench.settings import KIB

SIZE = 64 * KIB
SETTERS = 64
AT_LEAST = 8.0
FLUSHED = "write + fdatasync"
THREADS = "from threads"
FIO = "fio, a flush each 64"
FLUSHED_COUNT = 128
CAPACITY_FACTOR = 4
"""Space for so many times the values, and as many sets of each before the rounds."""


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the row."""
    with bench.play("sync") as play:
        turns, processes = {}, {}
        for name, start, turn in (
            (OURS, start_tasks, set_by_tasks),
            (THREADS, start_threads, set_by_threads),
            (FLUSHED, start_flushed, set_one_by_one),
        ):
            with play.attempt(name):
                processes[name] = start(play)
                turns[name] = partial(turn, processes[name])
        with play.attempt(FIO):
            turns[FIO] = partial(write_and_flush, start_fio(play))
        play.interleave(turns)
        play.verify({name: processes[name] for name in (OURS, THREADS) if name in processes})
        if OURS not in play.outcome.problems:
            play.count(processes[OURS])
        yield play.row(
            "sync-64K",
            f"batch_set, durability sync, {SETTERS} setters of 64 KiB",
            "sets/s",
            RatioGoal(AT_LEAST, FLUSHED),
        )


def start_ours(play: Play, kind: str) -> Process:
    """Open a store that flushes."""
    count = SETTERS * play.bench.settings.setters_each
    capacity = count * SIZE * CAPACITY_FACTOR
    started = play.start(kind, play.folder(kind), durability="sync", capacity=capacity)
    started.call("prepare", size=SIZE, batch_count=1, count=count)
    return started


def start_tasks(play: Play) -> Process:
    """Open a store for tasks; all of its space has been written."""
    started = start_ours(play, "kvstore-tasks")
    for _ in range(CAPACITY_FACTOR):
        started.call("set_by_tasks", tasks=SETTERS)
    return started


def start_threads(play: Play) -> Process:
    """Open a store for threads; all of its space has been written."""
    started = start_ours(play, "kvstore")
    for _ in range(CAPACITY_FACTOR):
        started.call("set_concurrently", threads=SETTERS)
    return started


def start_flushed(play: Play) -> Process:
    """Make a file, and write all of it once."""
    started = play.start("flushed", play.folder("flushed"), count=FLUSHED_COUNT, size=SIZE)
    started.call("prepare", size=SIZE, batch_count=1, count=FLUSHED_COUNT)
    started.call("set", limit_s=UNLIMITED_S)
    return started


def start_fio(play: Play) -> Fio:
    """Make a file as large as the values of a turn."""
    problem = play.bench.environment.problem("fio")
    if problem is not None:
        raise ContestantError(problem)
    return Fio(play.folder("fio"), SETTERS * play.bench.settings.setters_each * SIZE)


def set_by_tasks(started: Process, round_index: int) -> Sample:
    """Set from all tasks at once."""
    del round_index
    return rate(started.call("set_by_tasks", tasks=SETTERS), 1.0)


def set_by_threads(started: Process, round_index: int) -> Sample:
    """Set from all threads at once."""
    del round_index
    return rate(started.call("set_concurrently", threads=SETTERS), 1.0)


def set_one_by_one(started: Process, round_index: int) -> Sample:
    """Write and flush values one after another."""
    del round_index
    return rate(started.call("set", limit_s=UNLIMITED_S), SIZE)


def write_and_flush(fio: Fio, round_index: int) -> Sample:
    """Write as many values with as many in flight, flushed together."""
    del round_index
    return Sample(fio.flushed("randwrite", SIZE, SETTERS).value * GB / SIZE)
