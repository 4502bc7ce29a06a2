"""A worker as its owner sees it: a process that performs commands.

Guarantees: leaving the context ends the process; a command that fails, or takes longer than
COMMAND_TIMEOUT_S, is a ContestantError.
"""

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tools.bench.failures import ContestantError

ROOT = Path(__file__).resolve().parents[2]
COMMAND_TIMEOUT_S = 180
STOP_TIMEOUT_S = 30
LAST_WORDS_SIZE = 400


class Process:
    """A worker process."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Start a worker; what its libraries print goes to *log*."""
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                text=True,
                bufsize=1,
                start_new_session=True,  # kill() ends what it started, and Ctrl-C is its owner's
            )

    def call(self, command: str, **arguments: object) -> Mapping[str, float]:
        """Have a command performed and return its answer."""
        self.send(command, **arguments)
        found: Mapping[str, float] = self.receive()
        return found

    def send(self, command: str, **arguments: object) -> None:
        """Have a command performed; receive() is to be called next."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        except OSError as error:
            raise ContestantError(self._last_words()) from error

    def receive(self) -> Mapping[str, Any]:
        """Wait for the answer to the command that was sent, and return it."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], COMMAND_TIMEOUT_S)[0]:
            self.kill()
            raise ContestantError(f"no answer within {COMMAND_TIMEOUT_S} s")
        line = self._process.stdout.readline()
        if not line:
            raise ContestantError(self._last_words())
        result = json.loads(line)
        if "problem" in result:
            raise ContestantError(str(result["problem"]))
        answer: Mapping[str, Any] = result["answer"]
        return answer

    def kill(self) -> None:
        """End it and what it started as kill -9 does, and wait until it is gone."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it in order; kill it when it takes too long."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process.stdout.close()

    def _last_words(self) -> str:
        self._process.wait()
        text = self._log.read_text(encoding="utf-8", errors="replace").strip()
        return f"the process ended with {self._process.returncode}: {text[-LAST_WORDS_SIZE:]}"


@contextmanager
def process(command: Sequence[str], log: Path) -> Iterator[Process]:
    """Start a worker and end it."""
    started = Process(command, log)
    try:
        yield started
    finally:
        started.stop()
