"""What happened on a node between two looks at its counters: rates, latencies, hit ratios.

Guarantees: pure arithmetic. A node that was started anew in between counts from its start.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.native.request import Operation
from kvstore.types import NodeStatistics, Stats, Status

GOOD = frozenset((Status.OK, Status.EXISTS, Status.NOT_FOUND, Status.BUFFER_TOO_SMALL))
"""Statuses that are answers; every other one is a failure of its key."""


@dataclass(frozen=True, slots=True)
class Look:
    """The counters of a node, or of several together, at one moment."""

    time_s: float
    node: NodeStatistics
    targets: tuple[Stats, ...]


@dataclass(frozen=True, slots=True)
class Rates:
    """Gauges, and rates over an interval. Latencies are those of requests."""

    connections: int
    requests_in_flight: int
    objects: int
    memory_used: int
    requests_per_s: float
    keys_per_s: float
    received_bytes_per_s: float
    sent_bytes_per_s: float
    device_bytes_per_s: float
    failures_per_s: float
    hit_ratio: float | None
    """Keys found, of all keys of gets; None: there were none."""
    memory_hit_ratio: float | None
    """Keys that the DRAM tier answered, of the keys found."""
    operations: dict[str, "OperationRates"]
    """Those that were asked for in the interval."""


@dataclass(frozen=True, slots=True)
class OperationRates:
    """One operation over an interval."""

    requests_per_s: float
    keys_per_s: float
    p50_ms: float
    p99_ms: float


def rates_between(before: Look, after: Look) -> Rates:
    """Return what happened from one look to the next."""
    seconds = max(after.time_s - before.time_s, 1e-9)
    old = before.node if not started_anew(before.node, after.node) else None
    node = after.node

    def grown(name: str) -> int:
        return int(getattr(node, name)) - (int(getattr(old, name)) if old else 0)

    def grown_each(name: str) -> list[int]:
        past = getattr(old, name) if old else [0] * len(getattr(node, name))
        return [now - then for now, then in zip(getattr(node, name), past, strict=True)]

    def grown_in_targets(name: str) -> int:
        now = sum(int(getattr(stats, name)) for stats in after.targets)
        return now - (sum(int(getattr(stats, name)) for stats in before.targets) if old else 0)

    requests, keys, bins = grown_each("requests"), grown_each("keys"), grown_each("latency")
    statuses = grown_each("key_statuses")
    hits, misses = grown_in_targets("get_hits"), grown_in_targets("get_misses")
    device = grown_in_targets("device_read_bytes") + grown_in_targets("device_write_bytes")
    width = len(bins) // len(requests)
    return Rates(
        connections=node.connections,
        requests_in_flight=node.requests_in_flight,
        objects=sum(stats.objects for stats in after.targets),
        memory_used=sum(stats.memory_used for stats in after.targets),
        requests_per_s=sum(requests) / seconds,
        keys_per_s=sum(keys) / seconds,
        received_bytes_per_s=grown("received_bytes") / seconds,
        sent_bytes_per_s=grown("sent_bytes") / seconds,
        device_bytes_per_s=device / seconds,
        failures_per_s=sum(statuses[status] for status in Status if status not in GOOD) / seconds,
        hit_ratio=ratio(hits, hits + misses),
        memory_hit_ratio=ratio(grown_in_targets("get_memory_hits"), hits),
        operations={
            operation.name.lower(): OperationRates(
                requests_per_s=requests[operation] / seconds,
                keys_per_s=keys[operation] / seconds,
                p50_ms=quantile_ms(bins[operation * width : (operation + 1) * width], 0.50),
                p99_ms=quantile_ms(bins[operation * width : (operation + 1) * width], 0.99),
            )
            for operation in Operation
            if requests[operation]
        },
    )


def started_anew(before: NodeStatistics, after: NodeStatistics) -> bool:
    """Return whether a counter went back, which only a new process's does."""
    return (
        after.connections_total < before.connections_total
        or after.received_bytes < before.received_bytes
        or after.controls < before.controls
    )


def ratio(part: int, whole: int) -> float | None:
    """Return a share; None of nothing."""
    return part / whole if whole > 0 else None


def quantile_ms(bins: Sequence[int], share: float) -> float:
    """Return about the time that *share* of all stay below, in milliseconds.

    Bin i holds times from 2^(i-1) to 2^i microseconds; within a bin they are taken as even.
    """
    wanted, below = share * sum(bins), 0
    for index, count in enumerate(bins):
        if count and below + count >= wanted:
            low = 0.0 if index == 0 else float(1 << (index - 1))
            high = float(1 << index)
            return (low + (high - low) * (wanted - below) / count) / 1000
        below += count
    return 0.0


def together(looks: Sequence[Look]) -> Look:
    """Return several nodes as one."""
    assert looks

    def summed(name: str) -> int | tuple[int, ...]:
        values = [getattr(look.node, name) for look in looks]
        if isinstance(values[0], tuple):
            return tuple(map(sum, zip(*values, strict=True)))
        return sum(map(int, values))

    node = NodeStatistics(**{name: summed(name) for name in NodeStatistics.__slots__})  # type: ignore[arg-type]
    targets = tuple(stats for look in looks for stats in look.targets)
    return Look(looks[0].time_s, node, targets)
