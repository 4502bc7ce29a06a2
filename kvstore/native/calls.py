"""Which calls into a store are in progress, so that it is freed under none of them.

A call leaves a mark when it enters and takes one away when it leaves, which a list does in one step
without a lock; only whoever finds that the store takes no more calls goes by the lock.

States: open ──refuse()──► refusing ──when no call is in progress──► idle.
        any state ──fork, in the child──► forked, for good.

Guarantees: no call enters once refuse() returned; wait() returns when the last one left. In a
forked child nothing here touches the lock, which another thread of the parent may have held.
"""

import os
from threading import Condition, Lock
from types import TracebackType

from kvstore.errors import ForkedError, StoreClosedError


class Calls:
    """A context manager around each call; entering raises when the store takes no more."""

    __slots__ = ("_changed", "_directory", "_inside", "_owner_pid", "_shut", "forked")

    def __init__(self, directory: str) -> None:
        """Take calls from now on."""
        self._directory = directory
        self._changed = Condition(Lock())
        self._inside: list[None] = []
        self._shut = False
        self._owner_pid = os.getpid()
        self.forked = False

    def __enter__(self) -> None:
        """Count one call more."""
        if self.forked:
            self.check_not_forked()
        # The mark comes before the look: whoever shuts the store looks for marks after that.
        self._inside.append(None)
        if self._shut:
            self._inside.pop()
            self._tell()
            self.check()

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Count one call less; in a child that forked within the call there is nobody to tell."""
        self._inside.pop()
        if self._shut:
            self._tell()

    def _tell(self) -> None:
        """Wake whoever waits for the last call; it looks for marks with the lock held."""
        if not self.forked:
            with self._changed:
                self._changed.notify_all()

    @property
    def refusing(self) -> bool:
        """Whether refuse() was called."""
        return self._shut

    def check_not_forked(self) -> None:
        """Raise ForkedError in the child of a fork."""
        if self.forked:
            raise ForkedError(
                f"the store in {self._directory} was opened in process {self._owner_pid}, "
                f"and this is its forked child {os.getpid()}: open the store again in the child"
            )

    def check(self) -> None:
        """Raise what entering would raise."""
        if self.forked:
            self.check_not_forked()
        if self._shut:
            raise StoreClosedError(f"the store in {self._directory} is closed")

    def refuse(self) -> None:
        """Let no call enter any more."""
        self._shut = True

    def wait(self) -> None:
        """Return when no call is in progress; each ends by its own deadline."""
        assert self._shut
        with self._changed:
            self._changed.wait_for(lambda: not self._inside)
