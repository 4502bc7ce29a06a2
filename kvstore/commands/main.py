"""The entry of the command kvstore: nothing is imported before an interruption can end cleanly."""

import sys
from collections.abc import Sequence

INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process; the exit code."""
    try:
        from kvstore.commands.app import run

        return run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("kvstore: interrupted\n")
        return INTERRUPTED
