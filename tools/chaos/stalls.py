"""How long each key could not be read, or not be written, and under which fault.

A key stalls from the call of an operation until the answer of one that succeeds: its own answer, or
where it failed or nobody knows, that of the next one called on the key, less the time in which
nobody asked. Reads and writes are told apart. A stall belongs to all faults that were there
meanwhile; where none was, to the last one that was over, unless that is long ago.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tools.history.operation import Operation

AFTERMATH_US = 5_000_000
"""How long after it was undone a fault is taken for the cause."""
STALL_US_MIN = 20_000
"""Shorter ones are no stalls: a busy machine has them all the time."""
UNASKED_US = 1_000_000
"""When nobody calls for so long after a failure, the stall ends with it."""
CALM = "no fault"
TOGETHER = " + "
"""Between the names of faults that were there at once."""
MACHINE = ""
"""The key of stalls of the machine itself, which no key can have: what is shorter may be noise."""


@dataclass(frozen=True, slots=True)
class Stall:
    """One key that waited."""

    key: str
    writing: bool
    begun: int
    ended: int

    @property
    def size_ms(self) -> float:
        """How long."""
        return (self.ended - self.begun) / 1000


@dataclass(frozen=True, slots=True)
class Window:
    """When a fault was there; times of the histories."""

    name: str
    """What the table calls faults of its kind."""
    begun: int
    undone: int


@dataclass(frozen=True, slots=True)
class StallRow:
    """What one kind of fault did to keys."""

    name: str
    faults: int
    keys: int
    """How many keys stalled."""
    read_ms: float
    write_ms: float
    """The longest of any key."""
    machine_ms: float
    """The longest of the machine."""
    read_key: str
    write_key: str


def stalls_in(history: Iterable[Operation]) -> Iterator[Stall]:
    """Yield the stalls of all keys."""
    by_key: dict[tuple[str, bool], list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key, operation.kind.writing].append(operation)
    for (key, writing), operations in by_key.items():
        operations.sort(key=lambda operation: operation.called)
        yield from stalls_of_key(key, operations, writing=writing)


def stalls_of_key(key: str, operations: Sequence[Operation], *, writing: bool) -> Iterator[Stall]:
    """Yield the stalls of one key."""
    for begun, ended in waits_of(operations):
        if ended - begun >= STALL_US_MIN:
            yield Stall(key, writing, begun, ended)


def waits_of(operations: Sequence[Operation]) -> Iterator[tuple[int, int]]:
    """Yield from when until when somebody waited for one key, in the order of calls."""
    begun: int | None = None
    until = 0
    for operation in operations:
        if begun is not None and operation.called - until > UNASKED_US:
            yield begun, until
            begun = None
        if operation.failing:
            begun = operation.called if begun is None else begun
            until = max(until, operation.given_up or operation.ended or operation.called)
        elif operation.ended is not None:
            yield operation.called if begun is None else begun, operation.ended
            begun = None
    if begun is not None:
        yield begun, until


def cause_of(stall: Stall, windows: Sequence[Window]) -> str:
    """Return the name of the fault that a stall belongs to."""
    begun = [window for window in windows if window.begun <= stall.ended]
    there = sorted({window.name for window in begun if stall.begun <= window.undone})
    if there:
        return TOGETHER.join(there)
    over = [window for window in begun if stall.begun <= window.undone + AFTERMATH_US]
    return max(over, key=lambda window: window.undone).name if over else CALM


def stall_rows(stalls: Iterable[Stall], windows: Sequence[Window]) -> list[StallRow]:
    """Return one row a kind of fault, then one for each mix of kinds, then what had none."""
    by_cause: dict[str, list[Stall]] = {window.name: [] for window in windows}
    for stall in stalls:
        by_cause.setdefault(cause_of(stall, windows), []).append(stall)
    by_cause[CALM] = by_cause.pop(CALM, [])
    names = [window.name for window in windows]
    return [stall_row(name, names.count(name), found) for name, found in by_cause.items()]


def stall_row(name: str, faults: int, stalls: Sequence[Stall]) -> StallRow:
    """Return the row of one kind."""
    longest: dict[bool, tuple[float, str]] = {True: (0.0, ""), False: (0.0, "")}
    machine_ms = max([0.0, *(stall.size_ms for stall in stalls if stall.key == MACHINE)])
    stalls = [stall for stall in stalls if stall.key != MACHINE]
    for stall in stalls:
        longest[stall.writing] = max(longest[stall.writing], (stall.size_ms, stall.key))
    return StallRow(
        name=name,
        faults=faults,
        keys=len({stall.key for stall in stalls}),
        read_ms=longest[False][0],
        write_ms=longest[True][0],
        machine_ms=machine_ms,
        read_key=longest[False][1],
        write_key=longest[True][1],
    )
