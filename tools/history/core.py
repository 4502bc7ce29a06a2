"""The few operations that contradict each other, out of all on one key.

What is left out of a core is forgiven: a read says nothing any more, a write may have taken effect
at any time, or never. So a core is a contradiction whatever happened to the rest, and a small one.
"""

from collections.abc import Sequence
from dataclasses import replace

from tools.history.operation import Answer, Operation
from tools.history.register import Contradiction, UndecidedError, contradiction_in

EARLIEST = -1
"""Before every operation of a history, whose times are not negative."""
TRIALS_MAX = 400
"""Searches for one core; it may stay larger than it could be."""


def forgive(operations: Sequence[Operation], strict: set[int]) -> list[Operation]:
    """Return the operations, of which all but the strict ones have no claim any more."""
    kept = []
    for index, operation in enumerate(operations):
        if index in strict:
            kept.append(operation)
        elif operation.kind.writing and operation.answer is not Answer.FAILED:
            kept.append(
                replace(operation, called=EARLIEST, ended=None, answer=Answer.UNKNOWN, error="")
            )
    return kept


def core_of(operations: Sequence[Operation], found: Contradiction) -> list[Operation]:
    """Return operations that contradict each other whatever became of the others, by their call."""
    assert found.last.ended is not None
    begun = sorted(
        (operation for operation in operations if operation.called <= found.last.ended),
        key=lambda operation: operation.called,
    )
    strict = Shrinking(begun).shrink()
    return [begun[index] for index in sorted(strict)]


class Shrinking:
    """Leaves out more and more, in halves, then quarters, then one by one."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        """Start from operations that contradict each other."""
        self._operations = operations
        self._trials = 0

    def shrink(self) -> set[int]:
        """Return the indices of a core."""
        strict = [
            index
            for index, operation in enumerate(self._operations)
            if operation.answer not in (Answer.FAILED, Answer.UNKNOWN)
        ]
        size = max(1, len(strict) // 2)
        while True:
            start = 0
            while start < len(strict):
                fewer = strict[:start] + strict[start + size :]
                if self._contradict(set(fewer)):
                    strict = fewer
                else:
                    start += size
            if size == 1 or self._trials >= TRIALS_MAX:
                return set(strict)
            size //= 2

    def _contradict(self, strict: set[int]) -> bool:
        if self._trials >= TRIALS_MAX:
            return False
        self._trials += 1
        try:
            return contradiction_in(forgive(self._operations, strict)) is not None
        except UndecidedError:
            return False
