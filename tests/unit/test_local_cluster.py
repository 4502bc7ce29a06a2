"""What `kvstore up` makes of its settings, and when a cluster counts as serving."""

from dataclasses import replace
from pathlib import Path

import pytest
from unit.chained_nodes import routing

from kvstore.addresses import Address
from kvstore.cluster.local import merged_settings, serves, whole_again
from kvstore.cluster.local_files import (
    LocalCluster,
    LocalClusterError,
    LocalProcess,
    read_cluster,
    write_cluster,
)
from kvstore.cluster.local_start import node_toml
from kvstore.node.config import ConfigSource

DIRECTORY = Path("/clusters/one")


def process(node: int) -> LocalProcess:
    return LocalProcess(node, 1, 1, f"n{node}:7400", "", "d", "l")


def cluster(nodes: int, **settings: object) -> LocalCluster:
    chosen = merged_settings(DIRECTORY, None, {"nodes": nodes, **settings})
    found = tuple(process(node) for node in range(1, nodes + 1))
    return LocalCluster("kv://m:1/default", chosen, process(0), found)


@pytest.mark.parametrize(
    ("nodes", "replicas", "expected"),
    [
        (1, None, (1, 1)),
        (2, None, (2, 1)),
        (3, None, (3, 1)),
        (4, None, (3, 3)),
        (6, None, (3, 1)),
        (3, 2, (2, 2)),
        (3, 1, (1, 1)),
    ],
)
def test_no_target_is_left_over(
    nodes: int, replicas: int | None, expected: tuple[int, int]
) -> None:
    found = merged_settings(DIRECTORY, None, {"nodes": nodes, "replicas": replicas})

    assert expected == (found["replicas"], found["targets_per_node"])
    assert nodes * expected[1] % expected[0] == 0


def test_more_replicas_than_nodes_are_refused() -> None:
    with pytest.raises(LocalClusterError, match="2 nodes make no chain of 3"):
        merged_settings(DIRECTORY, None, {"nodes": 2, "replicas": 3})


def test_what_chains_were_made_by_stays() -> None:
    earlier = cluster(3, memory="96MiB")

    again = merged_settings(DIRECTORY, earlier, {"nodes": 3, "memory": "1GiB"})

    assert ({**earlier.settings, "memory": "1GiB"}) == again
    for key, value in (("nodes", 4), ("replicas", 2), ("targets_per_node", 5)):
        with pytest.raises(LocalClusterError, match=f"with {key}"):
            merged_settings(DIRECTORY, earlier, {key: value})


def test_a_cluster_is_written_down_and_read_again(tmp_path: Path) -> None:
    assert None is read_cluster(tmp_path)
    write_cluster(tmp_path, cluster(3))

    assert cluster(3) == read_cluster(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"format_version": 1}', "format version 1, not 2"),
        ('{"format_version": 2}', "is no cluster.json"),
        ("[]", "is no cluster.json"),
        ("{", "is no cluster.json"),
    ],
)
def test_what_is_no_cluster_is_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "cluster.json").write_text(content)

    with pytest.raises(LocalClusterError, match=says):
        read_cluster(tmp_path)


def test_the_configuration_of_a_node_loads(tmp_path: Path) -> None:
    settings = merged_settings(tmp_path, None, {"nodes": 4, "memory": "96MiB", "secret": True})
    toml = node_toml(tmp_path, 2, settings, Address("127.0.0.1", 0), "127.0.0.1:1234")
    (tmp_path / "node.toml").write_text(toml)

    config = ConfigSource(tmp_path / "node.toml", {}).load()

    assert (2, [4, 5, 6]) == (config.node, list(config.targets))
    assert (Address("127.0.0.1", 1234),) == config.mgmtd
    assert tmp_path / "secret" == config.secret_file


def test_a_cluster_serves_when_every_chain_has_a_head_where_its_node_is_now() -> None:
    found = cluster(2)

    assert serves(routing(1, c1="v1 1S 2S"), found)
    assert serves(routing(1, c1="v1 2S 1O"), found)
    assert not serves(routing(1, c1="v1 1L 2O"), found)
    assert not serves(routing(1), found)
    moved = replace(found, nodes=(replace(process(1), address="n1:1"), process(2)))
    assert not serves(routing(1, c1="v1 1S 2S"), moved)


def test_a_cluster_is_whole_when_every_target_serves() -> None:
    assert whole_again(routing(1, c1="v1 1S 2S", c2="v4 3S 12S"))
    assert not whole_again(routing(1, c1="v1 1S 2S", c2="v4 3S 12Y"))
