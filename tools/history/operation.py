"""One operation of a history: what was asked of which key, between when and when, and the answer.

Guarantees: `ended` is None exactly for an outcome that is unknown, so that an operation without an
end may take effect at any later time, or never. Times are microseconds on one clock. A value is its
number, which no two writes share; wrong bytes are the caller's to notice.
"""

from dataclasses import dataclass, field
from enum import StrEnum

UNCLEAR = "unclear"
"""The error of an operation that was answered, in a way that does not tell what came of it."""

GONE = "gone"
"""The error of an operation whose client was killed before the answer."""


class Kind(StrEnum):
    """What was asked."""

    SET = "set"
    ADD = "add"
    """Set if absent."""
    GET = "get"
    DELETE = "delete"
    EXISTS = "exists"

    @property
    def writing(self) -> bool:
        """Whether it may change something."""
        return self in (Kind.SET, Kind.ADD, Kind.DELETE)


class Answer(StrEnum):
    """What came of it."""

    YES = "yes"
    """Set; added; found, with the value; deleted; exists."""
    NO = "no"
    """Not added, since it exists; not found."""
    UNKNOWN = "unknown"
    """It may have taken effect, or may still."""
    FAILED = "failed"
    """It has no effect, and never will."""
    WRONG = "wrong"
    """Found, with bytes that are those of no write."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on one key."""

    client: int
    kind: Kind
    key: str
    value: int | None
    """What a SET or an ADD writes, and what a GET found."""
    called: int
    ended: int | None
    """When the answer came; None: it is unknown."""
    answer: Answer
    error: str = ""
    """Of an operation that failed, or whose outcome is unknown: which."""
    given_up: int | None = field(default=None, compare=False)
    """When the caller of one whose outcome is unknown stopped waiting, if it lived so long."""

    @property
    def failing(self) -> bool:
        """Whether its caller wanted an answer and had none."""
        unanswered = self.answer in (Answer.FAILED, Answer.UNKNOWN)
        return unanswered and self.error not in (UNCLEAR, GONE)

    def __post_init__(self) -> None:
        """Check what only a bug can break."""
        assert (self.ended is None) == (self.answer is Answer.UNKNOWN)
        assert self.ended is None or self.called <= self.ended

    def __str__(self) -> str:
        """Return it as people write it: `set 17`, `get → 12`, `delete: it was not there`."""
        written = f" {self.value}" if self.kind in (Kind.SET, Kind.ADD) else ""
        return f"{self.kind}{written}{self._said()}"

    def _said(self) -> str:
        if self.answer in (Answer.UNKNOWN, Answer.FAILED):
            return f": {self.answer} {self.error}".rstrip()
        if self.answer is Answer.WRONG:
            return " → bytes that nobody wrote"
        if self.kind is Kind.GET:
            return f" → {self.value}" if self.answer is Answer.YES else " → nothing"
        said = {
            (Kind.ADD, Answer.YES): ": added",
            (Kind.ADD, Answer.NO): ": it was there",
            (Kind.DELETE, Answer.YES): ": it was there",
            (Kind.DELETE, Answer.NO): ": it was not there",
            (Kind.EXISTS, Answer.YES): ": yes",
            (Kind.EXISTS, Answer.NO): ": no",
        }
        return said.get((self.kind, self.answer), "")
