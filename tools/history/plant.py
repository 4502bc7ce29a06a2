"""Histories of a store that is simulated, right or with a planted fault, to test the checker.

A checker that finds no planted fault proves nothing: `python -m tools.history --self-test` plants
each of FAULTS into histories that are otherwise right, and expects it to be found in every one.
"""

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tools.history.operation import Answer, Kind, Operation

CLIENTS = 6
KEYS = 5
OPERATION_US = 1000
"""How long an operation takes at most."""
LATE_US = 5000
"""How late one of unknown outcome may take effect."""
KINDS = (Kind.GET,) * 5 + (Kind.SET,) * 3 + (Kind.ADD, Kind.DELETE, Kind.EXISTS)
UNKNOWN_SHARE = 0.03
FAULT_TRIES_MAX = 200


@dataclass(frozen=True, slots=True)
class Step:
    """When an operation takes effect."""

    at: int
    operation: Operation
    effective: bool
    """False: of unknown outcome, and without effect."""


def right_history(
    seed: int, count: int, keys: int = KEYS, clients: int = CLIENTS
) -> list[Operation]:
    """Return a history in which every operation takes effect at once, within its time."""
    steps = sorted(Drawing(seed, keys, clients).steps(count), key=lambda step: step.at)
    states: dict[str, int | None] = {}
    return [answered(step, states) for step in steps]


