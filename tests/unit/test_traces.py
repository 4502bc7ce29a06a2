"""Traces are read in the order of time, and what is no trace is refused by file and line."""

import gzip
import json
from pathlib import Path

import pytest

import kvstore.commands
from kvstore.commands.trace import TraceError, TraceRequest, read_trace
from tools.traces import REQUESTS, SEED, trace_lines

SAMPLE = Path(kvstore.commands.__file__).parent / "sample_trace.jsonl"
LINE = '{"timestamp": 5, "input_length": 9, "output_length": 1, "hash_ids": [1, 2]}\n'


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_sample_is_what_the_generator_writes() -> None:
    assert SAMPLE.read_text(encoding="utf-8") == "".join(trace_lines(SEED, REQUESTS))


def test_another_seed_is_another_trace() -> None:
    assert list(trace_lines(1, 20)) != list(trace_lines(2, 20))


def test_the_sample_has_the_shape_of_a_trace() -> None:
    requests = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]

    assert [*map(int, range(REQUESTS))] == [i for i, _ in enumerate(requests)]
    times = [request["timestamp"] for request in requests]
    assert sorted(times) == times
    for request in requests:
        blocks = len(request["hash_ids"])
        assert (blocks - 1) * 512 < request["input_length"] <= blocks * 512
        assert request["output_length"] > 0
        assert len(set(request["hash_ids"])) == blocks


def test_requests_are_read_in_the_order_of_time(tmp_path: Path) -> None:
    later = LINE.replace("5", "70").replace("[1, 2]", "[3]")
    path = written(tmp_path / "t.jsonl", later + "\n" + LINE)

    assert [TraceRequest(5, (1, 2)), TraceRequest(70, (3,))] == read_trace(path)
    assert [TraceRequest(5, (1, 2))] == read_trace(path, limit=1)


def test_a_gzipped_trace(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress(LINE.encode()))

    assert [TraceRequest(5, (1, 2))] == read_trace(path)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "no JSON"),
        ("[]", "JSON object"),
        ('{"hash_ids": []}', "timestamp"),
        ('{"timestamp": "now", "hash_ids": []}', "timestamp"),
        ('{"timestamp": -1, "hash_ids": []}', "timestamp"),
        ('{"timestamp": NaN, "hash_ids": []}', "timestamp"),
        ('{"timestamp": 1}', "hash_ids"),
        ('{"timestamp": 1, "hash_ids": [1, -2]}', "hash_ids"),
        ('{"timestamp": 1, "hash_ids": [true]}', "hash_ids"),
        ('{"timestamp": 1, "hash_ids": ["a"]}', "hash_ids"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, what: str) -> None:
    path = written(tmp_path / "t.jsonl", LINE + line + "\n")

    with pytest.raises(TraceError, match=rf"t\.jsonl:2: .*{what}"):
        read_trace(path)


def test_a_cut_gzip_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress(LINE.encode() * 100)[:-12])

    with pytest.raises(TraceError, match=r"t\.jsonl\.gz: no whole gzip file"):
        read_trace(path)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xff\xfe\n")

    with pytest.raises(TraceError, match=r"t\.jsonl: no text"):
        read_trace(path)
