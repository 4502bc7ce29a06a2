"""What mgmtd knows of each node beside the routing info: when it was heard, and what it said.

None of this is stored: a primary that takes over begins by giving every node a whole lease.

A node is *alive* while its lease may run. Once it has been found dead, the routing info says so
from some version on, its `fence`: only a heartbeat that names this version brings a lease again,
so that no node serves by routing info in which it still had its place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from kvstore.cluster.ids import ChainVersion, NodeId, TargetId
from kvstore.cluster.leases import NS_A_MS, LeaseTerms
from kvstore.cluster.mgmtd.events import SessionNumber
from kvstore.cluster.mgmtd.messages import TargetReport
from kvstore.cluster.mgmtd.wire import Measures, decode_measures
from kvstore.cluster.routing import Node
from kvstore.cluster.states import LocalState, NodeState
from kvstore.cluster.transitions import Report
from kvstore.errors import KVStoreError

RUN_OUT = Report(LocalState.UNKNOWN, ChainVersion(0), 0)
NO_SESSION: SessionNumber = 0
RAN_OUT = "its lease ran out"


@dataclass(slots=True)
class Member:
    """One node, as of its last word."""

    id: NodeId
    incarnation: int
    lease_end_ns: int
    """From when mgmtd may act; 0: dead."""
    heard: bool
    """Whether it has spoken to this primary."""
    heard_ns: int = 0
    session: SessionNumber = NO_SESSION
    fence: int = 0
    dead: bool = False
    """Whether a proposal has been made by which it is dead."""
    why: str = RAN_OUT
    """What is said of it when it is found dead."""
    states: bytes = b""
    """Of the last heartbeat, as encoded; `reports` is what it says."""
    reports: Mapping[TargetId, TargetReport] = field(default_factory=dict)
    measures: bytes = b""
    probing: bool = False
    probed_ns: int = 0
    suspicions: int = 0

    def alive(self, now_ns: int) -> bool:
        """Say whether its lease may run."""
        return not self.dead and now_ns < self.lease_end_ns

    def found_dead(self) -> str:
        """Note that a proposal says so, and return why it is."""
        self.dead = True
        why, self.why = self.why, RAN_OUT
        return why

    def report(self, target: TargetId, now_ns: int) -> Report:
        """Return what counts for one of its targets."""
        if not self.alive(now_ns):
            return RUN_OUT
        said = self.reports.get(target)
        if said is not None:
            return Report(said.local, said.chain_version, self.lease_end_ns)
        local = LocalState.OFFLINE if self.heard else LocalState.UNKNOWN
        return Report(local, ChainVersion(0), self.lease_end_ns)


class Members:
    """All nodes, with the targets of each."""

    def __init__(self, terms: LeaseTerms, nodes: Mapping[NodeId, Node], now_ns: int) -> None:
        """Give every node a whole lease that was not dead already."""
        self._members: dict[NodeId, Member] = {}
        self._by_session: dict[SessionNumber, set[NodeId]] = {}
        self._changed: set[NodeId] = set()
        self._ends: list[tuple[int, NodeId]] = []
        """A heap: one entry for each node that is not dead, not later than its lease ends."""
        self._awaited: set[NodeId] = set()
        """The nodes that have one."""
        end_ns = terms.mgmtd_end_ns(now_ns)
        for node in nodes.values():
            member = Member(node.id, node.incarnation, end_ns, heard=False)
            if node.state in (NodeState.FAILED, NodeState.DISABLED):
                member.dead, member.lease_end_ns = True, 0
            self._members[node.id] = member
            if not member.dead:
                self._await_end(member)

    def __iter__(self) -> Iterator[Member]:
        """Yield every node."""
        return iter(self._members.values())

    def get(self, node: NodeId) -> Member | None:
        """Return a node that is known."""
        return self._members.get(node)

    def add(self, member: Member) -> None:
        """Put in a node, or a new start of one."""
        before = self._members.get(member.id)
        if before is not None:
            self._unbind(before)
            member.suspicions = before.suspicions
        self._members[member.id] = member
        self._await_end(member)

    def gone(self, member: Member, why: str) -> None:
        """End the lease of a node now: it is known that nothing of it serves."""
        member.lease_end_ns, member.why = 0, why
        self._changed.add(member.id)

    def revive(self, member: Member) -> None:
        """Take a node that was dead for alive: it has a lease again."""
        member.dead = False
        self._changed.add(member.id)
        self._await_end(member)

    def due(self, now_ns: int) -> bool:
        """Say whether there may be nodes to judge."""
        return bool(self._changed) or bool(self._ends and self._ends[0][0] <= now_ns)

    def to_judge(self, now_ns: int) -> list[Member]:
        """Return, once, the nodes that are gone or back, and those whose leases have run out."""
        found, self._changed = self._changed, set()
        while self._ends and self._ends[0][0] <= now_ns:
            _, id = heappop(self._ends)
            self._awaited.discard(id)
            member = self._members.get(id)
            if member is None or member.dead:
                continue
            if member.alive(now_ns):
                self._await_end(member)
            else:
                found.add(id)
        return [self._members[id] for id in sorted(found & self._members.keys())]

    def remove(self, node: NodeId) -> None:
        """Forget a node."""
        member = self._members.pop(node, None)
        if member is not None:
            self._unbind(member)

    def bind(self, member: Member, session: SessionNumber) -> None:
        """Note on which connection a node speaks."""
        if member.session != session:
            self._unbind(member)
            member.session = session
            self._by_session.setdefault(session, set()).add(member.id)

    def disconnected(self, session: SessionNumber) -> list[Member]:
        """Return the nodes that spoke on a connection which has ended."""
        members = [self._members[id] for id in sorted(self._by_session.pop(session, ()))]
        for member in members:
            member.session = NO_SESSION
        return members

    def extend(self, then_ns: int, end_ns: int) -> None:
        """Let the leases that ran then last until `end_ns` at least."""
        for member in self._members.values():
            if member.alive(then_ns):
                member.lease_end_ns = max(member.lease_end_ns, end_ns)

    def measures(self) -> dict[TargetId, Measures]:
        """Return what was measured of each target, as far as it was reported."""
        return {
            target: measures
            for member in self._members.values()
            for target, measures in measured(member).items()
        }

    def used(self) -> dict[TargetId, int]:
        """Return what each target holds, in bytes, as far as it was reported."""
        return {target: measures.used_bytes for target, measures in self.measures().items()}

    def _await_end(self, member: Member) -> None:
        """Look at a node when its lease ends; heartbeats only put that off."""
        if member.id not in self._awaited:
            self._awaited.add(member.id)
            heappush(self._ends, (member.lease_end_ns, member.id))

    def _unbind(self, member: Member) -> None:
        bound = self._by_session.get(member.session)
        if bound is not None:
            bound.discard(member.id)
            if not bound:
                del self._by_session[member.session]
        member.session = NO_SESSION


def measured(member: Member) -> Mapping[TargetId, Measures]:
    """Return what a node measured; nothing where it sent what cannot be read."""
    if member.measures == b"":
        return {}
    try:
        return decode_measures(member.measures)
    except KVStoreError:
        return {}


def longest_silence_ms(member: Member, now_ns: int) -> int:
    """Return for how long a node has said nothing; 0 where it has said nothing at all."""
    return (now_ns - member.heard_ns) // NS_A_MS if member.heard_ns else 0
