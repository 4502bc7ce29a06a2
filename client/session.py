"""One open store with the queues of its event loops, and the one way in which they end.

      open ──close()──► refusing ──nothing in flight──► queues closed ──► store closed
        └── nobody closed it: the finalizer does, with a ResourceWarning, also at interpreter exit

Guarantees: close() is idempotent, thread-safe and complete when it returns; a forked child closes
nothing. Leaves to others: what is asked of the store.
"""

import asyncio
import threading
import warnings
from weakref import finalize

from kvstore.client.completions import Completions
from kvstore.client.port import Port, open_port
from kvstore.client.size_hint import SizeHint
from kvstore.options import ClientOptions, StoreOptions

CLOSE_TIMEOUT_S = 30.0
"""How long close() lets batches in flight go on before it cancels them."""
UPKEEP_TIMEOUT_S = 60.0
"""How long a checkpoint or a compaction may take."""
EXIT_TIMEOUT_S = 1.0
"""The same when nobody closed the store."""


class Session:
    """An open store, shared by the threads and event loops that use it."""

    def __init__(self, options: StoreOptions | ClientOptions) -> None:
        """Open or make the store, or connect to it."""
        self.port: Port = open_port(options)
        self.size_hint = None if self.port.answers_at_once else SizeHint()
        self._completions: dict[asyncio.AbstractEventLoop, Completions] = {}
        self._changing = threading.Lock()
        self._closing = threading.Lock()
        self._closed = False

    def __repr__(self) -> str:
        """Show the store and its loops."""
        return f"<Session of {self.port!r} with {len(self._completions)} event loops>"

    def completions(self) -> Completions:
        """Return the queue of the running event loop, made at its first use."""
        loop = asyncio.get_running_loop()
        found = self._completions.get(loop)
        if found is not None:
            return found
        self.port.check_open()
        with self._changing:
            self._close_queues_of_closed_loops()
            made = Completions(self.port, loop)
            self._completions[loop] = made
        return made

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Take no new calls, end those in flight, close the store."""
        if self.port.forked:
            return
        with self._closing:
            if self._closed:
                return
            self.port.refuse()
            self._closed = True
            with self._changing:
                for completions in self._completions.values():
                    completions.drain(timeout_s)
                    completions.close()
                self._completions.clear()
            self.port.close(timeout_s)

    def _close_queues_of_closed_loops(self) -> None:
        for loop in [loop for loop in self._completions if loop.is_closed()]:
            completions = self._completions.pop(loop)
            completions.drain(0.0)
            completions.close()


def close_unclosed(session: Session, name: str) -> None:
    """Close what its owner forgot to close."""
    if session.port.forked:
        return
    try:
        warnings.warn(f"unclosed store: {name}", ResourceWarning, stacklevel=2)
    finally:
        session.close(EXIT_TIMEOUT_S)


def close_with(owner: object, session: Session) -> "finalize[[Session, str], object]":
    """Have the session closed when *owner* is garbage or the interpreter exits."""
    return finalize(owner, close_unclosed, session, repr(owner))
