"""What a fork does to open stores: the child gives them up at once, and the parent notices nothing.

The interpreter keeps hooks for ever and cannot take one back, so one hook serves every store of the
process, through a set that holds none of them alive.
"""

import os
from functools import cache, partial
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """What the child of a fork must give up."""

    def abandon(self) -> None:
        """Give up inherited descriptors without touching a file or a lock."""


def abandon_all(stores: WeakSet[Forkable]) -> None:
    """Abandon every store, in the child."""
    for store in tuple(stores):
        store.abandon()
    stores.clear()


@cache
def open_stores() -> WeakSet[Forkable]:
    """Return the set of the process, whose hook is installed by the first call."""
    stores: WeakSet[Forkable] = WeakSet()
    os.register_at_fork(after_in_child=partial(abandon_all, stores))
    return stores
