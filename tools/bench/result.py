"""A row of the benchmark: what was measured, of whom, against which goal, and the verdict.

Guarantees: frozen values; a verdict follows from the figures alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from statistics import median
from typing import TypeAlias

from tools.bench.stats import median_ratio, ratios

OURS = "kvstore"
"""The name of the contestant that goals are about."""


class Verdict(Enum):
    """What became of a goal."""

    PASS = "pass"
    FAIL = "FAIL"
    UNKNOWN = "not measured"
    NONE = "-"


@dataclass(frozen=True, slots=True)
class Sample:
    """One contestant's figure of one round, in the unit of its row."""

    value: float
    cpu_s_per_gb: float | None = None
    """CPU time for each 10^9 bytes: of the contestant's process, over the network of both ends."""
    p50_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class RatioGoal:
    """To be at least so many times as good as another contestant."""

    at_least: float
    against: str

    def __str__(self) -> str:
        """Return what the table says."""
        return f"≥ {self.at_least:g} x"


@dataclass(frozen=True, slots=True)
class CostGoal:
    """To take at most so many times as much as another contestant."""

    at_most: float
    against: str

    def __str__(self) -> str:
        """Return what the table says."""
        return f"≤ {self.at_most:g} x"


@dataclass(frozen=True, slots=True)
class LimitGoal:
    """To be at most so much."""

    at_most: float
    unit: str

    def __str__(self) -> str:
        """Return what the table says."""
        return f"≤ {self.at_most:g} {self.unit}"


Goal: TypeAlias = RatioGoal | CostGoal | LimitGoal


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. *samples* hold a list for each contestant, a sample a round."""

    name: str
    measure: str
    unit: str
    samples: Mapping[str, Sequence[Sample]]
    goal: Goal | None = None
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why a contestant has no figure."""
    note: str = ""
    details: Mapping[str, object] = field(default_factory=dict)
    """What our store counted, for the JSON file."""

    def values(self, contestant: str) -> list[float]:
        """Return the figures of the rounds; none for a contestant that did not run."""
        return [sample.value for sample in self.samples.get(contestant, ())]

    def median(self, contestant: str) -> float | None:
        """Return the median of the rounds."""
        values = self.values(contestant)
        return median(values) if values else None

    def ratio(self, contestant: str) -> float | None:
        """Return how our figures compare with those of *contestant*: median over rounds."""
        return median_ratio(self.values(OURS), self.values(contestant))

    @property
    def verdict(self) -> Verdict:
        """Whether the goal is met; a failure of ours is a failure, a peer's is not."""
        if self.goal is None:
            return Verdict.NONE
        ours = self.median(OURS)
        if ours is None:
            return Verdict.FAIL if OURS in self.problems else Verdict.UNKNOWN
        if isinstance(self.goal, LimitGoal):
            return Verdict.PASS if ours <= self.goal.at_most else Verdict.FAIL
        ratio = self.ratio(self.goal.against)
        if ratio is None:
            return Verdict.UNKNOWN
        if isinstance(self.goal, CostGoal):
            return Verdict.PASS if ratio <= self.goal.at_most else Verdict.FAIL
        return Verdict.PASS if ratio >= self.goal.at_least else Verdict.FAIL

    def to_json(self) -> dict[str, object]:
        """Return what the JSON file holds of this row."""
        against = None if isinstance(self.goal, LimitGoal | None) else self.goal.against
        return {
            "name": self.name,
            "measure": self.measure,
            "unit": self.unit,
            "goal": None if self.goal is None else asdict(self.goal),
            "verdict": self.verdict.value,
            "ratio": None if against is None else self.ratio(against),
            "ratios": [] if against is None else ratios(self.values(OURS), self.values(against)),
            "contestants": {name: self._figures(name) for name in self.samples},
            "problems": dict(self.problems),
            "note": self.note,
            "details": dict(self.details),
        }

    def _figures(self, contestant: str) -> dict[str, object]:
        samples = self.samples[contestant]
        return {
            "median": self.median(contestant),
            "rounds": [sample.value for sample in samples],
            **{
                name: median_of_known([getattr(sample, name) for sample in samples])
                for name in ("cpu_s_per_gb", "p50_ms", "p99_ms")
            },
        }


def median_of_known(values: Sequence[float | None]) -> float | None:
    """Return the median of the values that there are."""
    known = [value for value in values if value is not None]
    return median(known) if known else None
