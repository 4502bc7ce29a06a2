"""Long computations in short steps, so that whoever runs them goes on with other work in between.

A `Work` is a generator that yields after each unit of its work, some hundred microseconds at most,
and returns its result. What it reads must not change until it is done.
"""

from collections.abc import Generator
from typing import Generic, TypeAlias, TypeVar

Result = TypeVar("Result")
Work: TypeAlias = Generator[None, None, Result]


def finish(work: Work[Result]) -> Result:
    """Do all of it now."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: Result = done.value
            return result


class InSteps(Generic[Result]):
    """A work, and its result once it is done."""

    def __init__(self, work: Work[Result]) -> None:
        """Begin with nothing done."""
        self._work = work
        self._results: list[Result] = []

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return bool(self._results)

    @property
    def result(self) -> Result:
        """What came of it."""
        assert self._results
        return self._results[0]

    def advance(self, units: int) -> None:
        """Do so many units at most; raises what the work raises."""
        assert not self.done
        for _ in range(units):
            try:
                next(self._work)
            except StopIteration as done:
                self._results.append(done.value)
                return
