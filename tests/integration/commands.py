"""Running the command: in this process, where that will do, or in one of its own."""

import io
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from kvstore.commands.main import main

SCRIPT = "import sys; from kvstore.commands.main import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self) -> Any:
        """The last line of stdout, which must be an object."""
        found = json.loads(self.out.splitlines()[-1])
        assert isinstance(found, dict)
        return found


class Shell:
    """Runs commands in this process."""

    def __init__(
        self, capture: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._capture = capture
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: object, stdin: bytes = b"") -> Ended:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self._capture.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = self._capture.readouterr()
        return Ended(code, captured.out, captured.err.decode())


def heed_interruption() -> None:
    """Take SIGINT as a shell's foreground does: a background job hands down that it is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interruption,
    )
