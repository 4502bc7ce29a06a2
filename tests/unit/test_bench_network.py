"""The network rows' figures: what is made of rounds, of crowds, and of what nodes wrote down."""

import json
import math
from pathlib import Path

import pytest

from tools.bench.contestants.crowd_batches import (
    BATCH_SIZE,
    MIX,
    PATTERN_SIZE,
    keys_of,
    value_of,
)
from tools.bench.failures import ContestantError
from tools.bench.nodes import last_line, written_down
from tools.bench.result import Sample
from tools.bench.rounds import Outcome
from tools.bench.rows.ends import restated
from tools.bench.rows.many_clients import Run, lag, tail
from tools.bench.rows.node_memory import allowed
from tools.bench.rows.wire import key_cpu_us, keys_k, p50_us
from tools.bench.rows.wire_peers import fastest


def test_keys_and_their_cost_follow_from_bytes() -> None:
    sample = Sample(value=0.4096, cpu_s_per_gb=0.5, p50_ms=0.02)

    assert 100.0 == pytest.approx(keys_k(sample, 4096))
    assert 2.048 == pytest.approx(key_cpu_us(sample, 4096))
    assert 20.0 == pytest.approx(p50_us(sample))


def test_another_figure_of_the_same_rounds_leaves_out_what_was_not_measured() -> None:
    outcome = Outcome({"kvstore": [Sample(1, 0.5), Sample(2)]}, {"peer": "not available"})

    found = restated(outcome, lambda sample: sample.cpu_s_per_gb)

    assert [0.5] == [sample.value for sample in found.samples["kvstore"]]
    assert {"peer": "not available"} == found.problems


def test_a_crowd_adds_up() -> None:
    run = Run()
    run.add({"amounts": [10**9, 10**9], "latencies_ms": [1.0, 3.0], "cpu_s": 1.0})
    run.add({"amounts": [4 * 10**9], "latencies_ms": [2.0], "cpu_s": 2.0})

    sample = run.sample(2.0)

    assert 3.0 == sample.value
    assert 0.5 == sample.cpu_s_per_gb
    assert 2.0 == sample.p50_ms


def test_a_starved_client_shows() -> None:
    assert 1.5 == lag(Run(amounts=[2.0, 3.0, 4.0]))
    assert math.inf == lag(Run(amounts=[0.0, 3.0, 4.0]))
    assert 10.0 == tail(Run(latencies_ms=[1.0] * 98 + [10.0] * 2))


def test_a_crowd_that_got_nothing_is_a_failure() -> None:
    with pytest.raises(ContestantError, match="no batch"):
        Run(amounts=[0.0]).sample(1.0)


def test_values_of_a_crowd_follow_from_their_numbers() -> None:
    pattern = memoryview(bytes(range(256)) * (PATTERN_SIZE // 256))

    assert sum(MIX) == BATCH_SIZE
    assert all(size == len(value_of(pattern, 10**6, size)) for size in MIX)
    assert value_of(pattern, 1, 4096) != value_of(pattern, 2, 4096)[:4095]
    assert len(MIX) * 2 == len({*keys_of(0), *keys_of(1)})


def test_the_fastest_peer_is_neither_this_store_nor_the_ideal() -> None:
    samples = {
        "kvstore": [Sample(9.0)],
        "ideal TCP": [Sample(8.0)],
        "redis-py": [Sample(1.0), Sample(1.0), Sample(7.0)],
        "mooncake": [Sample(2.0)],
    }

    assert "mooncake" == fastest(Outcome(samples))
    assert "any peer" == fastest(Outcome({"kvstore": [Sample(1.0)]}))


def test_a_node_may_take_memory_for_objects_and_connections() -> None:
    assert (64 << 20) + 1000 * (64 + 32) + 256 * (64 << 10) == allowed(1000, 256)


def test_nodes_are_read_from_what_was_written_down(tmp_path: Path) -> None:
    node = {"node": 1, "pid": 12, "address": "127.0.0.1:4711", "metrics": "127.0.0.1:1"}
    (tmp_path / "cluster.json").write_text(json.dumps({"url": "kv://", "nodes": [node]}))

    assert [(12, 4711)] == written_down(tmp_path)
    assert [] == written_down(tmp_path / "nowhere")


def test_the_url_is_on_the_last_line() -> None:
    assert '{"url": "x"}' == last_line('starting\n{"url": "x"}\n\n')
    assert "null" == last_line("")
