"""The transition table: what a chain becomes, given what is known of its targets. Pure.

    public     what is known of the target        becomes
    ---------  ---------------------------------  ------------------------------------------------
    SERVING    alive                              SERVING
    SERVING    dead, another SERVING is alive     OFFLINE
    SERVING    dead, no SERVING is alive          LASTSRV
    LASTSRV    open, no SERVING, the last of      SERVING
               those open in the chain's order
    LASTSRV    another LASTSRV becomes SERVING    WAITING where it is open, else OFFLINE
    LASTSRV    anything else                      LASTSRV
    SYNCING    up to date, a SERVING is alive     SERVING, as the new tail
    SYNCING    alive, a SERVING is alive          SYNCING
    SYNCING    alive, no SERVING is alive         WAITING
    SYNCING    dead                               OFFLINE
    WAITING    open, SERVING, no other SYNCING    SYNCING
    WAITING    alive, anything else               WAITING
    WAITING    dead                               OFFLINE
    OFFLINE    open                               as WAITING
    OFFLINE    anything else                      OFFLINE

A SERVING and a LASTSRV target are never in one chain: whoever starts alone may acknowledge updates
that the others lack, so these give up their claim in the same step.

A target is dead when it says so, or when its lease has run out. It is alive otherwise; it is open
when it is alive and has been heard of by this primary. A report of being up to date counts only for
the chain version that it names: a target may have missed updates since an earlier one.

What always holds:
1. A change of anything adds one to the chain version; no change, no new version.
2. A chain that had a SERVING or LASTSRV target has one afterwards.
3. Only what was SERVING or LASTSRV, or was SYNCING beside a living SERVING target, becomes SERVING.
4. After a total outage every target that was serving at the end may start, but only one does: the
   others may hold updates that it lacks, and are brought in line with it. Of several that are
   there, the last in the chain's order starts: what the tail committed, readers may have seen.
5. At most one target is SYNCING.

What the table asks of nodes:
a. A node that starts reports its targets OFFLINE until the routing info shows that none of them is
   SERVING or SYNCING: what it held in memory is gone, so they must come back by way of the table.
b. Once a SYNCING target has said that it is up to date, no update of that chain version is
   acknowledged without it. Its report may be late: it can become SERVING, and be what is left of
   the chain, at any moment after it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kvstore.cluster.ids import CHAIN_VERSION_MAX, ChainVersion, TargetId
from kvstore.cluster.routing import Chain, ChainTarget
from kvstore.cluster.states import LocalState, PublicState
from kvstore.errors import ChainChangeError

SERVING = PublicState.SERVING
LASTSRV = PublicState.LASTSRV
SYNCING = PublicState.SYNCING
WAITING = PublicState.WAITING
OFFLINE = PublicState.OFFLINE


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a target: its node's word, and until when the node may serve."""

    local: LocalState
    chain_version: ChainVersion
    """The version of its chain that the node knew when it said so."""
    lease_end_ns: int
    """On mgmtd's clock, late enough that the node's own count has ended."""

    def alive(self, now_ns: int) -> bool:
        """Say whether the target may be serving at this moment."""
        return self.local is not LocalState.OFFLINE and now_ns < self.lease_end_ns


NO_REPORT = Report(LocalState.OFFLINE, ChainVersion(0), 0)


@dataclass(frozen=True, slots=True)
class Change:
    """One target's change of state, and why."""

    target: TargetId
    before: PublicState
    after: PublicState
    reason: str


@dataclass(frozen=True, slots=True)
class Transition:
    """What a chain becomes, and each change on the way; no change, the same chain."""

    chain: Chain
    changes: tuple[Change, ...]


def next_chain(chain: Chain, reports: Mapping[TargetId, Report], now_ns: int) -> Transition:
    """Apply the table once to every target of the chain. A target without a report is dead.

    Raises ChainChangeError where a chain that is to change has had its last version.
    """
    assert chain.targets
    verdicts = _Verdicts(chain, reports, now_ns)
    changes: list[Change] = []
    places: list[ChainTarget] = []
    for place in chain.targets:
        state, reason = verdicts.of(place)
        places.append(ChainTarget(place.target, state))
        if state is not place.state:
            changes.append(Change(place.target, place.state, state, reason))
    if not changes:
        return Transition(chain, ())
    after = changed_chain(chain, places)
    check_step(chain, after)
    return Transition(after, tuple(changes))


