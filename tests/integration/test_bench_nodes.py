"""Nodes of the benchmark end, whatever happens: here a command of two lines stands for kvstore."""

from pathlib import Path

import pytest

from tools.bench import nodes as bench_nodes
from tools.bench.accounting import living
from tools.bench.failures import ContestantError
from tools.bench.nodes import nodes

UP = """
import json, subprocess, sys
from pathlib import Path
name, directory, arguments = sys.argv[1], Path(sys.argv[3]), sys.argv[4:]
if name == "up":
    directory.mkdir()
    pid = subprocess.Popen(["sleep", "60"], start_new_session=True).pid
    node = {"node": 1, "pid": pid, "address": "127.0.0.1:4711", "metrics": "127.0.0.1:4712"}
    (directory / "cluster.json").write_text(json.dumps({"url": "kv://", "nodes": [node]}))
    print("starting")
    print(json.dumps({"url": " ".join(arguments)}))
"""
UP_FAILS = UP + "\nsys.exit('no port' if name == 'up' else 0)\n"


def test_nodes_start_with_options_and_end_with_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_nodes, "COMMAND", UP)

    with nodes(tmp_path / "d", memory=1024, durability="disk") as cluster:
        assert "--nodes 1 --json --memory 1024 --durability disk" == cluster.url
        assert (4711,) == cluster.ports
        assert living(cluster.pids[0])

    # The command's "down" does nothing: a node that outlives it is killed.
    assert not living(cluster.pids[0])
    assert not (tmp_path / "d").exists()


def test_nodes_end_also_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_nodes, "COMMAND", UP)
    pids: list[int] = []

    def fail() -> None:
        with nodes(tmp_path / "d") as cluster:
            pids.extend(cluster.pids)
            raise ContestantError

    with pytest.raises(ContestantError):
        fail()
    assert [False] == [living(pid) for pid in pids]


def test_a_command_that_fails_gives_its_reason_and_leaves_no_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_nodes, "COMMAND", UP_FAILS)

    with pytest.raises(ContestantError, match="no port"), nodes(tmp_path / "d"):
        pass

    assert not (tmp_path / "d").exists()
