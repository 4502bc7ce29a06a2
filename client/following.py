"""Who tells a client where keys are: mgmtd, or nodes that are on their own.

    addresses ──► is mgmtd there? ──yes──► MgmtdFollower   it pushes, to a thread of the client
                        └──no──► do nodes answer? ──► NodesFollower   asked again after trouble

Leaves to others: what a client makes of routing info.
"""

import time
from typing import Protocol

from kvstore.client.mgmtd_follower import MgmtdFollower
from kvstore.client.nodes_follower import Adopt, NodesFollower
from kvstore.cluster.routing import RoutingInfo
from kvstore.errors import (
    ClusterError,
    MgmtdUnavailableError,
    NotMgmtdError,
    StoreUnreachableError,
)
from kvstore.native.client import NativeClient

FIRST_TIMEOUT_S = 0.5
"""How long mgmtd may take to answer before the addresses are tried as those of nodes."""


class Follower(Protocol):
    """Hands a client each newer version of the routing info, from start() until close()."""

    chained: bool
    """Whether targets go by chain versions, which mgmtd gives them."""

    def start(self, known: RoutingInfo) -> None:
        """Go on in the background."""

    def refresh(self, known_version: int) -> None:
        """Come to know newer routing info than this, if there is any; takes seconds at most."""

    def close(self) -> None:
        """Stop, and wait until nothing runs any more."""


def find(client: NativeClient, adopt: Adopt, deadline: float) -> tuple[Follower, RoutingInfo]:
    """Return whom to follow, and what it says; raises a StoreOpenError."""
    mgmtd, nodes = MgmtdFollower(client, adopt), NodesFollower(client, adopt)
    found: tuple[Follower, RoutingInfo] | None = None
    try:
        found = choose(mgmtd, nodes, deadline)
    finally:
        if found is None or found[0] is not mgmtd:
            mgmtd.close()
    return found


def choose(
    mgmtd: MgmtdFollower, nodes: NodesFollower, deadline: float
) -> tuple[Follower, RoutingInfo]:
    """Ask for mgmtd, then for nodes, then for an mgmtd whose primary is being elected."""
    try:
        return mgmtd, mgmtd.ask(min(FIRST_TIMEOUT_S, deadline - time.monotonic()))
    except NotMgmtdError:
        return nodes, nodes.ask(deadline)
    except MgmtdUnavailableError:
        pass
    try:
        return nodes, nodes.ask(deadline)
    except StoreUnreachableError:
        if nodes.all_refused:
            raise
    try:
        return mgmtd, mgmtd.ask(deadline - time.monotonic())
    except ClusterError as error:
        raise StoreUnreachableError(f"cannot open {mgmtd.name}: {error}") from error
