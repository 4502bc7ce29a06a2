"""The clocked part of a worker: batches one after another, checked between two of them.

Guarantees: keys, values and buffers exist before the clock starts; nothing but the contestant's
call is on the clock; a value that comes back wrong is an error, never a figure.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from threading import Barrier, Thread

from tools.bench.contestants.abilities import MakesRoom
from tools.bench.contestants.base import ByTasks, Contestant
from tools.bench.failures import ContestantError
from tools.bench.pages import Batch, Pages, poison, wrong_edges, wrong_values
from tools.bench.stats import quantile

WALL_FACTOR = 4
"""A phase also ends after this many times its clocked limit, whatever was off the clock."""


@dataclass(slots=True)
class Timing:
    """What a phase took. CPU time is that of the whole process."""

    amount: int
    """Bytes, or keys where values do not matter."""
    seconds: float
    cpu_s: float
    p50_ms: float
    p99_ms: float

    def to_json(self) -> dict[str, float]:
        """Return the fields by name."""
        return asdict(self)


class Clock:
    """Adds up what is done between its start and its stop, batch by batch."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.seconds: list[float] = []
        self.cpu_s = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time what is inside."""
        cpu_before = time.process_time()
        before = time.perf_counter()
        yield
        self.seconds.append(time.perf_counter() - before)
        self.cpu_s += time.process_time() - cpu_before

    def timing(self, amount: int) -> Timing:
        """Return what was added up."""
        return Timing(
            amount,
            sum(self.seconds),
            self.cpu_s,
            quantile(self.seconds, 0.5) * 1e3,
            quantile(self.seconds, 0.99) * 1e3,
        )


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Keep the collector out of the clocked part."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def set_phase(contestant: Contestant, pages: Pages, limit_s: float) -> Timing:
    """Give every key its next value, or as many keys as the limit allows."""
    batches = pages.set_batches()
    clock = Clock()
    done = 0
    with without_garbage_collection():
        end = time.monotonic() + limit_s * WALL_FACTOR
        for batch in batches:
            if isinstance(contestant, MakesRoom):
                contestant.make_room(batch.keys)
            with clock.running():
                contestant.set_batch(batch.keys, batch.sources)
            done += 1
            if sum(clock.seconds) >= limit_s or time.monotonic() >= end:
                break
    for batch in batches[done:]:
        pages.unset(batch)
    return clock.timing(sum(len(batch.keys) for batch in batches[:done]) * pages.size)


def get_phase(
    contestant: Contestant, pages: Pages, seed: int, limit_s: float, passes_max: int
) -> Timing:
    """Read keys in a shuffled order, again and again until the limit or *passes_max*."""
    batches = pages.get_batches(seed)
    clock = Clock()
    keys = 0
    with without_garbage_collection():
        end = time.monotonic() + limit_s * WALL_FACTOR
        for batch in repeated(batches, passes_max):
            with clock.running():
                contestant.get_batch(batch.keys, batch.targets)
            check(wrong_edges(batch), batch)
            keys += len(batch.keys)
            if sum(clock.seconds) >= limit_s or time.monotonic() >= end:
                break
    return clock.timing(keys * pages.size)


def repeated(batches: Sequence[Batch], passes_max: int) -> Iterator[Batch]:
    """Yield the batches *passes_max* times."""
    for _ in range(passes_max):
        yield from batches


def verify_phase(contestant: Contestant, pages: Pages, seed: int) -> None:
    """Read every key once and compare every byte."""
    for batch in pages.get_batches(seed):
        poison(batch)
        contestant.get_batch(batch.keys, batch.targets)
        check(wrong_values(batch), batch)


def check(wrong: int, batch: Batch) -> None:
    """Refuse wrong bytes."""
    if wrong:
        raise ContestantError(f"{wrong} of {len(batch.keys)} values came back wrong")


def exists_phase(
    contestant: Contestant, batches: Sequence[Sequence[bytes]], expected: bool, limit_s: float
) -> Timing:
    """Look keys up that are all there, or all missing."""
    clock = Clock()
    keys = 0
    with without_garbage_collection():
        while sum(clock.seconds) < limit_s:
            batch = batches[len(clock.seconds) % len(batches)]
            with clock.running():
                found = contestant.exists_batch(batch)
            hits = sum(value is not None and value is not False for value in found)
            if hits != (len(batch) if expected else 0):
                raise ContestantError(f"{hits} of {len(batch)} keys exist")
            keys += len(batch)
    return clock.timing(keys)


def concurrent_set_phase(contestant: Contestant, pages: Pages, threads: int) -> Timing:
    """Set key by key from *threads* threads at once; the latencies are those of single sets."""
    batches = pages.set_batches()
    barrier = Barrier(threads + 1)
    latencies: list[list[float]] = [[] for _ in range(threads)]
    problems: list[Exception] = []
    setters = [
        Thread(
            target=set_in_turn,
            args=(contestant, batches[i::threads], barrier, latencies[i], problems.append),
        )
        for i in range(threads)
    ]
    for setter in setters:
        setter.start()
    clock = Clock()
    with without_garbage_collection():
        barrier.wait()
        with clock.running():
            for setter in setters:
                setter.join()
    if problems:
        raise ContestantError(str(problems[0]))
    every = [second for of_thread in latencies for second in of_thread]
    return of_single_sets(clock.timing(len(batches)), every)


def task_set_phase(contestant: Contestant, pages: Pages, tasks: int) -> Timing:
    """Do the same from *tasks* tasks of an event loop."""
    if not isinstance(contestant, ByTasks):
        raise ContestantError("its setters cannot be tasks")
    batches = pages.set_batches()
    clock = Clock()
    with without_garbage_collection(), clock.running():
        seconds = contestant.set_by_tasks([batches[i::tasks] for i in range(tasks)])
    return of_single_sets(clock.timing(len(batches)), seconds)


def of_single_sets(timing: Timing, seconds: Sequence[float]) -> Timing:
    """Return *timing* with the latencies of single sets."""
    timing.p50_ms = quantile(seconds, 0.5) * 1e3
    timing.p99_ms = quantile(seconds, 0.99) * 1e3
    return timing


def set_in_turn(
    contestant: Contestant,
    batches: Sequence[Batch],
    barrier: Barrier,
    latencies: list[float],
    on_problem: Callable[[Exception], None],
) -> None:
    """Set batches one after another as soon as every thread is there."""
    barrier.wait()
    try:
        for batch in batches:
            before = time.perf_counter()
            contestant.set_batch(batch.keys, batch.sources)
            latencies.append(time.perf_counter() - before)
    except ContestantError as error:
        on_problem(error)
