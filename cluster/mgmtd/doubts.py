"""Which nodes are probed again: those that somebody lost, until they are heard or known to be gone.

The kernel goes on accepting connections for a process for some time after its end: one answer to a
probe proves nothing. Pure.
"""

from kvstore.cluster.ids import NodeId
from kvstore.cluster.leases import NS_A_MS
from kvstore.cluster.mgmtd.members import Member, Members

PROBE_AGAIN_MS = 50
"""Between two probes of one node."""
PROBES_MAX = 10
"""After the first one; then only its lease tells."""


class Doubts:
    """The nodes, and how often each is still to be probed."""

    def __init__(self) -> None:
        """Doubt nobody."""
        self._left: dict[NodeId, int] = {}

    def add(self, member: Member, now_ns: int) -> bool:
        """Doubt a node; whether it is to be probed now."""
        self._left[member.id] = PROBES_MAX
        return overdue(member, now_ns)

    def settle(self, node: NodeId) -> None:
        """Doubt a node no more."""
        self._left.pop(node, None)

    def due(self, members: Members, now_ns: int) -> list[Member]:
        """Return the nodes that are to be probed again now."""
        found: list[Member] = []
        for id, left in list(self._left.items()):
            member = members.get(id)
            if member is None or not member.alive(now_ns) or left == 0:
                del self._left[id]
            elif not member.probing and overdue(member, now_ns):
                self._left[id] = left - 1
                found.append(member)
        return found


def overdue(member: Member, now_ns: int) -> bool:
    """Return whether the last probe of a node is long enough ago for another one."""
    return now_ns - member.probed_ns >= PROBE_AGAIN_MS * NS_A_MS
