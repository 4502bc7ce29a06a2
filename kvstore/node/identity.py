"""Who a target is: a small file in its directory, which tells a swapped or strange disk at once.

    identity.json    {"format_version": 1, "cluster": uuid, "node": 1, "target": 2, "uuid": uuid,
                      "start": 1700000000000000000}

The target's uuid is made at random with the file, so that an empty disk in the place of a failed
one is a new target, whatever its number. The cluster is filled in when mgmtd lets the node join.
The start is the last one of the node: mgmtd takes a later one only, and clocks may be set back.

Guarantees: a directory is only served by the node, under the number and in the cluster that it was
first used for; every refusal says what to do. The file appears whole.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

from kvstore.cluster.routing import NIL_UUID
from kvstore.errors import RegistrationError

FORMAT_VERSION = 1
NAME = "identity.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """What the file of one target says."""

    node: int
    target: int
    uuid: UUID
    cluster: UUID = NIL_UUID
    """NIL_UUID: it has not joined one yet."""
    start: int = 0
    """The last start of its node, in nanoseconds of a clock that never goes back; 0: none yet."""


def claim(directory: Path, node: int, target: int) -> Identity:
    """Return the identity of a target's directory, made now where there is none."""
    found = read_identity(directory)
    if found is None:
        found = Identity(node, target, uuid4())
        write_identity(directory, found)
    if (found.node, found.target) != (node, target):
        raise RegistrationError(
            f"{directory} holds target {found.target} of node {found.node}, not target {target} of"
            f" node {node}: start each node with its own directories, or empty this one if its"
            " data is not needed any more"
        )
    return found


def begin(
    directories: Mapping[int, Path], identities: Mapping[int, Identity], now_ns: int
) -> dict[int, Identity]:
    """Write down that the node starts, later than ever before, whatever its clock says now."""
    start = max([now_ns, *(identity.start + 1 for identity in identities.values())])
    begun = {id: replace(identity, start=start) for id, identity in identities.items()}
    for id, identity in begun.items():
        write_identity(directories[id], identity)
    return begun


def join_cluster(directory: Path, identity: Identity, cluster: UUID) -> Identity:
    """Write down which cluster the target belongs to from now on."""
    if identity.cluster == cluster:
        return identity
    check_cluster(directory, identity, cluster)
    joined = replace(identity, cluster=cluster)
    write_identity(directory, joined)
    return joined


def check_cluster(directory: Path, identity: Identity, cluster: UUID) -> None:
    """Raise where a target belongs to another cluster than its node is about to join."""
    if identity.cluster not in (NIL_UUID, cluster):
        raise RegistrationError(
            f"{directory} belongs to cluster {identity.cluster}, mgmtd is of cluster {cluster}:"
            " name the mgmtd of its own cluster, or empty the directory if its data is not needed"
            " any more"
        )


def refuse_members(directories: Mapping[int, Path]) -> None:
    """Raise where a target belongs to a cluster, and its node is started without mgmtd."""
    for target, directory in directories.items():
        found = read_identity(directory)
        if found is not None and found.cluster != NIL_UUID:
            raise RegistrationError(
                f"{directory} is target {target} of cluster {found.cluster}, where other targets"
                " may hold newer values: name the cluster's mgmtd with --mgmtd"
            )


def read_identity(directory: Path) -> Identity | None:
    """Return what the file says; None where there is no file."""
    path = directory / NAME
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["format_version"] != FORMAT_VERSION:
            raise RegistrationError(
                f"{path} has format version {fields['format_version']}, this release reads"
                f" {FORMAT_VERSION}"
            )
        node, target = int(fields["node"]), int(fields["target"])
        uuid, cluster = UUID(fields["uuid"]), UUID(fields["cluster"])
        return Identity(node, target, uuid, cluster, int(fields.get("start", 0)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RegistrationError(
            f"{path} does not say whose directory this is ({error!r}): restore the file, or empty"
            " the directory, and the target is filled again from the others of its chain"
        ) from error


def write_identity(directory: Path, identity: Identity) -> None:
    """Write the file, so that it survives loss of power."""
    directory.mkdir(parents=True, exist_ok=True)
    fields = {
        "format_version": FORMAT_VERSION,
        "cluster": str(identity.cluster),
        "node": identity.node,
        "target": identity.target,
        "uuid": str(identity.uuid),
        "start": identity.start,
    }
    fresh = directory / f".{NAME}.new"
    with fresh.open("w", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, directory / NAME)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
