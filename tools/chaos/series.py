"""Throughput and latency over the time of a run, in steps."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tools.history.operation import Operation

STEP_US = 250_000
POINTS_MAX = 4000
"""Of a long run, steps are longer."""


@dataclass(frozen=True, slots=True)
class Point:
    """One step."""

    at_s: float
    reads: int
    writes: int
    """Operations answered in the step."""
    failures: int
    """Operations called in the step that failed, or whose outcome is unknown."""
    read_ms_max: float
    write_ms_max: float
    """The slowest answer in the step."""


def series_of(history: Iterable[Operation], origin: int, end: int) -> list[Point]:
    """Return the points from *origin* to *end*."""
    step = STEP_US * max(1, -(-(end - origin) // (STEP_US * POINTS_MAX)))
    counts: dict[bool, dict[int, int]] = {True: defaultdict(int), False: defaultdict(int)}
    slowest: dict[bool, dict[int, int]] = {True: defaultdict(int), False: defaultdict(int)}
    failures: dict[int, int] = defaultdict(int)
    for operation in history:
        if operation.failing:
            failures[(operation.called - origin) // step] += 1
        if operation.failing or operation.ended is None:
            continue
        index, writing = (operation.ended - origin) // step, operation.kind.writing
        counts[writing][index] += 1
        size = operation.ended - operation.called
        slowest[writing][index] = max(slowest[writing][index], size)
    return [
        Point(
            at_s=index * step / 1e6,
            reads=counts[False][index],
            writes=counts[True][index],
            failures=failures[index],
            read_ms_max=slowest[False][index] / 1000,
            write_ms_max=slowest[True][index] / 1000,
        )
        for index in range((end - origin) // step + 1)
    ]
