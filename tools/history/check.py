"""Checks a whole history: every key on its own, since linearizability is local to keys.

Finds, for each key: operations that fit into no order, and acknowledged writes that the last read
does not show. The second is a case of the first, said so that nobody has to think about it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tools.history.core import core_of
from tools.history.lost import lost_write_in
from tools.history.operation import Answer, Operation
from tools.history.register import UndecidedError, contradiction_in

CORES_MAX = 20
"""Keys whose contradictions are shrunk; what breaks many keys is seen in a few."""


@dataclass(frozen=True, slots=True)
class Violation:
    """What no strongly consistent store could have answered."""

    key: str
    what: str
    core: tuple[Operation, ...]
    """Operations that contradict each other."""
    count: int
    """How many operations there are on the key."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found."""

    operations: int
    unknown: int
    """Operations whose outcome is unknown."""
    failed: int
    keys: int
    violations: tuple[Violation, ...]
    undecided: tuple[str, ...]
    """Keys on which too many orders are possible to say."""

    @property
    def good(self) -> bool:
        """Whether every key was checked, and holds."""
        return not self.violations and not self.undecided


def check(history: Iterable[Operation]) -> Verdict:
    """Check every key; keys are absent before their first operation."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    violations: list[Violation] = []
    undecided = []
    for key, operations in sorted(by_key.items()):
        try:
            violation = violation_in(key, operations, shrink=len(violations) < CORES_MAX)
        except UndecidedError:
            undecided.append(key)
        else:
            violations += [] if violation is None else [violation]
    everything = [operation for operations in by_key.values() for operation in operations]
    failing = [operation.answer for operation in everything if operation.failing]
    return Verdict(
        operations=len(everything),
        unknown=failing.count(Answer.UNKNOWN),
        failed=failing.count(Answer.FAILED),
        keys=len(by_key),
        violations=tuple(violations),
        undecided=tuple(undecided),
    )


def violation_in(key: str, operations: Sequence[Operation], *, shrink: bool) -> Violation | None:
    """Return what is wrong with one key; raises UndecidedError."""
    found = contradiction_in(operations)
    if found is None:
        return None
    core = core_of(operations, found) if shrink else [found.last]
    return Violation(key, name_of(operations, core), tuple(core), len(operations))


def name_of(operations: Sequence[Operation], core: Sequence[Operation]) -> str:
    """Return what people call such a contradiction."""
    lost = lost_write_in(operations)
    if lost is not None:
        return lost
    if any(operation.answer is Answer.WRONG for operation in core):
        return "wrong bytes"
    written = {operation.value for operation in operations if operation.kind.writing}
    for operation in core:
        if operation.value is not None and operation.value not in written:
            return "a value that nobody wrote"
    return "the answers fit into no order"
