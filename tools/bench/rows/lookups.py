"""batch_exists of keys that are there and of keys that are not, against RocksDB's multi-get.

Figures are those of the median batch of a turn.
"""

from collections.abc import Iterator
from functools import partial

from tools.bench.process import Process
from tools.bench.result import OURS, RatioGoal, Row, Sample
from tools.bench.rounds import Outcome
from tools.bench.rows.play import Bench, rate, typical

PEER = "rocksdict"
BATCH_COUNT = 1024
VALUE_SIZE = 100
AT_LEAST = 10.0
MILLION = 1e6


def measure(bench: Bench) -> Iterator[Row]:
    """Yield a row of hits and one of misses."""
    with bench.play("exists") as play:
        processes: dict[str, Process] = {}
        for name in (OURS, PEER):
            with play.attempt(name):
                processes[name] = filled(bench, play.start(name, folder := play.folder(name)))
                reopen(processes[name], str(folder))
        problems = dict(play.outcome.problems)
        for hits, what in ((True, "hits"), (False, "misses")):
            play.outcome = Outcome(problems=dict(problems))
            play.interleave(
                {
                    name: partial(turn, bench, started, hits)
                    for name, started in processes.items()
                    if name not in problems
                }
            )
            yield play.row(
                f"exists-{what}",
                f"batch_exists, {BATCH_COUNT:,} keys of 32 bytes, {what}",
                "M keys/s",
                RatioGoal(AT_LEAST, PEER),
            )


def filled(bench: Bench, started: Process) -> Process:
    """Set every key."""
    started.call("fill", first=0, count=bench.settings.exists_objects, size=VALUE_SIZE)
    return started


def reopen(started: Process, folder: str) -> None:
    """Have what is in memtables moved to tables: the peer's usual state."""
    started.call("close")
    started.call("open", directory=folder, options={})


def turn(bench: Bench, started: Process, hits: bool, round_index: int) -> Sample:
    """Look up for a while."""
    answer = started.call(
        "exists",
        seed=round_index,
        count=bench.settings.exists_objects,
        batch_count=BATCH_COUNT,
        hits=hits,
        limit_s=bench.settings.phase_s,
    )
    return typical(answer, BATCH_COUNT / MILLION, rate(answer, MILLION))
