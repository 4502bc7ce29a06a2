"""Starts nodes for tests: a fork server whose children are `kvstore storage`, imported beforehand.

Standard input has one order a line, a JSON list: [log file, argument ...]. For each, a child is
forked that runs the command with its stderr in the log file; `born PID` is reported on standard
output. When standard input ends, every child that is left is killed.
"""

import json
import os
import signal
import sys
from contextlib import suppress

import kvstore.node.daemon  # noqa: F401 - imported once for all children
from kvstore.commands.main import main


def become_node(log: str, arguments: list[str]) -> None:
    """Run the command in this child, until it ends or is killed."""
    quiet = os.open(os.devnull, os.O_RDWR)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor, source in ((0, quiet), (1, quiet), (2, out)):
        os.dup2(source, descriptor)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os._exit(main(["storage", *arguments]))


def serve() -> None:
    """Fork a child for each order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children = []
    for line in sys.stdin:
        log, *arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            become_node(log, arguments)
        children.append(child)
        os.write(1, b"born %d\n" % child)
        children = [pid for pid in children if os.waitpid(pid, os.WNOHANG) == (0, 0)]
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


if __name__ == "__main__":
    serve()
