"""A contradiction as a small picture: one line an operation, time from left to right."""

from collections.abc import Sequence

from tools.history.check import Violation
from tools.history.operation import Operation

WIDTH = 40
LABEL_WIDTH = 34
ROWS_MAX = 24


def draw(violation: Violation, origin: int = 0) -> str:
    """Return the picture; times are shown in seconds since *origin*."""
    core = violation.core
    lines = [
        f"key {violation.key}: {violation.what}",
        f"  {len(core)} of its {violation.count} operations contradict each other:",
    ]
    shown = core[-ROWS_MAX:]
    marks = ranks(shown)
    lines += [row(operation, marks, origin) for operation in shown]
    return "\n".join(lines)


def ranks(operations: Sequence[Operation]) -> dict[int, int]:
    """Return the column of every time: only their order is to scale, so that all can be seen."""
    times = sorted(
        {operation.called for operation in operations}
        | {operation.ended for operation in operations if operation.ended is not None}
    )
    steps = max(1, len(times) - 1)
    return {time: index * (WIDTH - 1) // steps for index, time in enumerate(times)}


def row(operation: Operation, marks: dict[int, int], origin: int) -> str:
    """Return the line of one operation."""
    start = marks[operation.called]
    end = WIDTH - 1 if operation.ended is None else marks[operation.ended]
    closing = "…" if operation.ended is None else "|"
    bar = "|" + "=" * max(0, end - start - 1) + closing
    label = f"client {operation.client}: {operation}"[:LABEL_WIDTH]
    ended = "?" if operation.ended is None else f"{(operation.ended - origin) / 1e6:.6f}"
    times = f"{(operation.called - origin) / 1e6:.6f} … {ended} s"
    return f"  {label:<{LABEL_WIDTH}} {' ' * start + bar:<{WIDTH + 1}} {times}"
