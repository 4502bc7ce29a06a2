"""Metrics render the counters, and a scraper can read them."""

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from unit.chained_nodes import state
from unit.statistics import node_statistics, stats

from kvstore.native.request import Operation
from kvstore.node.metrics import (
    NODE_COUNTERS,
    NODE_GAUGES,
    TARGET_COUNTERS,
    TARGET_GAUGES,
    NodeCollector,
    cumulative,
)
from kvstore.types import ChainState, NodeEventKind, NodeStatistics, Stats, Status

GET = Operation.GET


class CountedNode:
    """A node of one target that has counted."""

    def __init__(self, statistics: NodeStatistics, found: Stats) -> None:
        self._statistics = statistics
        self._stats = found

    def statistics(self) -> NodeStatistics:
        return self._statistics

    def target_statistics(self, target: int) -> Stats:
        return replace(self._stats, objects=target)

    def chain_states(self) -> list[ChainState]:
        return [state(3, chain_version=7, updates_in_flight=2, resync_sent_bytes=4096)]

    def describe(self) -> str:
        return "reactor=epoll reactors=2 checksum=generic"


def samples(statistics: NodeStatistics, found: Stats) -> dict[tuple[str, str], float]:
    """Return the value of each sample by its name and its labels."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(CountedNode(statistics, found), 3, (7, 8), "1.2.3"))
    text = generate_latest(registry).decode()
    return {
        (sample.name, ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_of_the_node() -> None:
    statistics = node_statistics(
        received_bytes=1000,
        connections=5,
        requests={GET: 3},
        keys={GET: 48},
        key_statuses={Status.NOT_FOUND: 9},
        events={NodeEventKind.CUT_STALLED: 2, NodeEventKind.REFUSED: 4},
    )

    found = samples(statistics, stats())

    assert 1000 == found["kvstore_received_bytes_total", ""]
    assert 5 == found["kvstore_connections", ""]
    assert 3 == found["kvstore_requests_total", "operation=get"]
    assert 48 == found["kvstore_keys_total", "operation=get"]
    assert 0 == found["kvstore_keys_total", "operation=set"]
    assert 9 == found["kvstore_key_results_total", "status=not_found"]
    assert 2 == found["kvstore_connections_cut_total", "reason=stalled"]
    assert 4 == found["kvstore_connections_refused_total", ""]
    labels = "checksum=generic,node=3,reactor=epoll,reactors=2,version=1.2.3"
    assert 1 == found["kvstore_build_info", labels]


def test_counters_of_targets() -> None:
    found = samples(node_statistics(), stats(device_flushes=4, offline=5))

    assert 4 == found["kvstore_target_device_flushes_total", "target=8"]
    assert (7, 8) == (
        found["kvstore_target_objects", "target=7"],
        found["kvstore_target_objects", "target=8"],
    )
    assert 1 == found["kvstore_target_offline", "target=7"]


def test_latencies_are_a_histogram() -> None:
    statistics = node_statistics(
        latency={GET: {0: 1, 3: 2, 31: 4}}, latency_sum_ns={GET: 2_500_000_000}
    )

    found = samples(statistics, stats())

    name = "kvstore_request_duration_seconds"
    assert 7 == found[f"{name}_count", "operation=get"]
    assert 2.5 == found[f"{name}_sum", "operation=get"]
    below = {labels: value for (_, labels), value in found.items() if labels.startswith("le=")}
    assert [1.0, 1.0, 3.0, 3.0, 7.0] == [
        below[f"le={bound},operation=get"]
        for bound in ("1e-06", "4e-06", "8e-06", "1.048576", "+Inf")
    ]


def test_bins_add_up() -> None:
    bins = cumulative((1, 0, 2, *[0] * 28, 4))

    assert [("1e-06", 1), ("2e-06", 1), ("4e-06", 3)] == bins[:3]
    assert [("16.777216", 3), ("+Inf", 7)] == bins[-2:]


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        (NODE_GAUGES, NodeStatistics),
        (NODE_COUNTERS, NodeStatistics),
        (TARGET_GAUGES, Stats),
        (TARGET_COUNTERS, Stats),
    ],
)
def test_every_metric_reads_a_counter_that_there_is(
    table: dict[str, tuple[str, str]], kind: type[NodeStatistics] | type[Stats]
) -> None:
    for field, text in table.values():
        assert field in kind.__slots__
        assert text.endswith(".")


def test_places_in_chains_are_there() -> None:
    found = samples(node_statistics(), stats())

    assert 7 == found["kvstore_target_chain_version", "target=3"]
    assert 3 == found["kvstore_target_local_state", "target=3"]
    assert 2 == found["kvstore_target_updates_in_flight", "target=3"]
    assert 4096 == found["kvstore_target_resync_sent_bytes", "target=3"]
