"""What the core tells of connections and targets, as lines of the log.

Guarantees: one line an event, and a bounded number of lines in a second: who connects and breaks
off in a loop fills no disk. What is left out is counted, in the log and in the metrics.
"""

import errno
from collections.abc import Callable, Iterable
from time import monotonic

from kvstore.node.config import LogLevel
from kvstore.node.log import Log
from kvstore.types import NodeEvent, NodeEventKind

LINES_PER_S_MAX = 200

SAID: dict[NodeEventKind, tuple[LogLevel, str]] = {
    NodeEventKind.CONNECTED: (LogLevel.DEBUG, "connected"),
    NodeEventKind.DISCONNECTED: (LogLevel.DEBUG, "disconnected"),
    NodeEventKind.REFUSED: (LogLevel.WARNING, "connection refused"),
    NodeEventKind.CUT_STALLED: (LogLevel.WARNING, "connection cut: stalled"),
    NodeEventKind.CUT_IDLE: (LogLevel.DEBUG, "connection cut: idle"),
    NodeEventKind.CUT_PROTOCOL: (LogLevel.WARNING, "connection cut: it breaks the protocol"),
    NodeEventKind.CUT_RESET: (LogLevel.INFO, "connection broke"),
    NodeEventKind.TARGET_OFFLINE: (LogLevel.ERROR, "target offline"),
    NodeEventKind.PEER_LOST: (LogLevel.WARNING, "a node of the chain does not answer"),
    NodeEventKind.SYNCED: (LogLevel.INFO, "target up to date"),
    NodeEventKind.VALUE_LOST: (LogLevel.ERROR, "value lost"),
}


class EventLog:
    """Writes events to a log."""

    def __init__(self, log: Log, clock: Callable[[], float] = monotonic) -> None:
        """Write to *log*."""
        self.log = log
        self._clock = clock
        self._second = clock()
        self._lines = 0
        self._left_out = 0

    def write(self, events: Iterable[NodeEvent]) -> None:
        """Write a line for each event, within the limit; that a target is offline always."""
        for event in events:
            level, text = SAID[event.kind]
            if not self.log.is_enabled_for(level):
                continue
            if self._full() and event.kind is not NodeEventKind.TARGET_OFFLINE:
                self._left_out += 1
                continue
            self._lines += 1
            more = {"error": errno.errorcode.get(event.error, event.error)} if event.error else {}
            self.log.log(
                level, text, about=event.text, connection=event.connection, at=event.time_s, **more
            )

    def _full(self) -> bool:
        """Return whether this second has all its lines; a new one first tells of the last."""
        now = self._clock()
        if now - self._second >= 1:
            self._second, self._lines = now, 0
            self.tell_left_out()
        return self._lines >= LINES_PER_S_MAX

    def tell_left_out(self) -> None:
        """Write how many events had no line, if there were any."""
        if self._left_out:
            self.log.warning("events left out of the log", count=self._left_out)
            self._left_out = 0
