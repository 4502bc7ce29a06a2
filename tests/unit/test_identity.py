"""Who a target's directory belongs to."""

from pathlib import Path
from uuid import UUID

import pytest

from kvstore.cluster.routing import NIL_UUID
from kvstore.errors import RegistrationError
from kvstore.node.identity import (
    Identity,
    begin,
    claim,
    join_cluster,
    read_identity,
    refuse_members,
    write_identity,
)

CLUSTER, OTHER = UUID(int=7), UUID(int=8)


def test_a_directory_is_claimed_once_and_stays_what_it_is(tmp_path: Path) -> None:
    first = claim(tmp_path / "target", node=1, target=2)

    assert first == claim(tmp_path / "target", node=1, target=2)
    assert NIL_UUID == first.cluster
    assert first.uuid != claim(tmp_path / "other", node=1, target=3).uuid


def test_each_start_is_later_than_the_one_before_though_the_clock_was_set_back(
    tmp_path: Path,
) -> None:
    directories = {1: tmp_path / "one", 2: tmp_path / "other"}

    def started(now_ns: int) -> list[int]:
        identities = {id: claim(directory, 1, id) for id, directory in directories.items()}
        return [each.start for each in begin(directories, identities, now_ns).values()]

    assert [1000, 1000] == started(1000)
    assert [1001, 1001] == started(400)
    write_identity(directories[2], Identity(1, 2, UUID(int=3)))
    assert [1002, 1002] == started(500)
    assert [2000, 2000] == started(2000)


@pytest.mark.parametrize(("node", "target"), [(2, 2), (1, 3)])
def test_a_swapped_directory_is_refused(tmp_path: Path, node: int, target: int) -> None:
    claim(tmp_path, node=1, target=2)

    with pytest.raises(RegistrationError, match="holds target 2 of node 1"):
        claim(tmp_path, node=node, target=target)


def test_a_directory_of_another_cluster_is_refused(tmp_path: Path) -> None:
    identity = join_cluster(tmp_path, claim(tmp_path, 1, 2), CLUSTER)

    assert identity == claim(tmp_path, 1, 2) == join_cluster(tmp_path, identity, CLUSTER)
    with pytest.raises(RegistrationError, match=f"belongs to cluster {CLUSTER}"):
        join_cluster(tmp_path, identity, OTHER)


def test_a_directory_of_a_cluster_is_not_served_alone(tmp_path: Path) -> None:
    refuse_members({2: tmp_path})
    identity = claim(tmp_path, 1, 2)
    refuse_members({2: tmp_path})
    join_cluster(tmp_path, identity, CLUSTER)

    with pytest.raises(RegistrationError, match="name the cluster's mgmtd with --mgmtd"):
        refuse_members({2: tmp_path})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"format_version": 1}',
        '{"format_version": 1, "node": "x", "target": 1, "uuid": "", "cluster": ""}',
        '{"format_version": 1, "node": 1, "target": 1, "uuid": "no", "cluster": "no"}',
        '{"format_version": 2, "node": 1}',
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "identity.json").write_text(content)

    with pytest.raises(RegistrationError, match=r"identity\.json"):
        read_identity(tmp_path)