class Drawing:
    """Draws what clients ask, one operation after the other for each of them."""

    def __init__(self, seed: int, keys: int, clients: int) -> None:
        """Start at time 0."""
        self._random = random.Random(seed)
        self._keys = keys
        self._free = [(0, client) for client in range(clients)]
        self._values = 0

    def steps(self, count: int) -> Iterator[Step]:
        """Yield so many, in the order of their calls."""
        for _ in range(count):
            free, client = heapq.heappop(self._free)
            called = free + self._random.randrange(OPERATION_US // 2)
            ended = called + 1 + self._random.randrange(OPERATION_US)
            heapq.heappush(self._free, (ended + 1, client))
            yield self._step(client, called, ended)

    def _step(self, client: int, called: int, ended: int) -> Step:
        kind = self._random.choice(KINDS)
        value = None
        if kind in (Kind.SET, Kind.ADD):
            self._values += 1
            value = self._values
        unknown = kind.writing and self._random.random() < UNKNOWN_SHARE
        at = self._random.randrange(called, ended + (LATE_US if unknown else 1))
        operation = Operation(
            client=client,
            kind=kind,
            key=f"key-{self._random.randrange(self._keys)}",
            value=value,
            called=called,
            ended=None if unknown else ended,
            answer=Answer.UNKNOWN if unknown else Answer.YES,
        )
        return Step(at, operation, not unknown or self._random.random() < 0.5)


def answered(step: Step, states: dict[str, int | None]) -> Operation:
    """Return the operation with the answer of a right store, whose states move on."""
    operation = step.operation
    state = states.get(operation.key)
    there = state is not None
    if step.effective:
        if operation.kind is Kind.SET or (operation.kind is Kind.ADD and not there):
            states[operation.key] = operation.value
        elif operation.kind is Kind.DELETE:
            states[operation.key] = None
    if operation.answer is Answer.UNKNOWN or operation.kind is Kind.SET:
        return operation
    yes = there if operation.kind is not Kind.ADD else not there
    value = state if operation.kind is Kind.GET else operation.value
    return replace(operation, value=value, answer=Answer.YES if yes else Answer.NO)


# Faults.


def lost_write(history: list[Operation], key: str) -> Operation | None:
    """Append a read, after everything, of what an earlier acknowledged set wrote."""
    sets = acknowledged(history, key, Kind.SET)
    gets = acknowledged(history, key, Kind.GET)
    seen = [get.value for get in gets if get.answer is Answer.YES]
    if len(sets) < 4 or not seen:
        return None
    return read_at_end(history, key, seen[0])


def stale_read(history: list[Operation], key: str) -> Operation | None:
    """Return a read that answers what a set before the last acknowledged one wrote."""
    sets = acknowledged(history, key, Kind.SET)
    if len(sets) < 4:
        return None
    return read_at_end(history, key, sets[0].value)


def resurrected_delete(history: list[Operation], key: str) -> Operation | None:
    """Return a read of a value whose delete was acknowledged and seen."""
    end = 1 + max(operation.ended or operation.called for operation in history)
    newest = max(operation.value or 0 for operation in history) + 1
    base = Operation(90, Kind.SET, key, newest, end, end + 1, Answer.YES)
    history += [
        base,
        replace(base, kind=Kind.DELETE, value=None, called=end + 2, ended=end + 3),
    ]
    return read_at_end(history, key, newest)


def double_application(history: list[Operation], key: str) -> Operation | None:
    """Return a read of a set that was overwritten, and seen so, before it was applied once more."""
    end = 1 + max(operation.ended or operation.called for operation in history)
    newest = max(operation.value or 0 for operation in history) + 1
    base = Operation(90, Kind.SET, key, newest, end, end + 1, Answer.YES)
    history += [
        base,
        replace(base, client=91, value=newest + 1, called=end + 2, ended=end + 3),
        replace(base, kind=Kind.GET, value=newest + 1, called=end + 4, ended=end + 5),
    ]
    return read_at_end(history, key, newest)


def added_twice(history: list[Operation], key: str) -> Operation | None:
    """Return a set-if-absent that succeeds on a key which cannot be absent."""
    end = 1 + max(operation.ended or operation.called for operation in history) + LATE_US
    newest = max(operation.value or 0 for operation in history) + 1
    base = Operation(90, Kind.ADD, f"{key}-fresh", newest, end, end + 1, Answer.YES)
    history.append(base)
    return replace(base, client=91, value=newest + 1, called=end + 2, ended=end + 3)


def read_from_nowhere(history: list[Operation], key: str) -> Operation | None:
    """Return a read of a value that nobody wrote."""
    return read_at_end(history, key, 1 << 40)


def lost_delete(history: list[Operation], key: str) -> Operation | None:
    """Return a delete that found nothing although a set was acknowledged right before it."""
    end = 1 + max(operation.ended or operation.called for operation in history)
    newest = max(operation.value or 0 for operation in history) + 1
    base = Operation(90, Kind.SET, f"{key}-fresh", newest, end, end + 1, Answer.YES)
    history.append(base)
    return replace(
        base, kind=Kind.DELETE, value=None, called=end + 2, ended=end + 3, answer=Answer.NO
    )


FAULTS: dict[str, Callable[[list[Operation], str], Operation | None]] = {
    "lost write": lost_write,
    "stale read": stale_read,
    "resurrected delete": resurrected_delete,
    "double application": double_application,
    "added twice": added_twice,
    "read from nowhere": read_from_nowhere,
    "lost delete": lost_delete,
}


def wrong_history(fault: str, seed: int, count: int) -> list[Operation]:
    """Return a right history into which one fault was planted."""
    for attempt in range(FAULT_TRIES_MAX):
        history = right_history(seed + attempt * 1_000_003, count)
        planted = FAULTS[fault](history, f"key-{seed % KEYS}")
        if planted is not None:
            return [*history, planted]
    raise AssertionError(f"no history of {count} operations has room for: {fault}")


def acknowledged(history: list[Operation], key: str, kind: Kind) -> list[Operation]:
    """Return the operations of a kind that were answered, by their end."""
    found = [
        operation
        for operation in history
        if operation.key == key and operation.kind is kind and operation.ended is not None
    ]
    return sorted(found, key=lambda operation: operation.ended or 0)


def read_at_end(history: list[Operation], key: str, value: int | None) -> Operation:
    """Return a read after everything else."""
    end = 1 + max(operation.ended or operation.called for operation in history) + LATE_US
    return Operation(92, Kind.GET, key, value, end, end + 1, Answer.YES)
