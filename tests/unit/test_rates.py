"""The arithmetic of top: rates, quantiles from bins, ratios, nodes that came back."""

import pytest
from unit.statistics import node_statistics, stats

from kvstore.commands.rates import Look, quantile_ms, rates_between, together
from kvstore.native.request import Operation
from kvstore.types import Status

GET, SET = Operation.GET, Operation.SET
NOTHING = Look(10.0, node_statistics(), (stats(),))


def test_rates_are_differences_over_seconds() -> None:
    before = Look(
        10.0,
        node_statistics(received_bytes=100, requests={GET: 5}, keys={GET: 50}),
        (stats(get_hits=10, get_misses=10, get_memory_hits=10, device_read_bytes=5),),
    )
    after = Look(
        12.0,
        node_statistics(
            received_bytes=300,
            connections=4,
            requests={GET: 15, SET: 2},
            keys={GET: 150, SET: 4},
            key_statuses={Status.TIMEOUT: 6, Status.NOT_FOUND: 9},
        ),
        (stats(get_hits=40, get_misses=20, get_memory_hits=25, device_read_bytes=25, objects=7),),
    )

    rates = rates_between(before, after)

    assert (4, 7) == (rates.connections, rates.objects)
    assert (100.0, 6.0, 52.0) == (
        rates.received_bytes_per_s,
        rates.requests_per_s,
        rates.keys_per_s,
    )
    assert (10.0, 3.0) == (rates.device_bytes_per_s, rates.failures_per_s)
    assert (0.75, 0.5) == (rates.hit_ratio, rates.memory_hit_ratio)
    assert {"get", "set"} == rates.operations.keys()
    assert (5.0, 50.0) == (
        rates.operations["get"].requests_per_s,
        rates.operations["get"].keys_per_s,
    )


def test_nothing_happened() -> None:
    rates = rates_between(NOTHING, Look(11.0, node_statistics(), (stats(),)))

    assert (0.0, None, None, {}) == (
        rates.keys_per_s,
        rates.hit_ratio,
        rates.memory_hit_ratio,
        rates.operations,
    )


def test_a_node_that_was_started_anew_counts_from_its_start() -> None:
    before = Look(10.0, node_statistics(received_bytes=500, keys={GET: 900}), (stats(get_hits=9),))
    after = Look(11.0, node_statistics(received_bytes=20, keys={GET: 2}), (stats(get_hits=1),))

    rates = rates_between(before, after)

    assert (20.0, 2.0, 1.0) == (rates.received_bytes_per_s, rates.keys_per_s, rates.hit_ratio)


@pytest.mark.parametrize(
    ("bins", "share", "expected_ms"),
    [
        ([0] * 32, 0.5, 0.0),
        ([4, 0, 0], 0.5, 0.0005),
        ([0, 0, 0, 100], 0.5, 0.006),
        ([0, 0, 0, 100], 0.99, 0.00796),
        ([50, 0, 0, 50], 0.5, 0.001),
        ([90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10], 0.95, 0.768),
    ],
)
def test_quantiles_come_from_bins(bins: list[int], share: float, expected_ms: float) -> None:
    assert pytest.approx(expected_ms) == quantile_ms(bins, share)


def test_latencies_are_those_of_the_interval() -> None:
    before = Look(1.0, node_statistics(requests={GET: 9}, latency={GET: {20: 9}}), (stats(),))
    after = Look(
        2.0, node_statistics(requests={GET: 19}, latency={GET: {20: 9, 3: 10}}), (stats(),)
    )

    found = rates_between(before, after).operations["get"]

    assert pytest.approx(0.006) == found.p50_ms
    assert found.p99_ms < 0.008


def test_nodes_add_up() -> None:
    one = Look(1.0, node_statistics(connections=2, keys={GET: 3}), (stats(objects=5),))
    other = Look(1.0, node_statistics(connections=4, keys={GET: 5, SET: 1}), (stats(objects=6),))

    both = together([one, other])

    assert 6 == both.node.connections
    assert (8, 1) == (both.node.keys[GET], both.node.keys[SET])
    assert [5, 6] == [found.objects for found in both.targets]
