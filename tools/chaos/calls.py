"""One ask as a call of the public API, and its results as answers of a history.

What a result does not tell for sure counts as unknown: a failed write may have happened, a False of
a batch may stand for a failure. So a history never claims more than the API promises.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import kvstore
from kvstore import SetStatus
from tools.chaos.values import ValueCoder
from tools.chaos.work import Ask
from tools.history.operation import UNCLEAR, Answer, Kind

WITHOUT_EFFECT = (
    kvstore.NoSpaceError,
    kvstore.QuotaError,
    kvstore.TooLargeError,
    kvstore.DeniedError,
)
"""What raises so has changed nothing."""
SET_ANSWERS = {
    SetStatus.OK: Answer.YES,
    SetStatus.EXISTS: Answer.NO,
    SetStatus.NO_SPACE: Answer.FAILED,
    SetStatus.QUOTA: Answer.FAILED,
    SetStatus.TOO_LARGE: Answer.FAILED,
    SetStatus.DENIED: Answer.FAILED,
}
ABSENT = -1


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of an ask, for each key."""

    answers: Sequence[Answer]
    values: Sequence[int | None] = ()
    """What a GET found."""
    error: str = ""


Reader = Callable[[Any], Answers]
"""From what a call returns to the answers."""


class Calls:
    """Turns asks into calls; knows the buffers of one task, which makes one call at a time."""

    def __init__(self, coder: ValueCoder, count_max: int, size_max: int) -> None:
        """Make the buffers for batches of reads."""
        self._coder = coder
        self._buffers = [bytearray(size_max) for _ in range(count_max)]

    def of(self, ask: Ask, store: Any) -> tuple[Any, Reader]:
        """Call the store; returns what the call returned, awaitable or not, and how to read it."""
        return self._single(ask, store) if ask.single else self._batch(ask, store)

    def _single(self, ask: Ask, store: Any) -> tuple[Any, Reader]:
        (key,) = ask.keys
        if ask.kind in (Kind.SET, Kind.ADD):
            value = self._coder.value(ask.numbers[0], ask.sizes[0])
            return store.set(key, value, if_absent=ask.kind is Kind.ADD), read_set
        if ask.kind is Kind.GET:
            return store.get(key), self._read_get
        call = store.delete if ask.kind is Kind.DELETE else store.exists
        return call(key), read_truth

    def _batch(self, ask: Ask, store: Any) -> tuple[Any, Reader]:
        if ask.kind in (Kind.SET, Kind.ADD):
            values = [self._coder.value(*each) for each in zip(ask.numbers, ask.sizes, strict=True)]
            add = ask.kind is Kind.ADD
            return store.batch_set(ask.keys, values, if_absent=add), read_batch_set
        if ask.kind is Kind.GET:
            buffers = self._buffers[: len(ask.keys)]
            return store.batch_get_into(ask.keys, buffers), self._read_batch_get
        if ask.kind is Kind.DELETE:
            return store.batch_delete(ask.keys), read_batch_truth
        return store.batch_exists(ask.keys), read_batch_truth

    def _read_get(self, value: bytes | None) -> Answers:
        if value is None:
            return Answers([Answer.NO], [None])
        number = self._coder.number(value)
        return Answers([Answer.WRONG if number is None else Answer.YES], [number])

    def _read_batch_get(self, sizes: Sequence[int]) -> Answers:
        answers, values = [], []
        for buffer, size in zip(self._buffers, sizes, strict=False):
            number = None
            if size == ABSENT:
                answers.append(Answer.NO)
            elif size < 0:
                answers.append(Answer.FAILED)
            else:
                number = self._coder.number(memoryview(buffer)[:size])
                answers.append(Answer.WRONG if number is None else Answer.YES)
            values.append(number)
        return Answers(answers, values, "unreadable" if Answer.FAILED in answers else "")


def read_set(status: SetStatus) -> Answers:
    """Return the answer of a single set."""
    return Answers([SET_ANSWERS[status]])


def read_truth(found: bool) -> Answers:
    """Return the answer of a single delete or exists."""
    return Answers([Answer.YES if found else Answer.NO])


def read_batch_set(statuses: Sequence[SetStatus]) -> Answers:
    """Return the answers of a batch of sets."""
    answers = [SET_ANSWERS.get(status, Answer.UNKNOWN) for status in statuses]
    errors = {status.name for status in statuses if status not in (SetStatus.OK, SetStatus.EXISTS)}
    return Answers(answers, error=",".join(sorted(errors)))


def read_batch_truth(found: Sequence[bool]) -> Answers:
    """Return the answers of a batch of deletes or exists, where False may stand for a failure."""
    return Answers([Answer.YES if each else Answer.UNKNOWN for each in found], error=UNCLEAR)


def failed(ask: Ask, error: kvstore.KVStoreError) -> Answers:
    """Return the answers of a call that raised."""
    certain = isinstance(error, WITHOUT_EFFECT) or not ask.kind.writing
    answer = Answer.FAILED if certain else Answer.UNKNOWN
    values = [None] * len(ask.keys) if ask.kind is Kind.GET else ()
    return Answers([answer] * len(ask.keys), values, type(error).__name__)
