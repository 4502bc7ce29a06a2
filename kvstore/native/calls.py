"""Which calls into a store are in progress, so that it is freed under none of them.

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

    __slots__ = ("_changed", "_count", "_directory", "_lock", "_owner_pid", "_refusing", "forked")

    def __init__(self, directory: str) -> None:
        """Take calls from now on."""
        self._directory = directory
        # Each call takes it twice: the lock itself costs a tenth of the condition around it.
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._count = 0
        self._refusing = False
        self._owner_pid = os.getpid()
        self.forked = False

    def __enter__(self) -> None:
        """Count one call more."""
        if self.forked:
            self.check_not_forked()
        with self._lock:
            if self._refusing:
                raise StoreClosedError(f"the store in {self._directory} is closed")
            self._count += 1

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Count one call less; in a child that forked within the call there is nobody to tell."""
        if self.forked:
            return
        with self._lock:
            self._count -= 1
            if self._refusing and self._count == 0:
                self._changed.notify_all()

    @property
    def refusing(self) -> bool:
        """Whether refuse() was called."""
        return self._refusing

    def check_not_forked(self) -> None:
        """Raise ForkedError in the child of a fork."""
        if self.forked:
            raise ForkedError(
                f"the store in {self._directory} was opened in process {self._owner_pid}, "
                f"and this is its forked child {os.getpid()}: open the store again in the child"
            )

    def check(self) -> None:
        """Raise what entering would raise."""
        self.check_not_forked()
        if self._refusing:
            raise StoreClosedError(f"the store in {self._directory} is closed")

    def refuse(self) -> None:
        """Let no call enter any more."""
        with self._lock:
            self._refusing = True

    def wait(self) -> None:
        """Return when no call is in progress; each ends by its own deadline."""
        assert self._refusing
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0)
