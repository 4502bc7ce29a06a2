"""How long keys could not be read or written around an event. Pure functions over times.

A stall is the time from the end of a key's last successful request to the end of its next one, of
the same kind: it has every request in it that failed meanwhile, and the pause between two requests.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from tools.bench.stats import quantile

Call = tuple[float, float]
"""When a request was called, and when it succeeded, in seconds."""
RARE = 0.999
MS = 1e3


def longest_stall_ms(calls: Iterable[Sequence[Call]], begin: float, end: float) -> float:
    """Return the longest stall of any key that is over after *begin*; *calls* are by key.

    A key that never succeeded again is stalled until *end*, one that never succeeded from *begin*.
    """
    found = 0.0
    for of_key in calls:
        ends = [ended for _, ended in of_key] or [begin]
        ends.append(max([end, *ends]))
        found = max(
            [found, *(after - before for before, after in pairwise(ends) if after >= begin)]
        )
    return found * MS


def latencies_ms(calls: Iterable[Sequence[Call]], begin: float, end: float) -> list[float]:
    """Return how long requests took that were called from *begin* on, and before *end*."""
    return [
        (ended - called) * MS
        for of_key in calls
        for called, ended in of_key
        if begin <= called < end
    ]


def longest_of_windows(
    calls: Sequence[Sequence[Call]], begin: float, end: float, length: float
) -> list[float]:
    """Return the longest request of each window of this length, backwards from *end*."""
    found: list[float] = []
    while end - length >= begin:
        found.append(max(latencies_ms(calls, end - length, end), default=0.0))
        end -= length
    return found


def around(
    calls: Sequence[Sequence[Call]], start_at: float, event_at: float, end_at: float
) -> Mapping[str, float | list[float]]:
    """Return what requests of one kind took before the event, and after it."""
    before = latencies_ms(calls, start_at, event_at)
    after = latencies_ms(calls, event_at, end_at)
    waiting = [
        (ended - called) * MS for of_key in calls for called, ended in of_key if ended >= event_at
    ]
    answered = [
        (ended - called) * MS for of_key in calls for called, ended in of_key if ended < event_at
    ]
    return {
        "count": len(before) + len(after),
        "stall_ms": longest_stall_ms(calls, event_at, end_at),
        "calm_stall_ms": longest_stall_ms(
            [[call for call in of_key if call[1] < event_at] for of_key in calls],
            start_at,
            start_at,
        ),
        "longest_ms": max(waiting, default=0.0),
        "before_longest_ms": max(answered, default=0.0),
        "before_p50_ms": quantile(before or [0.0], 0.5),
        "before_rare_ms": quantile(before or [0.0], RARE),
        "after_rare_ms": quantile(after or [0.0], RARE),
        "windows_ms": longest_of_windows(calls, start_at, event_at, end_at - event_at),
    }
