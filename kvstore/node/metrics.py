"""The counters of the C core as Prometheus metrics, read when they are scraped.

Names follow the conventions of Prometheus: base units, _total for counters, labels for differences.
Metrics of the node begin with kvstore_, those of one of its targets with kvstore_target_.
"""

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from kvstore.native.request import Operation
from kvstore.types import ChainState, NodeEventKind, NodeStatistics, Stats, Status

LATENCY_BIN_LAST = 24
"""The last bin with a bound of its own, 16.8 s; whatever took longer is counted together."""

NODE_GAUGES = {
    "connections": ("connections", "Connections that are open."),
    "requests_in_flight": ("requests_in_flight", "Requests that are not answered yet."),
    "requests_memory_bytes": ("request_memory", "Memory of requests and replies under way."),
    "lent_memory_bytes": ("lent_memory", "DRAM tier frames that replies are being sent from."),
}
NODE_COUNTERS = {
    "connections_accepted": ("connections_total", "Connections accepted."),
    "received_bytes": ("received_bytes", "Bytes received from clients."),
    "sent_bytes": ("sent_bytes", "Bytes sent to clients."),
    "controls": ("controls", "Control requests answered."),
    "updates_repeated": (
        "updates_repeated",
        "Repeated updates answered from their channel without being applied again.",
    ),
    "events_dropped": ("events_dropped", "Events that were dropped before they were logged."),
}
CUTS = {
    NodeEventKind.CUT_STALLED: "stalled",
    NodeEventKind.CUT_IDLE: "idle",
    NodeEventKind.CUT_PROTOCOL: "protocol",
    NodeEventKind.CUT_RESET: "reset",
}
TARGET_GAUGES = {
    "objects": ("objects", "Live objects."),
    "value_bytes": ("value_size", "Bytes of live values."),
    "pinned_objects": ("pinned_objects", "Objects that are pinned."),
    "capacity_bytes": ("capacity", "Bytes of slabs there may be; 0: no limit."),
    "used_bytes": ("space_used", "Bytes of extents in use."),
    "free_bytes": ("space_free", "Bytes of extents that are free."),
    "quarantined_bytes": ("space_quarantined", "Bytes of extents that wait for their readers."),
    "slabs": ("slabs", "Slabs."),
    "slabs_free": ("slabs_free", "Slabs that belong to no slab class."),
    "index_bytes": ("index_size", "Bytes of the index in memory."),
    "memory_capacity_bytes": ("memory_capacity", "Bytes of the DRAM tier."),
    "memory_used_bytes": ("memory_used", "Bytes of the DRAM tier in use."),
    "memory_objects": ("memory_objects", "Values in the DRAM tier."),
    "journal_bytes": ("journal_size", "Bytes of the journal."),
    "operations_in_flight": ("in_flight", "Operations that wait for the device."),
}
TARGET_COUNTERS = {
    "get_hits": ("get_hits", "Gets that found their key."),
    "get_misses": ("get_misses", "Gets that found no such key."),
    "get_memory_hits": ("get_memory_hits", "Gets that the DRAM tier answered."),
    "sets": ("sets", "Values stored."),
    "deletes": ("deletes", "Objects deleted."),
    "read_bytes": ("bytes_read", "Bytes of values read by clients."),
    "written_bytes": ("bytes_written", "Bytes of values written by clients."),
    "device_reads": ("device_reads", "Reads of the device."),
    "device_writes": ("device_writes", "Writes to the device."),
    "device_flushes": ("device_flushes", "Flushes of the device."),
    "device_read_bytes": ("device_read_bytes", "Bytes read from the device."),
    "device_written_bytes": ("device_write_bytes", "Bytes written to the device."),
    "journal_groups": ("journal_groups", "Groups of records written to the journal."),
    "journal_records": ("journal_records", "Records written to the journal."),
    "checkpoints": ("checkpoints", "Checkpoints written."),
    "evictions": ("evictions", "Objects evicted."),
    "expirations": ("expirations", "Objects that expired."),
    "compactions": ("compactions", "Slabs compacted."),
    "corrupt_values": ("corrupt_values", "Values that did not match their checksum."),
    "scrubbed_values": ("scrubbed_values", "Values checked in the background."),
    "scrubbed_bytes": ("scrubbed_bytes", "Bytes checked in the background."),
}


CHAIN_GAUGES = {
    "chain_version": ("chain_version", "Version of its chain that it goes by; 0: in no chain."),
    "local_state": ("local", "1 offline, 2 online, 3 up to date with its chain."),
    "updates_in_flight": ("updates_in_flight", "Updates that have not ended here."),
    "resyncing": ("resyncing", "1 while it brings its successor up to date, else 0."),
    "resync_compared_objects": ("resync_compared", "Objects compared in its last resync."),
    "resync_sent_objects": ("resync_sent", "Objects sent in its last resync."),
    "resync_sent_bytes": ("resync_sent_bytes", "Bytes sent in its last resync."),
}


