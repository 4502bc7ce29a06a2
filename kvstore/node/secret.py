"""Which secret a node asks its clients to prove.

secret_file ──► KVSTORE_SECRET ──► none, where only this machine reaches the node, or with open
                              ├──► an error, where it joins a cluster, whose secret it needs
                              └──► one that is made and kept beside the first target
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kvstore.errors import InvalidOptionError
from kvstore.node.config import NodeConfig
from kvstore.shared_secret import (
    VARIABLE,
    read_or_make_secret,
    read_secret,
    secret_of_environment,
)

MADE_NAME = "kvstore.secret"


@dataclass(frozen=True, slots=True)
class NodeSecret:
    """A secret, and where it is from."""

    secret: bytes = field(repr=False)
    """Empty: clients need none."""
    source: str
    """A file, the variable's name, or empty."""
    made: bool = False
    """Whether there was none, and this start made it."""


def given_secret(
    secret_file: Path | None, environment: Mapping[str, str], *, open: bool, loopback: bool
) -> NodeSecret | None:
    """Return the secret that a daemon was given, or that it needs none; None: it needs one."""
    if secret_file is not None:
        return NodeSecret(read_secret(secret_file), str(secret_file))
    given = secret_of_environment(environment)
    if given is not None:
        if open:
            raise InvalidOptionError(f"open and {VARIABLE} contradict each other: choose one")
        return NodeSecret(given, VARIABLE)
    return NodeSecret(b"", "") if open or loopback else None


def secret_for(config: NodeConfig, environment: Mapping[str, str]) -> NodeSecret:
    """Return the secret of a node."""
    given = given_secret(
        config.secret_file, environment, open=config.open, loopback=config.loopback
    )
    if given is not None:
        return given
    if config.mgmtd:
        raise InvalidOptionError(
            "a node of a cluster that listens beyond loopback needs the cluster's secret: write"
            " secret_file, the same content as mgmtd's, or open = true where there is none"
        )
    first = Path(next(iter(config.targets.values())).directory)
    path = first.parent / MADE_NAME
    try:
        secret, made = read_or_make_secret(path)
    except OSError as error:
        raise InvalidOptionError(
            f"a node that listens beyond loopback needs a secret, and {path} cannot be made: "
            f"{error.strerror}; write secret_file, or open = true for none"
        ) from error
    return NodeSecret(secret, str(path), made)
