"""Which spare joins a chain: one that fails with none of its targets, spread evenly. Pure."""

from collections import Counter
from collections.abc import Callable

from kvstore.cluster.ids import TargetId
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.placement.layout import Meetings, Place, Row, fits
from kvstore.cluster.routing import Chain
from kvstore.cluster.states import NodeState

Open = Callable[[TargetId], bool]
"""Says whether a target is there, and reported to be open."""


def place_of(draft: Draft, target: TargetId) -> Place:
    """Return what fails with a target."""
    node = draft.targets[target].node
    return Place(target, node, draft.nodes[node].rack)


def row_of(draft: Draft, chain: Chain) -> Row:
    """Return the places of a chain."""
    return tuple(place_of(draft, place.target) for place in chain.targets)


class Spares:
    """The targets that may join a chain now, while some of them are taken."""

    def __init__(self, draft: Draft, is_open: Open) -> None:
        """Look for them."""
        self._draft = draft
        taken = {joins for _, joins in draft.leaving.items() if joins}
        self.free = [
            place_of(draft, target.id)
            for target in draft.targets.values()
            if target.id not in taken and joinable(draft, target.id, is_open)
        ]
        self._meetings: Meetings | None = None

    def best(self, chain: Chain, leaves: TargetId | None) -> TargetId | None:
        """Return the one for a chain, in the place of one that leaves; None where none fits."""
        if not self.free:
            return None
        others = [place for place in row_of(self._draft, chain) if place.target != leaves]
        apart = self._apart(len(others) + 1)
        counts = Counter(place.node for place in self.free)
        fitting = [place for place in self.free if fits(place, others, apart=apart)]
        if not fitting:
            return None
        meetings = self._counted()
        found = min(
            fitting,
            key=lambda place: (
                -counts[place.node],
                meetings.with_all(place.node, others),
                place.target,
            ),
        )
        self.take(found.target)
        meetings.add([*others, found])
        return found.target

    def take(self, target: TargetId) -> None:
        """Note that it is no longer free."""
        self.free = [place for place in self.free if place.target != target]

    def _counted(self) -> Meetings:
        if self._meetings is None:
            rows = (row_of(self._draft, chain) for chain in self._draft.chains.values())
            self._meetings = Meetings(rows)
        return self._meetings

    def _apart(self, width: int) -> bool:
        racks = {node.rack for node in self._draft.nodes.values()}
        return len(racks) >= max(2, width)


def joinable(draft: Draft, id: TargetId, is_open: Open) -> bool:
    """Say whether a target may join a chain now."""
    return may_join(draft, id) and is_open(id)


def may_join(draft: Draft, id: TargetId) -> bool:
    """Say whether a target is in no chain, and its node takes part."""
    target, identity = draft.targets.get(id), draft.identities.get(id)
    if target is None or draft.chain_of(id) is not None or id in draft.leaving:
        return False
    if identity is None or identity.replaced_by is not None:
        return False
    return draft.nodes[target.node].state is NodeState.ACTIVE
