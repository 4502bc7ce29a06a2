"""Real node processes for tests: start, look at, kill and start again; each `kvstore storage`.

A node's log comes through a named pipe, so that a test waits for a line and not for time to pass.
"""

import json
import os
import re
import select
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any

from integration import node_child

DEADLINE_S = 60.0
"""For what is bound to happen, on a machine however busy."""
OPTIONS: Mapping[str, object] = {"memory": "96MiB", "capacity": "256MiB", "log_level": "info"}
METRIC = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")

Line = dict[str, Any]


class Log:
    """Lines of a node's log, as they come; the end of the pipe is the end of the node."""

    def __init__(self, pipe: Path) -> None:
        self.lines: list[Line] = []
        self.ended = False
        self._since = 0
        self._pipe = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._came = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def start(self) -> None:
        """Read from now on: the node has its end of the pipe open, or is about to."""
        self._reader.start()

    def close(self) -> None:
        """After the node has ended."""
        self._reader.join(DEADLINE_S)
        os.close(self._pipe)

    def _read(self) -> None:
        rest = b""
        while True:
            select.select([self._pipe], [], [])
            try:
                data = os.read(self._pipe, 1 << 16)
            except BlockingIOError:
                continue
            *lines, rest = (rest + data).split(b"\n")
            with self._came:
                self.lines += [line_of(line) for line in lines]
                self.ended = not data
                self._came.notify_all()
            if not data:
                return

    def mark(self) -> None:
        """Search only what comes from now on: ports of closed connections are given again."""
        with self._came:
            self._since = len(self.lines)

    def wait(self, wanted: Callable[[Line], bool]) -> Line:
        """Return the first line since the mark that is wanted, which may have come already."""
        seen, deadline = self._since, time.monotonic() + DEADLINE_S
        with self._came:
            while True:
                for line in self.lines[seen:]:
                    if wanted(line):
                        return line
                seen = len(self.lines)
                assert not self.ended, f"the node ended: {self.lines[-3:]}"
                assert self._came.wait(deadline - time.monotonic()), "no such line"

    def wait_about(self, address: str) -> Line:
        """Return the line about a connection, by its address."""
        return self.wait(lambda line: line.get("about", "").startswith(f"{address}: "))

    def count_about(self, address: str) -> int:
        """Return how many lines since the mark are about a connection."""
        with self._came:
            lines = self.lines[self._since :]
            return sum(line.get("about", "").startswith(f"{address}: ") for line in lines)


def line_of(line: bytes) -> Line:
    """Return a line of the log; what is no JSON, such as an assertion that failed, as "event"."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"event": line.decode(errors="replace")}


class Starter:
    """Forks nodes; all are gone when it is closed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, node_child.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> "Starter":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate(timeout=DEADLINE_S)

    def fork(self, log: Path, *arguments: str) -> int:
        """Return the pid of a new node."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(log), *arguments]).encode() + b"\n")
        self._process.stdin.flush()
        born, pid = self._process.stdout.readline().split()
        assert born == b"born"
        return int(pid)


class Node:
    """One node, of one target; it may be killed and started again at the same port."""

    def __init__(self, starter: Starter, directory: Path, **options: object) -> None:
        self.directory = directory
        self.port = 0
        self.metrics_address = ""
        self._starter = starter
        self._options = {"metrics": "127.0.0.1:0", "log": "json", **OPTIONS, **options}
        self._descriptor = -1
        self.pid = 0
        self.start()

    def __enter__(self) -> "Node":
        return self

    def __exit__(self, *error: object) -> None:
        if self._descriptor >= 0:
            self.kill()

    def start(self, **options: object) -> None:
        """Start it, with other options if there are any; returns when it serves."""
        assert self._descriptor < 0
        self.directory.mkdir(exist_ok=True)
        pipe, config = self.directory / "log", self.directory / "node.toml"
        self._options.update(options)
        options = {**self._options, "listen": f"127.0.0.1:{self.port}"}
        rows = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
        config.write_text("\n".join([*rows, "[[targets]]", 'directory = "target"']) + "\n")
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        self.log = Log(pipe)
        self.pid = self._starter.fork(pipe, "--config", str(config))
        self._descriptor = os.pidfd_open(self.pid)
        self.log.start()
        said = self.log.wait(lambda line: line["event"] == "serving")
        self.port = int(said["listen"][0].rpartition(":")[2])
        self.metrics_address = said["metrics"]
        self.code = said["code"]

    @property
    def url(self) -> str:
        """Where clients find it."""
        secret = self._options.get("secret_file")
        return f"kv://127.0.0.1:{self.port}/default" + (f"?secret_file={secret}" if secret else "")

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return not select.select([self._descriptor], [], [], 0)[0]

    def end(self, number: Signals) -> None:
        """Send a signal that ends it, wait for the end."""
        os.kill(self.pid, number)
        self.bury()

    def bury(self) -> None:
        """Wait for the end of a node that was sent a signal."""
        assert select.select([self._descriptor], [], [], DEADLINE_S)[0], "the node does not end"
        os.close(self._descriptor)
        self._descriptor = -1
        self.log.close()

    def kill(self) -> None:
        """kill -9."""
        self.end(SIGKILL)

    def stop(self) -> None:
        """Ask it to end."""
        self.end(SIGTERM)

    def metrics(self) -> dict[str, float]:
        """Scrape it: by name, with the labels as they are written."""
        with urllib.request.urlopen(
            f"http://{self.metrics_address}/metrics", timeout=DEADLINE_S
        ) as page:
            text = page.read().decode()
        found = (METRIC.fullmatch(line) for line in text.splitlines())
        return {
            f"{match[1]}{{{match[2]}}}" if match[2] else match[1]: float(match[3])
            for match in found
            if match
        }

    def wait_until(self, reached: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """Scrape until the metrics say so."""
        deadline = time.monotonic() + DEADLINE_S
        while not reached(found := self.metrics()):
            assert time.monotonic() < deadline, found
        return found

    def memory(self) -> int:
        """Bytes of RAM that are its own: without file pages, which others could have."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^RssAnon:\s+(\d+) kB$", text, re.MULTILINE)
        assert found
        return int(found[1]) << 10
