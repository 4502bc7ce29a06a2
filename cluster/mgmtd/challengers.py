"""Later starts of nodes whose earlier one may live yet: who waits, and what becomes of them. Pure.

A later start joins when the earlier one is dead. It is refused when the earlier one is heard again:
two nodes have one id.
"""

from collections.abc import Callable
from dataclasses import dataclass

from kvstore.cluster.ids import NodeId
from kvstore.cluster.mgmtd.events import Effect, Note, Refuse, Register
from kvstore.cluster.routing import Node
from kvstore.errors import KVTimeoutError, RegistrationError


@dataclass(frozen=True, slots=True)
class Waiting:
    """A registration that waits."""

    event: Register
    since_ns: int


class Challengers:
    """At most one for each node."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._waiting: dict[NodeId, Waiting] = {}

    def add(self, event: Register, now_ns: int) -> list[Effect]:
        """Let a start wait, in the place of one that waited before."""
        id = event.registration.id
        before = self._waiting.get(id)
        self._waiting[id] = Waiting(event, now_ns)
        if before is None:
            return []
        if before.event.registration.incarnation == event.registration.incarnation:
            return [late(before.event.ticket)]
        return refused(before.event, f"two more starts of node {id} register: stop one of them")

    def earlier_lives(self, node: Node, after_ns: int, now_ns: int) -> list[Effect]:
        """Refuse who waits, as the earlier start was heard.

        Not within `after_ns`: a heartbeat that was on its way already proves nothing.
        """
        waiting = self._waiting.get(node.id)
        if waiting is None or now_ns - waiting.since_ns < after_ns:
            return []
        del self._waiting[node.id]
        return refused(
            waiting.event,
            f"node {node.id} is alive at {', '.join(node.addresses)}: two nodes have one id; stop"
            " that one, or give this one an id of its own",
        )

    def admitted(
        self, is_alive: Callable[[NodeId], bool], now_ns: int
    ) -> tuple[list[Register], list[Effect]]:
        """Return those whose earlier start is dead, and tell those who have waited too long."""
        registers: list[Register] = []
        effects: list[Effect] = []
        for id, waiting in list(self._waiting.items()):
            if now_ns >= waiting.event.deadline_ns:
                effects.append(late(waiting.event.ticket))
            elif not is_alive(id):
                registers.append(waiting.event)
            else:
                continue
            del self._waiting[id]
        return registers, effects


def refused(event: Register, why: str) -> list[Effect]:
    """Return what tells a node, and the log, that it may not join."""
    about = {"node": event.registration.id, "why": why}
    return [
        Note("registration refused", about, warning=True),
        Refuse(event.ticket, RegistrationError(why)),
    ]


def behind(event: Register, known: Node) -> list[Effect]:
    """Return what tells a node that it registers an earlier start than the one that is known."""
    behind_s = (known.incarnation - event.registration.incarnation) / 1e9
    return refused(
        event,
        f"node {known.id} registers a start {behind_s:.0f} s before the one that is known: set its"
        " clock right, and start it again",
    )


def late(ticket: int) -> Effect:
    """Return what tells that a request came to nothing in its time."""
    return Refuse(ticket, KVTimeoutError("mgmtd did not come to it in time: nothing was done"))
