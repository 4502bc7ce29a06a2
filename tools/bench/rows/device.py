"""Values from and to the device, against fio: the same sizes, the same number at once.

A cold read is one of a store with none of the values that are read in its DRAM tier. Sets overwrite
keys of a store that has used all of its space before, as fio overwrites its file. Values and
buffers lie in memory that the store does not know; beside it is what registered memory does.
"""

from collections.abc import Callable, Iterator
from functools import partial

from tools.bench.failures import ContestantError
from tools.bench.fio import Fio
from tools.bench.process import Process
from tools.bench.result import OURS, RatioGoal, Row, Sample
from tools.bench.rows.play import UNLIMITED_S, Bench, Play, bandwidth
from tools.bench.settings import BATCH_COUNTS, KIB, MIB, size_text

SIZES = (64 * KIB, 256 * KIB, MIB, 4 * MIB)
AT_LEAST = 0.9
MEMORY = 128 * MIB
"""A DRAM tier smaller than the values: reading evicts, as it does in use."""
WARM_SIZE = MEMORY * 5 // 4
"""Other values, read before a clocked turn: the DRAM tier is touched, and full."""
CAPACITY_FACTOR = 2
FILLS = 3
"""Sets of every key before rounds of sets: no extent is written for the first time in one."""
REGISTERED = "registered memory"
FIO, FIO_CONTINUOUS = "fio", "fio, queue always full"


def reads(bench: Bench) -> Iterator[Row]:
    """Yield a row of cold reads for each size."""
    for size in SIZES:
        with bench.play(f"read-{size // KIB}K") as play:
            yield row_of(play, size, "read")


def writes(bench: Bench) -> Iterator[Row]:
    """Yield a row of sets for each size."""
    for size in SIZES:
        with bench.play(f"write-{size // KIB}K") as play:
            yield row_of(play, size, "write")


def row_of(play: Play, size: int, direction: str) -> Row:
    """Measure one size in one direction."""
    reads = direction == "read"
    store = Store(play, size, fills=1 if reads else FILLS, spare=WARM_SIZE if reads else 0)
    limit = Limit(play, size, f"rand{direction}")
    turn = store.read if reads else store.write
    play.interleave(
        {
            OURS: partial(turn, False),
            REGISTERED: partial(turn, True),
            FIO: partial(limit.turn, Fio.batched),
            FIO_CONTINUOUS: partial(limit.turn, Fio.continuous),
        }
    )
    call = "batch_get_into, cold" if reads else "batch_set, durability disk"
    return play.row(
        f"{direction}-{size // KIB}K",
        f"{call}, {size_text(size)} x {BATCH_COUNTS[size]}",
        "GB/s",
        RatioGoal(AT_LEAST, FIO),
        store.finish(),
    )


class Store:
    """This store, with every key set several times."""

    def __init__(self, play: Play, size: int, *, fills: int, spare: int) -> None:
        """Set every key *fills* times; there is room for *spare* bytes more."""
        self._play = play
        self._size = size
        self._spare = spare
        self._settings = play.bench.settings
        self._folder = play.folder(OURS)
        self._process: Process | None = None
        self._memory_hits = 0.0
        with play.attempt(OURS):
            self._process = play.start("kvstore", self._folder, **self._options())
            count = self._settings.device_size // size
            self._process.call("prepare", size=size, batch_count=BATCH_COUNTS[size], count=count)
            for _ in range(fills):
                self._process.call("set", limit_s=UNLIMITED_S)

    def read(self, register: bool, round_index: int) -> Sample:
        """Open it anew and read every key once."""
        process = self._held()
        process.call("close")
        process.call("open", directory=str(self._folder), options=self._options())
        process.call("fill", first=0, count=WARM_SIZE // self._size, size=self._size)
        if register:
            process.call("register")
        before = process.call("statistics")["get_memory_hits"]
        answer = process.call("get", seed=round_index, limit_s=UNLIMITED_S, passes_max=1)
        hits = self._play.count(process)["get_memory_hits"] - before
        self._memory_hits = max(self._memory_hits, hits)
        return bandwidth(answer)

    def write(self, register: bool, round_index: int) -> Sample:
        """Set every key once."""
        del round_index
        process = self._held()
        if register:
            process.call("register")
        answer = process.call("set", limit_s=UNLIMITED_S)
        process.call("unregister")
        return bandwidth(answer)

    def finish(self) -> str:
        """Check every byte, and say what explains the figures."""
        if self._process is None or OURS in self._play.outcome.problems:
            return ""
        self._play.count(self._process)
        self._play.verify({OURS: self._process})
        return f"{self._memory_hits:.0f} hits in memory" if self._memory_hits else ""

    def _options(self) -> dict[str, str | int]:
        capacity = self._settings.device_size * CAPACITY_FACTOR + self._spare
        return {"durability": "disk", "memory": MEMORY, "capacity": capacity}

    def _held(self) -> Process:
        if self._process is None:
            raise ContestantError("not open")
        return self._process


class Limit:
    """fio, if there is one."""

    def __init__(self, play: Play, size: int, operation: str) -> None:
        """Make its file."""
        self._operation = operation
        self._size = size
        self._problem = play.bench.environment.problem("fio")
        if self._problem is None:
            self._fio = Fio(play.folder("fio"), play.bench.settings.device_size)

    def turn(self, run: Callable[[Fio, str, int, int], Sample], round_index: int) -> Sample:
        """Read or write as many bytes as the store does."""
        del round_index
        if self._problem is not None:
            raise ContestantError(self._problem)
        return run(self._fio, self._operation, self._size, BATCH_COUNTS[self._size])
