"""up, down and top on real nodes, and every other command over kv://."""

import fcntl
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from integration.commands import Shell, start
from integration.nodes import page, wait_for

import kvstore
from kvstore.cluster.local import bring_up, take_down
from kvstore.cluster.local_files import LocalCluster, LocalClusterError, read_cluster
from kvstore.cluster.processes import ProcessId, identify, send_signal, stop, wait_for_end

SMALL: dict[str, object] = {"memory": "96MiB", "capacity": "256MiB", "replicas": 1}


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where nodes may be started; they are stopped in the end."""
    directory = tmp_path / "cluster"
    yield directory
    with suppress(LocalClusterError):
        take_down(directory, 5.0)


def cluster_of(directory: Path) -> LocalCluster:
    found = read_cluster(directory)
    assert found is not None
    return found


def test_up_and_down_of_two_nodes(directory: Path, shell: Shell) -> None:
    small = ("--memory", "96MiB", "--capacity", "256MiB", "--replicas", 1)
    url = shell("up", "--dir", directory, "--nodes", 2, *small, "--json").json["url"]

    content = json.loads((directory / "cluster.json").read_text())
    assert (2, url) == (content["format_version"], content["url"])
    assert f"kv://{content['mgmtd']['address']}/default" == url
    assert [1, 2] == [node["node"] for node in content["nodes"]]
    for node in content["nodes"]:
        assert "ok\n" == page(node["metrics"], "/healthz")
        assert Path(node["log"]).is_file()
        assert Path(node["directory"]).is_dir()
    with kvstore.connect_sync(url) as store:
        store.batch_set([f"{i}" for i in range(100)], [b"value"] * 100)
        assert "nodes=2 targets=2" in store.stats().description
        assert 100 == store.stats().objects
    for node in cluster_of(directory).nodes:
        name, port = node.metrics.split(":")
        assert "kvstore_target_objects{" in page(f"{name}:{port}", "/metrics")

    down = shell("down", "--dir", directory, "--json")

    assert ([1, 2], [], []) == tuple(down.json[k] for k in ("stopped", "killed", "not_running"))
    assert "stopped" == down.json["mgmtd"]
    again = shell("down", "--dir", directory, "--json").json
    assert ([1, 2], "not_running") == (again["not_running"], again["mgmtd"])
    assert 1 == shell("get", url, "1").code


def test_up_again_starts_what_does_not_run(directory: Path) -> None:
    before = bring_up(directory, {"nodes": 2, **SMALL})
    keys = [f"{i}" for i in range(50)]
    with kvstore.connect_sync(before.url, timeout_s=60) as store:
        store.batch_set(keys, [key.encode() for key in keys])
        first, second = before.nodes
        send_signal(first.process, signal.SIGKILL)
        wait_for_end([first.process], 10)

        after = bring_up(directory, {})

        assert second == after.nodes[1]
        assert first.pid != after.nodes[0].pid
        assert before.url == after.url
        assert [key.encode() for key in keys] == store.batch_get(keys)
    with pytest.raises(LocalClusterError, match="with nodes 2"):
        bring_up(directory, {"nodes": 3})


def test_a_client_follows_a_node_to_another_address(directory: Path) -> None:
    before = bring_up(directory, {"nodes": 2, **SMALL})
    keys = [f"{i}" for i in range(50)]
    with kvstore.connect_sync(before.url, timeout_s=1, connect_timeout_s=0.5) as store:
        store.batch_set(keys, [key.encode() for key in keys])
        first, second = before.nodes
        stop([first.process], 10)
        # Whoever takes the port meanwhile makes the node choose another one.
        name, port = first.address.split(":")
        with socket.create_server((name, int(port))):
            after = bring_up(directory, {})

            assert first.address != after.nodes[0].address
            assert second.address == after.nodes[1].address
            wait_for(lambda: None not in store.batch_get(keys), lambda: repr(after))
            assert [key.encode() for key in keys] == store.batch_get(keys)


def test_a_node_that_dies_at_its_start_ends_all(directory: Path, shell: Shell) -> None:
    small = ("--memory", "96MiB", "--capacity", "256MiB")
    (directory / "node-2" / "target-2").mkdir(parents=True)
    (directory / "node-2" / "target-2" / "superblock").mkdir()

    ended = shell("up", "--dir", directory, "--nodes", 2, *small, "--json")

    assert 1 == ended.code
    assert "node 2 ended with code 1 before it served" in ended.json["error"]
    assert "cannot start" in ended.err
    assert read_cluster(directory) is None
    log = (directory / "node-1" / "log").read_text()
    assert '"event": "serving"' not in log or '"event": "stopped"' in log


def test_a_bad_setting_starts_nothing(directory: Path, shell: Shell) -> None:
    ended = shell("up", "--dir", directory, "--memory", "much", "--json")

    assert 2 == ended.code
    assert "--memory: 'much' is no size" in ended.json["error"]
    assert not directory.exists()


def test_down_kills_what_does_not_end(directory: Path) -> None:
    cluster = bring_up(directory, SMALL)
    process = cluster.nodes[0].process
    send_signal(process, signal.SIGSTOP)

    stopped = take_down(directory, 0.1)

    assert ((), (1,), ()) == (stopped.stopped, stopped.killed, stopped.not_running)
    assert not process.running


def test_a_pid_that_is_somebody_elses_is_not_signalled() -> None:
    bystander = start("--version")
    identity = identify(bystander.pid)
    assert identity is not None
    stranger = ProcessId(identity.pid, identity.started - 1)

    assert not stranger.running
    assert not send_signal(stranger, signal.SIGKILL)
    assert [] == stop([stranger], 1.0)

    bystander.communicate()
    assert 0 == bystander.returncode
    assert not identity.running
    assert not send_signal(identity, signal.SIGKILL)


def test_down_needs_a_cluster(tmp_path: Path, shell: Shell) -> None:
    assert "holds no cluster" in shell("down", "--dir", tmp_path, "--json").json["error"]
    missing = shell("down", "--dir", tmp_path / "missing", "--json")
    assert "no such directory" in missing.json["error"]


# Commands.


def test_commands_over_kv(directory: Path, shell: Shell, tmp_path: Path) -> None:
    settings: dict[str, object] = {"nodes": 2, "targets_per_node": 2, "secret": True, **SMALL}
    url = bring_up(directory, settings).url
    assert url.endswith(f"/default?secret_file={directory}/secret")

    assert 0 == shell("set", url, "a", stdin=b"hello").code
    assert b"hello" == shell("get", url, "a").out
    assert 1 == shell("get", url, "missing").code
    assert 0 == shell("exists", url, "a").code
    assert 1 == shell("exists", url, "a", "missing").code
    assert 5 == shell("stat", url, "a", "--json").json["objects"][0]["size"]
    assert ["a"] == [row["key"] for row in shell("ls", url, "--json").json["objects"]]
    check = shell("check", url, "--json").json
    assert (True, 1, 5) == (check["ok"], check["verified_objects"], check["verified_bytes"])
    inspect = shell("inspect", url, "--json").json
    assert "nodes=2 targets=4" in inspect["description"]
    assert 1 == inspect["objects"]["objects"]
    bench = shell("bench", url, "--sizes", "1M", "--batch", 16, "--seconds", 0.01, "--json").json
    assert ["set", "get", "exists"] == [row["operation"] for row in bench["results"]]
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 1, "hash_ids": [1, 2, 3]}\n' * 2)
    replay = shell("replay", trace, url, "--block-bytes", "4KiB", "--json").json
    assert (3, 0) == (replay["hit_blocks"], replay["verify_failures"])
    assert 2 == shell("replay", trace, url, "--capacity-blocks", 5).code
    assert 0 == shell("rm", url, "a").code
    assert 1 == shell("rm", url, "a").code
    unauthorized = shell("ls", url.partition("?")[0], "--json")
    assert (1, "StoreAccessError") == (unauthorized.code, unauthorized.json["kind"])
    assert_top(shell, url)


def assert_top(shell: Shell, url: str) -> None:
    ended = shell("top", url, "--interval", 0.05, "--count", 2, "--json")

    assert 0 == ended.code
    lines: list[dict[str, Any]] = [json.loads(line) for line in ended.out.splitlines()]
    assert 2 == len(lines)
    for line in lines:
        assert [1, 2] == [node["node"] for node in line["nodes"]]
        assert 0 < line["interval_s"]
        assert sum(node["objects"] for node in line["nodes"]) == line["total"]["objects"]
        assert 0 == line["total"]["failures_per_s"]
    assert 0 == shell("top", url, "--interval", 0.05, "--count", 1).code


def test_top_shows_the_node_that_does_not_answer(directory: Path, shell: Shell) -> None:
    cluster = bring_up(directory, {"nodes": 2, **SMALL})
    send_signal(cluster.nodes[1].process, signal.SIGKILL)
    wait_for_end([cluster.nodes[1].process], 10)

    ended = shell("top", cluster.url, "--interval", 0.05, "--count", 1, "--json")

    serving, dead = ended.json["nodes"]
    assert "error" not in serving
    assert "error" in dead
    assert serving["objects"] == ended.json["total"]["objects"]


def test_top_ends_by_an_interruption(directory: Path) -> None:
    cluster = bring_up(directory, SMALL)
    running = start("top", cluster.url, "--interval", 0.05, "--json")
    assert running.stdout is not None
    line = running.stdout.readline()

    running.send_signal(signal.SIGINT)
    _, err = running.communicate()

    assert (0, b"") == (running.returncode, err)
    assert json.loads(line)["nodes"]


def test_top_is_about_nodes(tmp_path: Path, shell: Shell) -> None:
    ended = shell("top", f"file://{tmp_path}", "--json")

    assert (2, "InvalidURLError") == (ended.code, ended.json["kind"])


def test_two_ups_at_once_do_not_meet(directory: Path, shell: Shell) -> None:
    directory.mkdir()
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        ended = shell("up", "--dir", directory, "--json")

    assert "another command" in ended.json["error"]
    assert os.listdir(directory) == ["lock"]
