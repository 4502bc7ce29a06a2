"""kvstore replay, bench, check, inspect, demo, each on a small store."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from integration.commands import Shell

import kvstore
import kvstore.commands
from kvstore.commands.trace import read_trace

SAMPLE = Path(kvstore.commands.__file__).parent / "sample_trace.jsonl"
MIB = 1 << 20


def expected_hits(limit: int) -> tuple[int, int]:
    """Hits and blocks of the sample in a store that forgets nothing."""
    stored, hits, blocks = set[int](), 0, 0
    for request in read_trace(SAMPLE, limit):
        ids = request.block_ids
        hits += next((i for i, block_id in enumerate(ids) if block_id not in stored), len(ids))
        blocks += len(ids)
        stored.update(ids)
    return hits, blocks


# replay


@pytest.mark.parametrize("batch", [512, 7])
def test_replay_hits_what_a_store_without_a_limit_must_hit(
    shell: Shell, url: str, batch: int
) -> None:
    ended = shell(
        "replay", SAMPLE, url, "--limit", 100, "--block-bytes", "4K", "--batch", batch, "--json"
    )

    hits, blocks = expected_hits(100)
    found = ended.json
    assert (0, "") == (ended.code, ended.err)
    assert 1 == len(ended.out.splitlines())
    assert (100, blocks, hits) == (found["requests"], found["blocks"], found["hit_blocks"])
    assert hits / blocks == found["hit_ratio"]
    assert found["lru_hit_blocks"] == hits
    assert (blocks - hits) * 4096 == found["bytes_in"]
    assert hits * 4096 == found["bytes_out"]
    assert (0, 0, 0) == (found["verify_failures"], found["set_failures"], found["evictions"])
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert found["gb_per_s"] > 0


def test_replay_as_a_cache_keeps_the_number_of_blocks(shell: Shell, url: str) -> None:
    ended = shell(
        "replay", SAMPLE, url, "--limit", 150, "--block-bytes", 4096, "--capacity-blocks", 500,
        "--json",
    )  # fmt: skip

    found = ended.json
    assert 0 == ended.code, ended.err
    assert found["objects"] <= 500
    assert found["evictions"] > 0
    assert found["verify_failures"] == 0
    assert 0 < found["hit_blocks"] < expected_hits(150)[0]
    assert 0 < found["lru_hit_ratio"] < 1


def test_replay_shows_people_a_table(shell: Shell, url: str) -> None:
    ended = shell("replay", SAMPLE, url, "--limit", 20, "--block-bytes", 100)

    assert 0 == ended.code
    assert "hit ratio" in ended.text
    assert "{" not in ended.text


def test_replay_into_a_store_that_holds_something_says_so(shell: Shell, url: str) -> None:
    shell("replay", SAMPLE, url, "--limit", 5, "--block-bytes", 100)

    ended = shell("replay", SAMPLE, url, "--limit", 5, "--block-bytes", 100, "--json")

    assert "holds" in ended.err
    assert 1.0 == ended.json["hit_ratio"]


def test_replay_sees_values_that_are_not_its_own(shell: Shell, url: str) -> None:
    first = read_trace(SAMPLE, 1)[0].block_ids
    with kvstore.connect_sync(url) as store:
        store.set(b"block/%d" % first[0], bytes(100))

    ended = shell("replay", SAMPLE, url, "--limit", 1, "--block-bytes", 100, "--json")

    assert (1, 1) == (ended.code, ended.json["verify_failures"])
    assert "1 values came back wrong" in ended.err


def test_replay_into_a_store_that_is_full_is_an_error(shell: Shell, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store?memory=96MiB&objects_max=10"

    ended = shell("replay", SAMPLE, url, "--limit", 20, "--block-bytes", 100, "--json")

    assert 1 == ended.code
    assert ended.json["set_failures"] > 0
    assert "QUOTA" in ended.err


def test_replay_of_no_trace(shell: Shell, url: str, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "bad.jsonl").write_text("nonsense\n")

    for name, what in (
        ("empty.jsonl", "no request"),
        ("bad.jsonl", r"bad.jsonl:1: no JSON"),
        ("none.jsonl", "No such file"),
    ):
        ended = shell("replay", tmp_path / name, url)
        assert 1 == ended.code
        assert what in ended.err
        assert 1 == len(ended.err.splitlines())


@pytest.mark.parametrize("option", ["--block-bytes=0", "--block-bytes=1PB", "--batch=0"])
def test_replay_refuses_sizes_that_make_no_sense(shell: Shell, url: str, option: str) -> None:
    ended = shell("replay", SAMPLE, url, option)

    assert 2 == ended.code
    assert 1 == len(ended.err.splitlines())


# bench


@pytest.mark.parametrize(
    ("sizes", "callers"),
    [([65536, MIB], ("--threads", 2)), ([MIB], ("--clients", 3, "--threads", 2))],
    ids=["threads", "clients"],
)
def test_bench_measures_each_size_and_leaves_nothing_behind(
    shell: Shell, tmp_path: Path, sizes: list[int], callers: tuple[object, ...]
) -> None:
    url = f"file://{tmp_path}/store?memory=96MiB&capacity=1GiB"
    with kvstore.connect_sync(url) as store:
        store.set("mine", b"value")

    ended = shell(
        "bench", url, "--sizes", ",".join(map(str, sizes)), "--batch", 8, "--seconds", 0.01,
        *callers, "--json",
    )  # fmt: skip

    assert 0 == ended.code, ended.err
    rows = ended.json["results"]
    assert [
        (size, operation) for size in sizes for operation in ("set", "get", "exists", "get cold")
    ] == [(row["size"], row["operation"]) for row in rows]
    for row in rows:
        assert row["calls"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["keys_per_s"] > 0
    assert all(row["memory_hit_ratio"] > 0 for row in rows if row["operation"] == "get")
    assert {0.0} == {row["memory_hit_ratio"] for row in rows if row["operation"] == "get cold"}
    with kvstore.connect_sync(url) as store:
        assert [b"mine"] == [entry.key for entry in store.list()]


def test_bench_without_room_is_an_error(shell: Shell, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store?memory=96MiB&capacity=64MiB"

    ended = shell("bench", url, "--sizes", "1M", "--seconds", 0.01)

    assert 1 == ended.code
    assert "NO_SPACE" in ended.err


# check and inspect


@pytest.fixture
def damaged(url: str, tmp_path: Path) -> str:
    """A store of three values, one of them with a wrong byte on the device."""
    value = random.Random(3).randbytes(MIB)
    with kvstore.connect_sync(url) as store:
        store.batch_set(["good", "bad", "small"], [bytes(MIB), value, b"s" * 100])
    with (tmp_path / "store" / "slabs").open("r+b") as file:
        offset = file.read().index(value[:4096]) + 5000
        file.seek(offset)
        file.write(bytes([value[5000] ^ 1]))
    return url


def test_check_of_a_good_store(shell: Shell, url: str) -> None:
    shell("set", url, "k", stdin=bytes(MIB))

    ended = shell("check", url, "--json")

    found = ended.json
    assert (0, True, 1) == (ended.code, found["ok"], found["verified_objects"])
    assert (MIB, []) == (found["verified_bytes"], found["bad"])
    assert "damaged values" in shell("check", url).text


def test_check_names_damaged_values(shell: Shell, damaged: str) -> None:
    ended = shell("check", damaged, "--json")
    assert (1, False) == (ended.code, ended.json["ok"])
    assert [{"key": "bad", "size": MIB, "status": "CORRUPT"}] == ended.json["bad"]
    assert "kvstore: 1 of 3 values are damaged\n" == ended.err

    ended = shell("check", damaged)
    assert 1 == ended.code
    assert "bad" in ended.text
    assert "corrupt" in ended.text


def test_check_changes_nothing(shell: Shell, damaged: str, tmp_path: Path) -> None:
    names = ("superblock", "slabs", "journal-0", "journal-1", "checkpoint-0", "checkpoint-1")
    before = [(tmp_path / "store" / name).read_bytes() for name in names]

    shell("check", damaged)
    shell("inspect", damaged)

    assert before == [(tmp_path / "store" / name).read_bytes() for name in names]


def test_check_of_a_store_that_does_not_open(shell: Shell, url: str, tmp_path: Path) -> None:
    shell("set", url, "k", stdin=b"v")
    path = tmp_path / "store" / "superblock"
    path.write_bytes(b"garbage " * (path.stat().st_size // 8))

    ended = shell("check", url, "--json")

    assert 1 == ended.code
    assert "superblock" in ended.json["error"]
    assert "offset" in ended.json["error"]


def test_inspect(shell: Shell, url: str) -> None:
    shell("set", url, "k", stdin=bytes(MIB))

    found: dict[str, Any] = shell("inspect", url, "--json").json
    assert {"objects": 1, "value_size": MIB, "pinned_objects": 0} == found["objects"]
    assert [MIB] == [row["live_size"] for row in found["slabs"]]
    assert {"space", "journal", "checkpoint", "index", "memory"} <= set(found)

    text = shell("inspect", url).text
    for title in ("Objects", "Slabs", "Space", "Journal and checkpoint", "DRAM tier and device"):
        assert title in text


# demo


def test_demo_kills_a_node_and_loses_nothing(shell: Shell, tmp_path: Path) -> None:
    ended = shell("demo", "--directory", tmp_path, "--json")

    found = ended.json
    hits, blocks = expected_hits(10**6)
    assert 0 == ended.code, ended.err
    assert (hits, blocks) == (found["hit_blocks"], found["blocks"])
    assert (0, 0) == (found["verify_failures"], found["differing_keys"])
    assert blocks - hits == found["blocks_stored"] == found["blocks_found"]
    assert ([], []) == (found["probe_failures"], found["lost_keys"])
    assert 3 == found["replicas"]
    assert 0 < found["read_stall_ms"]
    assert 0 < found["write_stall_ms"]
    assert [] == list(tmp_path.iterdir())


def test_the_sample_is_small_enough_to_ship() -> None:
    assert SAMPLE.stat().st_size < 200_000
    json.loads(SAMPLE.read_text(encoding="utf-8").splitlines()[0])
