"""A cluster of real processes: clients, namespaces, what operators see, nodes that die and return.

All tests share one cluster of three nodes; each leaves it whole.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from integration.commands import Shell
from integration.nodes import NodeProcess
from integration.rounds import DEADLINE_S, updating, wait_for_rounds

import kvstore
from kvstore.cluster.local import bring_up, take_down, wait_until_whole
from kvstore.cluster.local_files import LocalCluster, LocalProcess
from kvstore.cluster.processes import send_signal, wait_for_end
from kvstore.node.identity import Identity, read_identity, write_identity

SMALL: dict[str, object] = {"memory": "96MiB", "capacity": "256MiB"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("cluster")
    bring_up(directory, {"nodes": 3, "replicas": 3, **SMALL})
    yield directory
    take_down(directory, 5.0)


@pytest.fixture
def cluster(directory: Path) -> Iterator[LocalCluster]:
    """The cluster with everything running, before and after."""
    yield bring_up(directory, {})
    bring_up(directory, {})
    wait_until_whole(directory, DEADLINE_S)


def end(node: LocalProcess, number: signal.Signals) -> None:
    send_signal(node.process, number)
    assert [] == wait_for_end([node.process], DEADLINE_S)


def test_clients_see_each_others_values(cluster: LocalCluster, shell: Shell) -> None:
    keys = [f"seen/{index}" for index in range(300)]
    values = [key.encode() * 10 for key in keys]
    with kvstore.connect_sync(cluster.url) as writer, kvstore.connect_sync(cluster.url) as reader:
        assert {kvstore.SetStatus.OK} == set(writer.batch_set(keys, values))
        assert values == reader.batch_get(keys)
        assert [True] * 100 == reader.batch_delete(keys[:100])
        assert [None] * 100 == writer.batch_get(keys[:100])
        assert 200 == writer.match_prefix(keys[100:])
        listed = [found.key.decode() for found in reader.list("seen/")]
    assert sorted(keys[100:]) == sorted(listed)

    compared = shell("check", "--cluster", cluster.url, "--json")

    assert 0 == compared.code, compared.err
    assert [3] == [len(chain["replicas"]) for chain in compared.json["chains"]]
    assert compared.json["objects"] >= 200
    assert compared.json["ok"]


async def test_asyncio_clients_follow_the_cluster_too(cluster: LocalCluster) -> None:
    async with kvstore.connect(cluster.url) as store:
        await store.batch_set(["async/a", "async/b"], [b"1", b"2"])

        assert [b"1", b"2"] == await store.batch_get(["async/a", "async/b"])


def test_status_tells_of_every_part(cluster: LocalCluster, shell: Shell) -> None:
    ended = shell("status", cluster.url, "--json")

    found = ended.json
    assert (0, True) == (ended.code, found["ok"])
    assert [1, 2, 3] == [node["id"] for node in found["nodes"]]
    assert {"active"} == {node["state"] for node in found["nodes"]}
    assert {"serving"} == {target["state"] for target in found["targets"]}
    assert [node.address for node in cluster.nodes] == [n["addresses"][0] for n in found["nodes"]]
    (chain,) = found["chains"]
    assert ({1, 2, 3}, 1024) == ({p["target"] for p in chain["targets"]}, chain["slots"])
    text = shell("status", cluster.url).text
    assert "Nodes" in text
    assert "all is well" in text


def test_namespaces_keep_their_keys_apart(cluster: LocalCluster, shell: Shell) -> None:
    pages = cluster.url.removesuffix("default") + "pages"
    with pytest.raises(kvstore.StoreNotFoundError, match="kvstore ns create"):
        kvstore.connect_sync(pages)

    created = shell("ns", "create", pages, "--eviction", "cache", "--ttl", 60, "--json")
    changed = shell("ns", "set", pages, "--ttl", 90, "--json")

    assert ("cache", 60_000) == tuple(created.json["namespace"][k] for k in ("eviction", "ttl_ms"))
    assert ("cache", 90_000) == tuple(changed.json["namespace"][k] for k in ("eviction", "ttl_ms"))
    listed = shell("ns", "list", cluster.url, "--json").json["namespaces"]
    assert ["default", "pages"] == sorted(policy["name"] for policy in listed)
    with kvstore.connect_sync(pages) as one, kvstore.connect_sync(cluster.url) as other:
        one.set("apart", b"page")
        assert None is other.get("apart")
        assert ["apart"] == [found.key.decode() for found in one.list()]


def test_operators_hear_why_not(cluster: LocalCluster, shell: Shell, tmp_path: Path) -> None:
    unknown = shell("admin", "add-node", cluster.url, 9, "--json")
    last = shell("admin", "drain-node", cluster.url, 1, "--json")
    file_url = shell("status", f"file://{tmp_path}", "--json")

    assert 1 == unknown.code
    assert "node 9 has not joined" in unknown.json["error"]
    assert 1 == last.code
    assert "node" in last.json["error"]
    assert 2 == file_url.code


def test_a_killed_node_fails_no_request_and_comes_back_whole(
    cluster: LocalCluster, directory: Path, shell: Shell
) -> None:
    for node in cluster.nodes[:2]:
        with updating(cluster.url) as went_round:
            wait_for_rounds(went_round)
            end(node, signal.SIGKILL)
            wait_for_rounds(went_round)
            cluster = bring_up(directory, {})
            wait_until_whole(directory, DEADLINE_S)
            wait_for_rounds(went_round)

    compared = shell("check", "--cluster", cluster.url, "--json")

    assert 0 == compared.code, compared.err
    assert [3] == [len(chain["replicas"]) for chain in compared.json["chains"]]


def test_a_node_that_is_told_to_stop_leaves_its_chains_first(
    cluster: LocalCluster, directory: Path
) -> None:
    node = cluster.nodes[2]
    with updating(cluster.url) as went_round:
        wait_for_rounds(went_round)
        end(node, signal.SIGTERM)
        wait_for_rounds(went_round)
        bring_up(directory, {})
        wait_until_whole(directory, DEADLINE_S)

    lines = [json.loads(line) for line in Path(node.log).read_text().splitlines()]
    events = [line["event"] for line in lines]
    stopping = events.index("stopping")
    assert "chain changed" in events[stopping : events.index("stopped")]
    assert "left without mgmtd's word" not in events


def test_all_that_was_stored_is_there_after_everything_was_down(
    cluster: LocalCluster, directory: Path
) -> None:
    keys = [f"down/{index}" for index in range(50)]
    with kvstore.connect_sync(cluster.url) as store:
        store.batch_set(keys, [b"value"] * 50)
    for node in cluster.nodes:
        send_signal(node.process, signal.SIGKILL)
    take_down(directory, DEADLINE_S)

    again = bring_up(directory, {})

    with kvstore.connect_sync(again.url) as store:
        assert [b"value"] * 50 == store.batch_get(keys)


def slabs_of(node: LocalProcess) -> Path:
    return Path(node.directory) / f"target-{node.node}" / "slabs"


def flip_a_byte(path: Path, value: bytes) -> None:
    """Damage a value where it lies."""
    at = path.read_bytes().index(value) + len(value) // 2
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([value[len(value) // 2] ^ 1]))


def test_a_damaged_value_is_healed_from_another_replica_while_all_serve(
    cluster: LocalCluster, directory: Path, shell: Shell
) -> None:
    wait_until_whole(directory, DEADLINE_S)
    keys = [f"healed/{node.node}" for node in cluster.nodes]
    values = [os.urandom(20_000) for _ in keys]
    before = shell("status", cluster.url, "--json").json["chains"]
    with kvstore.connect_sync(cluster.url) as store:
        store.batch_set(keys, values)
        for node, value in zip(cluster.nodes, values, strict=True):
            flip_a_byte(slabs_of(node), value)
            deadline = time.monotonic() + DEADLINE_S
            while value not in slabs_of(node).read_bytes():
                assert values == store.batch_get(keys)
                assert time.monotonic() < deadline, Path(node.log).read_text()

    compared = shell("check", "--cluster", cluster.url, "--json")
    after = shell("status", cluster.url, "--json").json

    assert 0 == compared.code, compared.err
    assert before == after["chains"]
    for node in cluster.nodes:
        assert "damaged value replaced" in Path(node.log).read_text()


# Operators' errors.


def refused(cluster: LocalCluster, tmp_path: Path, node: int, target: str) -> str:
    """Start a node that may not join; what it says."""
    with NodeProcess(
        tmp_path,
        *("--node", node, "--target", target, "--listen", "127.0.0.1:0"),
        *("--mgmtd", cluster.mgmtd.address, "--memory", "96MiB", "--capacity", "256MiB"),
    ) as process:
        assert 1 == process.end(), process.text()
        return process.text()


def test_a_directory_of_another_node_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    said = refused(cluster, tmp_path, 9, f"2={cluster.nodes[1].directory}/target-2")

    assert "holds target 2 of node 2, not target 2 of node 9" in said


def test_a_directory_of_another_cluster_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    strange = Identity(9, 99, uuid4(), uuid4())
    write_identity(tmp_path / "strange", strange)

    said = refused(cluster, tmp_path, 9, f"99={tmp_path}/strange")

    assert f"belongs to cluster {strange.cluster}" in said
    found = read_identity(tmp_path / "strange")
    assert found is not None
    assert strange == replace(found, start=0)


def test_a_second_node_of_one_id_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    said = refused(cluster, tmp_path, 1, f"99={tmp_path}/target")

    assert "RegistrationError" in said
    assert "node 1" in said
    wait_until_whole(Path(cluster.mgmtd.directory).parent, DEADLINE_S)


def test_a_target_of_a_cluster_is_not_served_without_it(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    mine = read_identity(Path(cluster.nodes[0].directory) / "target-1")
    assert mine is not None
    write_identity(tmp_path / "target", replace(mine))
    with NodeProcess(tmp_path, "--target", f"1={tmp_path}/target") as process:
        assert 1 == process.end()

        assert "name the cluster's mgmtd with --mgmtd" in process.text()
