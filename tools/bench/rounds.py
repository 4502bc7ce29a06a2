"""Rounds: every contestant once a round, in an order that rotates.

Guarantees: round 0 warms up and is not counted; a contestant that fails is out of the remaining
rounds, with the reason kept, and stops nobody else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tools.bench.failures import ContestantError
from tools.bench.result import Sample
from tools.bench.stats import rotated

Turn = Callable[[int], Sample]
"""What a contestant does in the round of this number."""


@dataclass(slots=True)
class Outcome:
    """The samples of all contestants, and why some are missing."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def interleave(turns: Mapping[str, Turn], rounds: int, outcome: Outcome) -> None:
    """Play one warm-up round and *rounds* counted ones; samples and problems go to *outcome*."""
    for round_index in range(rounds + 1):
        for name in rotated(list(turns), round_index):
            if name in outcome.problems:
                continue
            try:
                sample = turns[name](round_index)
            except ContestantError as error:
                outcome.problems[name] = str(error)
                continue
            if round_index > 0:
                outcome.samples.setdefault(name, []).append(sample)
