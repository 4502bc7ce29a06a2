"""Processes that outlive the command which started them, told from others that got their pid later.

Guarantees: a signal goes to the process that was meant or to none: its start time is compared while
a pidfd holds on to it.
"""

import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

STATE_FIELD = 0
STARTED_FIELD = 19
"""Of /proc/PID/stat, counted behind the name, which may hold spaces."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A pid, and when its process started, in clock ticks since the machine did."""

    pid: int
    started: int

    @property
    def running(self) -> bool:
        """Whether it is there, and no zombie."""
        return started_of(self.pid) == self.started


def started_of(pid: int) -> int | None:
    """Return when the process of this pid started; None where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[STATE_FIELD] in "ZX" else int(fields[STARTED_FIELD])


def identify(pid: int) -> ProcessId | None:
    """Return the process of a pid, if it runs."""
    started = started_of(pid)
    return None if started is None else ProcessId(pid, started)


@contextmanager
def held(process: ProcessId) -> Iterator[int | None]:
    """Hold on to a process by a pidfd; None where it does not run any more."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor if process.running else None
    finally:
        os.close(descriptor)


def send_signal(process: ProcessId, number: signal.Signals) -> bool:
    """Send a signal; whether the process was there to get it."""
    with held(process) as descriptor, suppress(ProcessLookupError):
        if descriptor is not None:
            signal.pidfd_send_signal(descriptor, number)
            return True
    return False


def wait_for_end(processes: Sequence[ProcessId], timeout_s: float) -> list[ProcessId]:
    """Return the processes that still run when all have ended, or *timeout_s* has passed."""
    deadline = time.monotonic() + timeout_s
    left = []
    for process in processes:
        with held(process) as descriptor:
            if descriptor is None:
                continue
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                left.append(process)
    return left


def stop(processes: Sequence[ProcessId], timeout_s: float) -> list[ProcessId]:
    """Ask processes to end, and kill those that have not within *timeout_s*; returns these."""
    for process in processes:
        send_signal(process, signal.SIGTERM)
    left = wait_for_end(processes, timeout_s)
    for process in left:
        send_signal(process, signal.SIGKILL)
    wait_for_end(left, timeout_s)
    return left
