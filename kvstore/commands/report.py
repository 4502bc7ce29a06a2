"""What a command says, and to whom.

            people                  programs (--json)
  stdout    tables, coloured        one JSON object, the last line
  stderr    notes, progress bars and errors of one line each

Guarantees: whatever the world does to a command ends in one clear line and an exit code: 1 for a
failure, 2 for a command that was not understood. Leaves bugs alone: they keep their traceback.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from kvstore.client import InvalidOptionError, InvalidURLError, KVStoreError
from kvstore.commands.main import INTERRUPTED

FAILURE = 1
USAGE = 2
PIPE_CLOSED = 141
"""128 + SIGPIPE: who read stdout has seen enough."""
PLAIN_WIDTH = 120
"""Columns of tables that go to a file or a pipe."""


class Report:
    """Where one run of a command writes."""

    def __init__(self, *, as_json: bool) -> None:
        """Write tables, or with *as_json* one object."""
        self.as_json = as_json
        self._answered = False
        self._out = console_on(stderr=False)
        self._err = console_on(stderr=True)

    @property
    def interactive(self) -> bool:
        """Whether stdout is a terminal, where what was shown can change."""
        return self._out.is_terminal

    @property
    def console(self) -> Console:
        """Stdout, for what changes."""
        return self._out

    def show(self, shown: RenderableType) -> None:
        """Show a table or a line to people."""
        if not self.as_json:
            self._out.print(shown)

    def say(self, line: str) -> None:
        """Show a line to people that is never folded, so that it can be copied."""
        if not self.as_json:
            self._out.print(line, markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Say something on stderr that is not the result."""
        self._err.print(f"kvstore: {text}", style="yellow", markup=False, soft_wrap=True)

    def quote(self, lines: str) -> None:
        """Show on stderr, as they are, lines that somebody else wrote."""
        if lines:
            self._err.print(lines, style="dim", markup=False, soft_wrap=True)

    def answer(self, result: Mapping[str, object]) -> None:
        """Give programs the result. Call it once."""
        assert not self._answered
        self._answered = True
        if self.as_json:
            sys.stdout.write(json.dumps(result) + "\n")

    def fail(self, message: str) -> NoReturn:
        """End the command: it did what it could, and that was not enough."""
        self.end(message, kind="Failure", code=FAILURE)

    def end(self, message: str, *, kind: str, code: int) -> NoReturn:
        """End the command with an error of one line; programs get it as JSON, if nothing else."""
        line = " ".join(message.split())
        self._err.print(f"kvstore: {line}", style="bold red", markup=False, soft_wrap=True)
        if not self._answered:
            self.answer({"error": line, "kind": kind})
            sys.stdout.flush()
        raise typer.Exit(code)

    def progress(self) -> Progress:
        """Return a progress bar, shown on a terminal only and wiped when it is done."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=self._err,
            transient=True,
            disable=not self._err.is_terminal,
        )


def console_on(*, stderr: bool) -> Console:
    """Return a console; one that is no terminal gets a fixed width, so that output is stable."""
    console = Console(stderr=stderr, highlight=False)
    return (
        console
        if console.is_terminal
        else Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH)
    )


@contextmanager
def reporting(*, as_json: bool) -> Iterator[Report]:
    """Run a command's work, and turn what the world does to it into one line and an exit code."""
    report = Report(as_json=as_json)
    try:
        yield report
        sys.stdout.flush()
    except (InvalidURLError, InvalidOptionError) as error:
        report.end(str(error), kind=type(error).__name__, code=USAGE)
    except BrokenPipeError as error:
        discard_stdout()
        raise typer.Exit(PIPE_CLOSED) from error
    except (KVStoreError, MemoryError, OSError) as error:
        report.end(error_text(error), kind=type(error).__name__, code=FAILURE)
    except KeyboardInterrupt:
        report.end("interrupted", kind="Interrupted", code=INTERRUPTED)


def error_text(error: Exception) -> str:
    """Say what went wrong, with the file's name first where there is one."""
    if isinstance(error, OSError) and error.strerror:
        name = os.fsdecode(error.filename) if error.filename else "input or output"
        return f"{name}: {error.strerror}"
    return str(error) or type(error).__name__


def discard_stdout() -> None:
    """Send what is still buffered nowhere: the interpreter flushes stdout when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
