"""Leases: until when a node may serve, as the node counts and as mgmtd does. Pure.

    node   |-- sends a heartbeat -------------- serves until sent + lease --|
    mgmtd        |-- receives it ---------------- acts from received + lease + drift --|

The node counts from before it sent, mgmtd from after it received, and mgmtd adds what the two
clocks may drift apart in that time. So a node has stopped before mgmtd may take its targets out of
their chains, without any agreement about what time it is. A primary that has just begun knows of no
heartbeat: it gives every node a whole lease from its own beginning, and changes no chain on silence
before that.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from kvstore.cluster.ids import ChainVersion, TargetId
from kvstore.cluster.states import LocalState
from kvstore.cluster.transitions import Report
from kvstore.errors import InvalidOptionError

NS_A_MS = 1_000_000
HEARTBEATS_A_LEASE_MIN = 3
"""Fewer, and one lost message ends a lease."""


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """The cluster's times; every node and mgmtd have the same."""

    heartbeat_ms: int = 200
    lease_ms: int = 1500
    drift_ms_max: int = 50
    """How far two clocks may drift apart in one lease: 3 %, a hundred times what crystals do."""

    def __post_init__(self) -> None:
        """Refuse times that would end leases for nothing."""
        if min(self.heartbeat_ms, self.lease_ms) <= 0 or self.drift_ms_max < 0:
            raise InvalidOptionError("heartbeat and lease must be longer than nothing")
        if self.lease_ms < HEARTBEATS_A_LEASE_MIN * self.heartbeat_ms:
            raise InvalidOptionError(
                f"a lease of {self.lease_ms} ms is too short for a heartbeat each"
                f" {self.heartbeat_ms} ms: make it {HEARTBEATS_A_LEASE_MIN} heartbeats or more"
            )

    def node_end_ns(self, sent_ns: int) -> int:
        """Return until when a node may serve, given when it sent what mgmtd answered."""
        return sent_ns + self.lease_ms * NS_A_MS

    def mgmtd_end_ns(self, received_ns: int) -> int:
        """Return from when mgmtd may act, given when it received a heartbeat."""
        return received_ns + (self.lease_ms + self.drift_ms_max) * NS_A_MS


def unheard(
    targets: Iterable[TargetId], terms: LeaseTerms, begun_ns: int
) -> dict[TargetId, Report]:
    """Return what a primary that begins at `begun_ns` knows: nothing, and leases that may run."""
    report = Report(LocalState.UNKNOWN, ChainVersion(0), terms.mgmtd_end_ns(begun_ns))
    return dict.fromkeys(targets, report)
