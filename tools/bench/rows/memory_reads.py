"""batch_get_into from the DRAM tier, against one thread's memcpy, and against LMDB for 4 KiB.

Figures are those of the median batch of a turn.
"""

from collections.abc import Iterator
from functools import partial

from tools.bench.process import Process
from tools.bench.result import OURS, RatioGoal, Row, Sample
from tools.bench.rows.play import GB, PASSES_MAX, UNLIMITED_S, Bench, Play, bandwidth, typical
from tools.bench.settings import BATCH_COUNTS, KIB, MIB, size_text

MEMORY_FACTOR = 2.5
"""The DRAM tier is larger than the values by this: none of them goes."""
GOALS = {64 * KIB: 0.85, 256 * KIB: 0.85, MIB: 1.2, 4 * MIB: 1.2}
SMALL_SIZE = 4 * KIB
SMALL_GOAL = 2.0


def against_memcpy(bench: Bench) -> Iterator[Row]:
    """Yield a row for each size."""
    for size, at_least in GOALS.items():
        yield row_of(bench, size, RatioGoal(at_least, "memcpy"))


def against_lmdb(bench: Bench) -> Iterator[Row]:
    """Yield the row of small values."""
    yield row_of(bench, SMALL_SIZE, RatioGoal(SMALL_GOAL, "lmdb"))


def row_of(bench: Bench, size: int, goal: RatioGoal) -> Row:
    """Measure one size."""
    batch_count = BATCH_COUNTS[size]
    memory = int(bench.settings.memory_size * MEMORY_FACTOR)
    with bench.play(f"memory-{size // KIB}K") as play:
        processes: dict[str, Process] = {}
        for name, options in (
            (OURS, {"memory": memory}),
            (goal.against, {"library": str(bench.environment.library)}),
        ):
            with play.attempt(name):
                started = play.start(name, play.folder(name), **options)
                count = bench.settings.memory_size // size
                started.call("prepare", size=size, batch_count=batch_count, count=count)
                started.call("set", limit_s=UNLIMITED_S)
                processes[name] = started
        play.interleave(
            {name: partial(turn, bench, started, size) for name, started in processes.items()}
        )
        play.verify(processes)
        return play.row(
            f"memory-{size // KIB}K",
            f"batch_get_into, DRAM tier, {size_text(size)} x {batch_count}",
            "GB/s",
            goal,
            note(play, processes),
        )


def turn(bench: Bench, started: Process, size: int, round_index: int) -> Sample:
    """Read for a while."""
    limit_s = bench.settings.phase_s
    answer = started.call("get", seed=round_index, limit_s=limit_s, passes_max=PASSES_MAX)
    return typical(answer, size * BATCH_COUNTS[size] / GB, bandwidth(answer))


def note(play: Play, processes: dict[str, Process]) -> str:
    """Say whether values came from memory, as they should."""
    if OURS in play.outcome.problems:
        return ""
    reads = play.count(processes[OURS])["device_reads"]
    return f"{reads:.0f} reads of the device" if reads else ""
