"""Statistics for tests: zeros, but for what a test names."""

from collections.abc import Mapping
from dataclasses import fields

from kvstore.native.request import Operation
from kvstore.types import NodeEventKind, NodeStatistics, Stats, Status

BIN_COUNT = 32
WIDTHS = {
    "requests": len(Operation) + 1,
    "keys": len(Operation) + 1,
    "latency_sum_ns": len(Operation) + 1,
    "key_statuses": len(Status),
    "events": len(NodeEventKind) + 1,
}


def node_statistics(
    *, latency: Mapping[int, Mapping[int, int]] | None = None, **named: int | Mapping[int, int]
) -> NodeStatistics:
    """Return statistics; what comes by operation, status or kind is a dict."""
    values: dict[str, int | tuple[int, ...]] = {}
    for field in fields(NodeStatistics):
        given = named.get(field.name, 0)
        if field.name in WIDTHS:
            by_index = given if isinstance(given, Mapping) else {}
            values[field.name] = tuple(by_index.get(i, 0) for i in range(WIDTHS[field.name]))
        elif isinstance(given, int):
            values[field.name] = given
    bins = latency or {}
    values["latency"] = tuple(
        bins.get(operation, {}).get(index, 0)
        for operation in range(WIDTHS["requests"])
        for index in range(BIN_COUNT)
    )
    return NodeStatistics(**values)  # type: ignore[arg-type]


def stats(**named: int) -> Stats:
    """Return the statistics of a target."""
    names = [field.name for field in fields(Stats) if field.name != "description"]
    return Stats(description="", **{name: named.get(name, 0) for name in names})
