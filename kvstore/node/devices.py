"""Which targets are left out of their chains because their devices do not answer. Pure.

    taking part ──no operation ends for STUCK_MS, and another serves──► left out
    left out ──well for WELL_S, or no other serves any more──► taking part

Guarantees: a target that is left out reports OFFLINE, so its chain goes on without it, and what it
missed comes by resync; the last copy is never left out. Leaves to others: clients, whose reads go
elsewhere from a slow target by themselves.
"""

from collections.abc import Iterable

from kvstore.cluster.ids import TargetId
from kvstore.cluster.routing import Chain, RoutingInfo
from kvstore.cluster.states import PublicState
from kvstore.types import ChainState

SLOW_MS = 1000
"""A device with an operation that is out for so long is slow: operators are told."""
STUCK_MS = 5000
"""A device of which no operation ends for so long does not answer."""
NO_ROOM_MS = 5000
"""A target that joins and takes nothing for so long is too small: operators are told."""
WELL_S = 5.0
"""How long a device must not be slow before its target comes back."""

assert SLOW_MS < STUCK_MS


class Devices:
    """What is known of the devices of a node's targets."""

    def __init__(self) -> None:
        """Leave nothing out."""
        self._slow_s: dict[TargetId, float] = {}

    @property
    def left_out(self) -> frozenset[TargetId]:
        """The targets whose devices do not answer."""
        return frozenset(self._slow_s)

    def look(self, states: Iterable[ChainState], routing: RoutingInfo, now_s: float) -> None:
        """Judge by how the targets are now."""
        for state in states:
            target = TargetId(state.target)
            if target in self._slow_s:
                self._look_again(target, state, routing, now_s)
            elif state.io_silent_ms >= STUCK_MS and others_serving(routing, target):
                self._slow_s[target] = now_s

    def _look_again(
        self, target: TargetId, state: ChainState, routing: RoutingInfo, now_s: float
    ) -> None:
        if state.io_oldest_ms >= SLOW_MS:
            self._slow_s[target] = now_s
        well = now_s - self._slow_s[target] >= WELL_S
        if well or not others_serving(routing, target):
            del self._slow_s[target]


def others_serving(routing: RoutingInfo, target: TargetId) -> tuple[TargetId, ...]:
    """Return who else serves what a target holds, head first."""
    chain = chain_of(routing, target)
    if chain is None:
        return ()
    return tuple(other for other in chain.in_state(PublicState.SERVING) if other != target)


def chain_of(routing: RoutingInfo, target: TargetId) -> Chain | None:
    """Return the chain that a target is in."""
    return next(
        (
            chain
            for chain in routing.chains.values()
            if any(place.target == target for place in chain.targets)
        ),
        None,
    )


def remark_on(state: ChainState) -> str:
    """Return what operators should know of a target that takes part; "" where all is well."""
    remarks: list[str] = []
    if state.io_oldest_ms >= SLOW_MS:
        remarks.append("its device is slow")
    if state.resync_vain_ms >= NO_ROOM_MS:
        remarks.append(
            f"its successor has had no room for {state.resync_vain_ms // 1000} s for what it lacks:"
            " unpin or delete objects, or replace that target by a larger one"
        )
    if state.damaged:
        remarks.append(f"{state.damaged} damaged values")
    return ", ".join(remarks)
