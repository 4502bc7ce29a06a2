"""Nodes of two versions of the protocol in one cluster of real processes, under load.

Nodes that are held back by `protocol_version_max` say and take what a node of that version does.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.commands import Shell
from integration.rounds import DEADLINE_S, updating, wait_for_rounds

from kvstore.cluster.local import bring_up, take_down, wait_until_whole
from kvstore.cluster.local_files import LocalCluster
from kvstore.cluster.processes import send_signal, wait_for_end

SETTINGS: dict[str, object] = {
    "nodes": 3,
    "replicas": 3,
    "memory": "96MiB",
    "capacity": "256MiB",
    "log_level": "debug",
}
OLDER, NEWER = 1, 2


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    bring_up(tmp_path, {**SETTINGS, "protocol_version_max": OLDER})
    yield tmp_path
    take_down(tmp_path, 5.0)


def restart(directory: Path, cluster: LocalCluster, node: int, version: int) -> None:
    """End a node in good order, and start it with another version; when it serves again, return."""
    process = next(process for process in cluster.nodes if process.node == node).process
    send_signal(process, signal.SIGTERM)
    assert [] == wait_for_end([process], DEADLINE_S)
    bring_up(directory, {"protocol_version_max": version})
    wait_until_whole(directory, DEADLINE_S)


def versions_spoken(cluster: LocalCluster) -> set[int]:
    """Those that nodes have agreed on with whoever connected to them, since they were made."""
    logs = [Path(node.log).read_text() for node in cluster.nodes]
    return {version for version in (OLDER, NEWER) for log in logs if f", version {version}" in log}


def test_all_nodes_change_their_version_and_back_under_load_without_a_failed_request(
    directory: Path, shell: Shell
) -> None:
    cluster = bring_up(directory, {})
    with updating(cluster.url) as went_round:
        wait_for_rounds(went_round)
        assert {OLDER} == versions_spoken(cluster)
        for version in (NEWER, OLDER):
            for node in (1, 2, 3):
                restart(directory, bring_up(directory, {}), node, version)
                wait_for_rounds(went_round)

    compared = shell("check", "--cluster", cluster.url, "--json")

    assert 0 == compared.code, compared.err
    assert [3] == [len(chain["replicas"]) for chain in compared.json["chains"]]
    assert {OLDER, NEWER} == versions_spoken(cluster)
