"""One process under attack: started, signalled, started again, always the same command.

Guarantees: signals go to this process only, which the harness started and has not yet waited for.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tools.chaos.patience import slowness

END_TIMEOUT_S = 40.0
"""After which a member that was asked to end is killed, and the run fails."""


class MemberError(Exception):
    """A member did what it must not: it ended by itself, or did not end."""


class Member:
    """A process of the cluster, or a client."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        home: Path,
        *,
        clock_s: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start nothing yet. Its monotonic clock is *clock_s* ahead, where that is not 0."""
        self.name = name
        self.home = home
        self.log = home / "log"
        self._environment = {**os.environ, **(environment or {})}
        self._command = [*clock_command(clock_s), *command]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.expected_down = False
        """Whether a fault keeps it down."""

    def __repr__(self) -> str:
        """Show its name and pid."""
        return f"<Member {self.name} {self.pid}>"

    @property
    def pid(self) -> int:
        """Its pid; 0 when it does not run."""
        return 0 if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether it runs; one that is stopped by a signal does."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it."""
        with self._lock:
            assert not self.running
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    start_new_session=True,
                )
            self.expected_down = False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        with self._lock:
            if self._process is not None:
                self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.expected_down = True
        self.signal(signal.SIGKILL)
        self._wait(END_TIMEOUT_S * slowness())

    def stop(self) -> None:
        """Ask it to end, and wait until it has; raises MemberError when it does not."""
        self.ask_to_end()
        self.wait_for_end()

    def ask_to_end(self) -> None:
        """Ask it to end."""
        self.expected_down = True
        self.signal(signal.SIGTERM)

    def wait_for_end(self) -> None:
        """Wait until it has ended; raises MemberError when it does not, or failed."""
        try:
            self._wait(END_TIMEOUT_S * slowness())
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise MemberError(
                f"{self.name} did not end within {END_TIMEOUT_S:g} s: see {self.log}"
            ) from error

    def clean_up(self) -> None:
        """Kill it, whatever state it is in."""
        self.signal(signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            self.kill()

    def check(self) -> None:
        """Raise MemberError when it ended without being asked to."""
        if self._process is None or self.expected_down:
            return
        code = self._process.poll()
        if code is not None:
            raise MemberError(f"{self.name} ended by itself with code {code}: see {self.log}")

    def _wait(self, timeout_s: float) -> None:
        if self._process is not None:
            self._process.wait(timeout_s)


def clock_command(clock_s: int) -> tuple[str, ...]:
    """Return what gives a command a monotonic clock that is ahead, in place of itself."""
    if clock_s == 0:
        return ()
    return ("unshare", "--time", "--monotonic", str(clock_s), "--boottime", str(clock_s))
