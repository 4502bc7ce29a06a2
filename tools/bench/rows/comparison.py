"""Sets and gets of this store beside other stores and plain files. These rows have no goal.

Each keeps its own promise for a set: only kvstore and `files, direct` have put the bytes onto the
device when it returns; the others have them in memory or in the page cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from tools.bench.fio import Fio
from tools.bench.process import Process
from tools.bench.result import OURS, Row, Sample
from tools.bench.rounds import Outcome, Turn
from tools.bench.rows.play import PASSES_MAX, Bench, Play, bandwidth
from tools.bench.settings import BATCH_COUNTS, KIB, MIB

SIZES = (4 * KIB, 64 * KIB, MIB, 4 * MIB)
MEMORY = 512 * MIB
KEYS_MAX = 12_288
"""48 MiB of 4 KiB: more than a cache of 32 MiB, and not more files than a round can make."""
FIRST_FACTOR = 6
"""The first round may set for this many times as long."""
SET, GET = "set", "get"


@dataclass(frozen=True, slots=True)
class Peer:
    """A contestant of the comparison, and how it is opened."""

    kind: str
    options: dict[str, str | int] = field(default_factory=dict)


PEERS = {
    OURS: Peer("kvstore", {"memory": MEMORY, "durability": "disk"}),
    "kvstore, memory": Peer("kvstore", {"memory": MEMORY, "durability": "memory"}),
    "lmdb": Peer("lmdb"),
    "rocksdict": Peer("rocksdict"),
    "diskcache": Peer("diskcache"),
    "redis": Peer("redis"),
    "files": Peer("files"),
    "files, direct": Peer("files", {"direct": 1}),
}
MEMCPY, FIO = "memcpy", "fio"


def measure(bench: Bench) -> Iterator[Row]:
    """Yield two rows for each size."""
    for size in SIZES:
        with bench.play(f"peers-{size // KIB}K") as play:
            yield from rows_of(play, size)


def rows_of(play: Play, size: int) -> Iterator[Row]:
    """Measure one size: a round is a set and a get of everyone."""
    processes = started(play, size)
    turns = {name: Turns(play, process) for name, process in processes.items()}
    settings = play.bench.settings
    limit: dict[str, dict[str, Turn]] = {SET: {}, GET: {}}
    fio_problem = play.bench.environment.problem(FIO)
    if fio_problem is None:
        fio = Fio(play.folder(FIO), settings.peers_size)
        limit[SET][FIO] = partial(fio_turn, fio, "randwrite", size)
        limit[GET][FIO] = partial(fio_turn, fio, "randread", size)
    else:
        play.outcome.problems[FIO] = fio_problem
    problems = dict(play.outcome.problems)
    for operation in (SET, GET):
        play.outcome = Outcome(problems=dict(problems))
        play.interleave(
            {name: getattr(turn, operation) for name, turn in turns.items()} | limit[operation]
        )
        if operation == GET:
            play.verify(processes)
        problems = dict(play.outcome.problems)
        yield play.row(f"{operation}-{size // KIB}K", operation, "GB/s")


def started(play: Play, size: int) -> dict[str, Process]:
    """Start everyone who can run."""
    processes: dict[str, Process] = {}
    library = {"library": str(play.bench.environment.library)}
    for name, peer in {**PEERS, MEMCPY: Peer("memcpy", dict(library))}.items():
        with play.attempt(name):
            folder = play.folder(name.replace(", ", "-"))
            process = play.start(peer.kind, folder, **peer.options)
            count = min(play.bench.settings.peers_size // size, KEYS_MAX)
            process.call("prepare", size=size, batch_count=BATCH_COUNTS[size], count=count)
            processes[name] = process
    return processes


def fio_turn(fio: Fio, operation: str, size: int, round_index: int) -> Sample:
    """Move the same bytes as the others."""
    del round_index
    return fio.batched(operation, size, BATCH_COUNTS[size])


@dataclass(frozen=True, slots=True)
class Turns:
    """What one contestant does in a round."""

    play: Play
    process: Process

    def set(self, round_index: int) -> Sample:
        """Set keys for a while; for longer in the first round, so that there is more to read."""
        limit_s = self.play.bench.settings.peers_phase_s * (1 if round_index else FIRST_FACTOR)
        return bandwidth(self.process.call("set", limit_s=limit_s))

    def get(self, round_index: int) -> Sample:
        """Read for a while."""
        limit_s = self.play.bench.settings.peers_phase_s
        return bandwidth(
            self.process.call("get", seed=round_index, limit_s=limit_s, passes_max=PASSES_MAX)
        )