def changed_chain(chain: Chain, places: list[ChainTarget]) -> Chain:
    """Return the next version of a chain, its targets sorted by state, else in their order.

    Raises ChainChangeError where there is none.
    """
    if chain.version >= CHAIN_VERSION_MAX:
        raise ChainChangeError(
            f"chain {chain.id} has reached version {chain.version}, the last that objects can"
            " carry: move its slots to a new chain"
        )
    ordered = tuple(sorted(places, key=lambda place: place.state))
    return Chain(chain.id, ChainVersion(chain.version + 1), ordered)


def check_step(before: Chain, after: Chain) -> None:
    """Assert what always holds of a step of the table."""
    assert after.version == before.version + 1
    assert _holders(after) or not _holders(before)
    assert not after.in_state(SERVING) or not after.in_state(LASTSRV)
    assert len(after.in_state(SYNCING)) <= 1
    started = set(after.in_state(SERVING)) - set(before.in_state(SERVING))
    assert started <= set(before.in_state(LASTSRV)) | set(before.in_state(SYNCING))
    assert len(started & set(before.in_state(LASTSRV))) <= 1


def _holders(chain: Chain) -> tuple[TargetId, ...]:
    return chain.in_state(SERVING) + chain.in_state(LASTSRV)


class _Verdicts:
    """The table's questions, answered once for one chain at one moment."""

    def __init__(self, chain: Chain, reports: Mapping[TargetId, Report], now_ns: int) -> None:
        self._chain = chain
        self._reports = reports
        self._now_ns = now_ns
        self._serving = [id for id in chain.in_state(SERVING) if self._alive(id)]
        self._starting: TargetId | None = None
        if not chain.in_state(SERVING):
            ready = [id for id in chain.in_state(LASTSRV) if self._open(id)]
            self._starting = ready[-1] if ready else None
        self._syncing = self._choose_syncing()

    def of(self, place: ChainTarget) -> tuple[PublicState, str]:
        """Return the state that the table gives a target, and the reason for a change."""
        match place.state:
            case PublicState.SERVING:
                return self._of_serving(place.target)
            case PublicState.LASTSRV:
                return self._of_lastsrv(place.target)
            case PublicState.SYNCING:
                return self._of_syncing(place.target)
            case PublicState.WAITING | PublicState.OFFLINE:
                return self._of_returning(place)

    def _of_serving(self, target: TargetId) -> tuple[PublicState, str]:
        if self._alive(target):
            return SERVING, ""
        if self._serving:
            return OFFLINE, self._death(target)
        return LASTSRV, f"{self._death(target)}, and no other serves"

    def _of_lastsrv(self, target: TargetId) -> tuple[PublicState, str]:
        if target == self._starting:
            return SERVING, "it was serving when the last were lost"
        if self._starting is None:
            return LASTSRV, ""
        if self._open(target):
            return WAITING, "another target starts"
        return OFFLINE, "another target starts"

    def _of_syncing(self, target: TargetId) -> tuple[PublicState, str]:
        if not self._alive(target):
            return OFFLINE, self._death(target)
        if not self._serving:
            return WAITING, "there is nothing to sync from"
        if self._up_to_date(target):
            return SERVING, "it is up to date"
        return SYNCING, ""

    def _of_returning(self, place: ChainTarget) -> tuple[PublicState, str]:
        if place.target == self._syncing:
            return SYNCING, "it is back, and its turn has come"
        if not self._alive(place.target):
            return OFFLINE, self._death(place.target)
        if place.state is WAITING or self._open(place.target):
            return WAITING, "it is back, and must wait"
        return OFFLINE, "it has not been heard of"

    def _choose_syncing(self) -> TargetId | None:
        """Return who starts to sync now: the first in the chain's order, if none else does."""
        if not self._serving:
            return None
        if any(self._alive(id) for id in self._chain.in_state(SYNCING)):
            return None
        returning = (
            place.target
            for place in self._chain.targets
            if place.state in (WAITING, OFFLINE) and self._open(place.target)
        )
        return next(returning, None)

    def _report(self, target: TargetId) -> Report:
        return self._reports.get(target, NO_REPORT)

    def _alive(self, target: TargetId) -> bool:
        return self._report(target).alive(self._now_ns)

    def _open(self, target: TargetId) -> bool:
        return self._alive(target) and self._report(target).local is not LocalState.UNKNOWN

    def _up_to_date(self, target: TargetId) -> bool:
        report = self._report(target)
        return report.local is LocalState.UPTODATE and report.chain_version == self._chain.version

    def _death(self, target: TargetId) -> str:
        if self._report(target).local is LocalState.OFFLINE:
            return "it is not open"
        return "its lease ran out"
