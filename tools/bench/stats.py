"""What is made of the figures of several rounds. Pure functions over numbers."""

from collections.abc import Sequence
from statistics import median


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest of *values* that at least *share* of them do not exceed."""
    if not values:
        raise ValueError("no values")
    if not 0 <= share <= 1:
        raise ValueError(f"share: {share} is not between 0 and 1")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Divide round by round: neighbours in time suffer from the same noise.

    A contestant that failed midway has fewer rounds; only rounds that both have count.
    """
    return [a / b for a, b in zip(ours, theirs, strict=False) if b > 0]


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Return the median of the ratios of each round, or None where there is none."""
    found = ratios(ours, theirs)
    return median(found) if found else None


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the least-squares slope of y over x."""
    count = len(points)
    if count < 2:
        raise ValueError("a slope takes two points")
    x_mean = sum(x for x, _ in points) / count
    y_mean = sum(y for _, y in points) / count
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    if spread == 0:
        raise ValueError("all points have the same x")
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / spread


def rotated(names: Sequence[str], round_index: int) -> list[str]:
    """Return the order of a round: each name is first in turn."""
    if not names:
        return []
    first = round_index % len(names)
    return [*names[first:], *names[:first]]