class Counted(Protocol):
    """A node whose counters can be read."""

    def statistics(self) -> NodeStatistics:
        """Return those of the node."""

    def target_statistics(self, target: int) -> Stats:
        """Return those of a target."""

    def chain_states(self) -> list[ChainState]:
        """Return how each target is in its chain."""

    def describe(self) -> str:
        """Return which code runs, as name=value pairs."""


class NodeCollector(Collector):
    """Reads a node at each scrape."""

    def __init__(self, node: Counted, node_id: int, targets: tuple[int, ...], release: str) -> None:
        """Read these targets of *node*."""
        self._release = release
        self._node = node
        self._node_id = node_id
        self._targets = targets

    def describe(self) -> list[Metric]:
        """Name nothing beforehand: a node is not read for being registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        statistics = self._node.statistics()
        yield self._build_info()
        for name, (field, text) in NODE_GAUGES.items():
            yield GaugeMetricFamily(f"kvstore_{name}", text, getattr(statistics, field))
        for name, (field, text) in NODE_COUNTERS.items():
            yield CounterMetricFamily(f"kvstore_{name}", text, getattr(statistics, field))
        yield from by_operation(statistics)
        yield key_results(statistics)
        yield from refusals_and_cuts(statistics)
        yield from self._target_metrics()
        yield from chain_metrics(self._node.chain_states())

    def _build_info(self) -> Metric:
        pairs = dict(pair.partition("=")[::2] for pair in self._node.describe().split())
        labels = {"version": self._release, "node": str(self._node_id), **pairs}
        found = GaugeMetricFamily(
            "kvstore_build_info", "Release and code that runs.", labels=list(labels)
        )
        found.add_metric(list(labels.values()), 1)
        return found

    def _target_metrics(self) -> Iterator[Metric]:
        stats = {str(target): self._node.target_statistics(target) for target in self._targets}
        for name, (field, text) in TARGET_GAUGES.items():
            gauge = GaugeMetricFamily(f"kvstore_target_{name}", text, labels=["target"])
            for target, found in stats.items():
                gauge.add_metric([target], getattr(found, field))
            yield gauge
        for name, (field, text) in TARGET_COUNTERS.items():
            counter = CounterMetricFamily(f"kvstore_target_{name}", text, labels=["target"])
            for target, found in stats.items():
                counter.add_metric([target], getattr(found, field))
            yield counter
        offline = GaugeMetricFamily(
            "kvstore_target_offline", "1 after a device failure, else 0.", labels=["target"]
        )
        for target, found in stats.items():
            offline.add_metric([target], int(found.offline != 0))
        yield offline


def chain_metrics(states: list[ChainState]) -> Iterator[Metric]:
    """Yield how targets are in their chains."""
    for name, (field, text) in CHAIN_GAUGES.items():
        gauge = GaugeMetricFamily(f"kvstore_target_{name}", text, labels=["target"])
        for state in states:
            gauge.add_metric([str(state.target)], int(getattr(state, field)))
        yield gauge


def by_operation(statistics: NodeStatistics) -> Iterator[Metric]:
    """Yield requests, keys and latencies."""
    requests = CounterMetricFamily("kvstore_requests", "Requests.", labels=["operation"])
    keys = CounterMetricFamily("kvstore_keys", "Keys of requests.", labels=["operation"])
    latency = HistogramMetricFamily(
        "kvstore_request_duration_seconds",
        "From the last byte of a request to the last byte of its reply given to the socket.",
        labels=["operation"],
    )
    for operation in Operation:
        if operation is Operation.FLUSH:  # comes as a control request
            continue
        label = [operation.name.lower()]
        requests.add_metric(label, statistics.requests[operation])
        keys.add_metric(label, statistics.keys[operation])
        bins = cumulative(statistics.latency_of(operation))
        latency.add_metric(label, bins, statistics.latency_sum_ns[operation] / 1e9)
    yield requests
    yield keys
    yield latency


def cumulative(counts: tuple[int, ...]) -> list[tuple[str, float]]:
    """Return (bound in seconds, how many were below it), the last bound being infinite."""
    bins: list[tuple[str, float]] = []
    below = 0
    for index, count in enumerate(counts):
        below += count
        if index <= LATENCY_BIN_LAST:
            bins.append((repr((1 << index) / 1e6), below))
    return [*bins, ("+Inf", below)]


def key_results(statistics: NodeStatistics) -> Metric:
    """Return what keys were answered with."""
    found = CounterMetricFamily("kvstore_key_results", "Keys answered.", labels=["status"])
    for status in Status:
        found.add_metric([status.name.lower()], statistics.key_statuses[status])
    return found


def refusals_and_cuts(statistics: NodeStatistics) -> Iterator[Metric]:
    """Yield why connections did not begin, or ended other than by their client's wish."""
    events = statistics.events
    yield CounterMetricFamily(
        "kvstore_connections_refused",
        "Connections refused: a wrong secret, an unknown version, too many.",
        events[NodeEventKind.REFUSED],
    )
    cuts = CounterMetricFamily(
        "kvstore_connections_cut", "Connections that the node cut.", labels=["reason"]
    )
    for kind, reason in CUTS.items():
        cuts.add_metric([reason], events[kind])
    yield cuts
