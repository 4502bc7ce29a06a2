"""What mgmtd does about its chains by itself: fill the short ones, and let targets leave. Pure.

A target leaves in four steps, each a version of its chain, so that no copy is ever given up before
the next one is whole, and no target serves what it no longer gets:
1. the one that joins in its place is added, and synced by the table;
2. once that one serves, the node of the one that leaves is asked to retire it: it stops serving;
3. the node reports it offline, and the table says so;
4. it is taken out of the chain: it is a spare then, or forgotten where nothing was to join.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from kvstore.cluster.chains import add_target, remove_target
from kvstore.cluster.ids import CHAIN_VERSION_MAX, ChainId, NodeId, TargetId
from kvstore.cluster.mgmtd.balance import Used
from kvstore.cluster.mgmtd.dissolving import dissolve
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.mgmtd.ledger import DISSOLVES, NO_TARGET
from kvstore.cluster.mgmtd.spares import Open, Spares, may_join
from kvstore.cluster.routing import CHAIN_TARGETS_MAX, Chain
from kvstore.cluster.states import NodeState, PublicState

DRAINS_A_PASS_MAX = 32
CLAIMS = (PublicState.SERVING, PublicState.LASTSRV)
"""A target in these states holds every acknowledged update."""


class Repair:
    """One pass over the chains that are not as they should be."""

    def __init__(
        self,
        draft: Draft,
        is_open: Open,
        *,
        unsettled: Iterable[ChainId],
        wanted: Mapping[ChainId, int],
        overdue: Iterable[TargetId],
        copies_max: int,
        used: Callable[[], Used],
    ) -> None:
        """`wanted`: how many targets each chain is to have; `overdue`: offline for too long."""
        self._draft = draft
        self._open = is_open
        self._unsettled = sorted(unsettled)
        self._wanted = wanted
        self._overdue = frozenset(overdue)
        self._copies_max = copies_max
        self._used = used
        self._copies = self._copies_under_way()
        self._found: Spares | None = None

    def run(self) -> None:
        """Take every step that can be taken now, one for each chain."""
        for target, joins in sorted(self._draft.leaving.items()):
            self._leave(target, joins)
        for id in self._unsettled:
            if not self._draft.full:
                self._fill(id)
        self._drain()

    @property
    def _spares(self) -> Spares:
        if self._found is None:
            self._found = Spares(self._draft, self._open)
        return self._found

    def _changed(self, chain: Chain) -> bool:
        """Say whether this draft has a step of the chain already, or none is left to it."""
        return chain.id in self._draft.chains.changed or chain.version >= CHAIN_VERSION_MAX

    def _leave(self, target: TargetId, joins: TargetId) -> None:
        chain = self._draft.chain_of(target)
        if chain is None:
            self._draft.leaving.remove(target)
        elif joins == DISSOLVES:
            dissolve(self._draft, chain.id, self._used)
        elif self._changed(chain) or len(chain.targets) == 1:
            pass
        elif joins and joins not in members_of(chain):
            self._join(chain, target, joins)
        elif may_leave(chain, joins) and state_in(chain, target) not in CLAIMS:
            self._draft.put_chain(remove_target(chain, target))
            self._draft.leaving.remove(target)
            if joins == NO_TARGET:  # nobody wants it back, not as a spare either
                self._draft.forget_target(target)

    def _join(self, chain: Chain, leaves: TargetId, joins: TargetId) -> None:
        """Add the target that joins, or find another where that one is gone or taken."""
        if not may_join(self._draft, joins) or not self._open(joins):
            found = self._spares.best(chain, leaves)
            if found is not None:
                self._draft.leaving[leaves] = found
            return
        self._add(chain, joins)

    def _add(self, chain: Chain, joins: TargetId) -> None:
        node = self._draft.targets[joins].node
        if self._copies[node] >= self._copies_max or len(chain.targets) >= CHAIN_TARGETS_MAX:
            return
        on_nodes = {self._draft.targets[id].node for id in members_of(chain)}
        if node in on_nodes or not chain.in_state(PublicState.SERVING):
            return
        known = {id: self._draft.targets[id] for id in members_of(chain)}
        self._draft.put_chain(add_target(chain, self._draft.targets[joins], known))
        self._copies[node] += 1

    def _fill(self, id: ChainId) -> None:
        chain = self._draft.chains.get(id)
        if chain is None or self._changed(chain) or not chain.in_state(PublicState.SERVING):
            return
        if len(chain.targets) < self._wanted.get(id, 0):
            found = self._spares.best(chain, None)
            if found is not None:
                self._add(chain, found)
            return
        for target in chain.in_state(PublicState.OFFLINE):
            if target in self._overdue and target not in self._draft.leaving:
                found = self._spares.best(chain, target)
                if found is not None:
                    self._draft.leaving[target] = found
                return

    def _drain(self) -> None:
        """Find who joins for the targets of draining nodes that have nobody yet."""
        draining = {
            node.id for node in self._draft.nodes.values() if node.state is NodeState.DRAINING
        }
        if not draining or not self._spares.free:
            return
        left = DRAINS_A_PASS_MAX
        for target in list(self._draft.targets.values()):
            if target.node not in draining or target.id in self._draft.leaving or not left:
                continue
            chain = self._draft.chain_of(target.id)
            found = self._spares.best(chain, target.id) if chain else None
            if found is not None:
                self._draft.leaving[target.id] = found
                left -= 1

    def _copies_under_way(self) -> Counter[NodeId]:
        copies: Counter[NodeId] = Counter()
        for id in self._unsettled:
            chain = self._draft.chains.get(id)
            for place in chain.targets if chain else ():
                if place.state is not PublicState.SERVING and self._open(place.target):
                    copies[self._draft.targets[place.target].node] += 1
        return copies


def retiring(draft: Draft) -> dict[NodeId, tuple[TargetId, ...]]:
    """Return the targets that nodes are to stop serving now: one of each chain at a time."""
    found: dict[NodeId, tuple[TargetId, ...]] = {}
    chains: set[ChainId] = set()
    for target, joins in sorted(draft.leaving.items()):
        chain = draft.chain_of(target)
        if chain is None or chain.id in chains or not may_leave(chain, joins):
            continue
        others = [other for other in chain.in_state(PublicState.SERVING) if other != target]
        if others and state_in(chain, target) is not PublicState.LASTSRV:
            chains.add(chain.id)
            node = draft.targets[target].node
            found[node] = (*found.get(node, ()), target)
    return found


def may_leave(chain: Chain, joins: TargetId) -> bool:
    """Say whether the one that joins in the place of one that leaves is whole."""
    return joins == NO_TARGET or joins in chain.in_state(PublicState.SERVING)


def members_of(chain: Chain) -> set[TargetId]:
    """Return the targets of a chain."""
    return {place.target for place in chain.targets}


def state_in(chain: Chain, target: TargetId) -> PublicState:
    """Return the state of one of a chain's targets."""
    return next(place.state for place in chain.targets if place.target == target)
