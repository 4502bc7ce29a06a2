"""The stage of one row: its directory, its contestants, and what they achieved.

Guarantees: when the context ends, every process has ended and the directory is gone, whatever
happened; a contestant that cannot start is a problem of the row, not its end.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tools.bench.environment import Environment
from tools.bench.failures import ContestantError
from tools.bench.process import Process, process
from tools.bench.result import Goal, Row, Sample
from tools.bench.rounds import Outcome, Turn, interleave
from tools.bench.settings import Settings

GB = 1e9
UNLIMITED_S = 60.0
"""The clocked limit of a phase that is to do everything."""
PASSES_MAX = 1_000_000
SEED_VERIFY = 1_000


@dataclass(frozen=True, slots=True)
class Bench:
    """What every row is given."""

    settings: Settings
    environment: Environment
    say: Callable[[str], None]

    @contextmanager
    def play(self, name: str) -> Iterator["Play"]:
        """Set the stage for the row *name*."""
        self.say(name)
        directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.settings.directory))
        try:
            with ExitStack() as stack:
                yield Play(self, directory, stack)
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@dataclass(slots=True)
class Play:
    """One row while it is measured."""

    bench: Bench
    directory: Path
    stack: ExitStack
    outcome: Outcome = field(default_factory=Outcome)
    details: dict[str, object] = field(default_factory=dict)

    def folder(self, name: str) -> Path:
        """Return a new directory of this row."""
        made = self.directory / name
        made.mkdir()
        return made

    def start(self, kind: str, folder: Path, **options: str | int) -> Process:
        """Start a process with its contestant open; it ends with the row."""
        problem = self.bench.environment.problem(kind)
        if problem:
            raise ContestantError(problem)
        log = self.directory / "log"
        started = self.stack.enter_context(process(self.bench.environment.command(kind), log))
        started.call("open", directory=str(folder), options=options)
        return started

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Do something for the contestant *name*; its failure becomes its problem."""
        try:
            yield
        except ContestantError as error:
            self.outcome.problems[name] = str(error)

    def interleave(self, turns: Mapping[str, Turn]) -> None:
        """Play the rounds."""
        interleave(turns, self.bench.settings.rounds, self.outcome)

    def verify(self, processes: Mapping[str, Process]) -> None:
        """Compare every byte of contestants; the figures of one that is wrong do not count."""
        for name, started in processes.items():
            if name in self.outcome.problems:
                continue
            with self.attempt(name):
                started.call("verify", seed=SEED_VERIFY)
            if name in self.outcome.problems:
                self.outcome.samples.pop(name, None)

    def count(self, started: Process) -> Mapping[str, float]:
        """Return what our store counted, and keep it with the row."""
        counted = started.call("statistics")
        self.details.update(counted)
        return counted

    def row(
        self,
        name: str,
        measure: str,
        unit: str,
        goal: Goal | None = None,
        note: str = "",
    ) -> Row:
        """Return the outcome as a row."""
        outcome = self.outcome
        return Row(
            name,
            measure,
            unit,
            outcome.samples,
            goal,
            outcome.problems,
            note,
            dict(self.details),
        )


def bandwidth(answer: Mapping[str, float]) -> Sample:
    """Return the GB/s of a phase that moved bytes."""
    gigabytes = answer["amount"] / GB
    return Sample(
        value=gigabytes / answer["seconds"],
        cpu_s_per_gb=answer["cpu_s"] / gigabytes,
        p50_ms=answer["p50_ms"],
        p99_ms=answer["p99_ms"],
    )


def typical(answer: Mapping[str, float], batch_amount: float, sample: Sample) -> Sample:
    """Return *sample* with the figure of the median batch, which moved *batch_amount*.

    For work of one thread in memory: batches that lost the processor to another process do not
    count, and there is nothing in the background whose cost would be hidden so.
    """
    return replace(sample, value=batch_amount / (answer["p50_ms"] / 1e3))


def rate(answer: Mapping[str, float], scale: float) -> Sample:
    """Return the units of *scale* a second of a phase."""
    return Sample(
        value=answer["amount"] / scale / answer["seconds"],
        p50_ms=answer["p50_ms"],
        p99_ms=answer["p99_ms"],
    )
