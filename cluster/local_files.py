"""The directory of a cluster on this machine: what runs there, as files say it.

DIRECTORY/
    cluster.json        what runs: {"format_version": 2, "url": ..., "settings": {...},
                        "mgmtd": PROCESS, "nodes": [PROCESS, ...]}
    secret              where one was asked for
    mgmtd/              log, ready.json, and the metadata
    node-1/             node.toml, log, ready.json, and its targets: target-1 ...

    PROCESS             {"node", "pid", "started", "address", "metrics", "directory", "log"};
                        mgmtd's node is 0

Files appear whole.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from kvstore.cluster.processes import ProcessId
from kvstore.errors import KVStoreError

FORMAT_VERSION = 2
LOG_LINES_SHOWN = 20
MGMTD = 0
"""The number of mgmtd among the processes; nodes count from 1."""


class LocalClusterError(KVStoreError):
    """The processes of a directory cannot be started or found; `log_lines` say more, if any do."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        """Remember the end of the log that tells why."""
        super().__init__(message if log is None else f"{message}: see {log}")
        self.log_lines = "" if log is None else last_lines(log)


@dataclass(frozen=True, slots=True)
class LocalProcess:
    """One process of cluster.json."""

    node: int
    pid: int
    started: int
    """When the process started, in clock ticks: a pid alone may be somebody else's by now."""
    address: str
    metrics: str
    directory: str
    log: str

    @property
    def process(self) -> ProcessId:
        """Whom signals go to."""
        return ProcessId(self.pid, self.started)

    @property
    def name(self) -> str:
        """What messages call it."""
        return name_of(self.node)


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """What cluster.json says."""

    url: str
    settings: dict[str, object]
    """The number of nodes, of targets of each, of replicas, and keys of node.toml."""
    mgmtd: LocalProcess
    nodes: tuple[LocalProcess, ...]


def name_of(node: int) -> str:
    """Return what messages call a process."""
    return f"node {node}" if node else "mgmtd"


def read_cluster(directory: Path) -> LocalCluster | None:
    """Return what is in a directory; None where nothing is."""
    path = directory / "cluster.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format_version"] != FORMAT_VERSION:
            raise LocalClusterError(
                f"{path}: format version {found['format_version']}, not {FORMAT_VERSION}: use the"
                " release that made it, or another directory"
            )
        nodes = tuple(LocalProcess(**node) for node in found["nodes"])
        mgmtd = LocalProcess(**found["mgmtd"])
        return LocalCluster(found["url"], found["settings"], mgmtd, nodes)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LocalClusterError(f"{path} is no cluster.json: {error!r}") from error


def write_cluster(directory: Path, cluster: LocalCluster) -> None:
    """Write cluster.json."""
    content = {"format_version": FORMAT_VERSION, **asdict(cluster)}
    fresh = directory / ".cluster.json.new"
    fresh.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(fresh, directory / "cluster.json")


def read_ready(home: Path) -> dict[str, object] | None:
    """Return what a process says once it serves; of its addresses, the first."""
    try:
        found = json.loads((home / "ready.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    listen = found["listen"]
    return {**found, "listen": listen[0] if isinstance(listen, list) else listen}


def last_lines(log: Path) -> str:
    """Return the end of a log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES_SHOWN:])


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Keep other commands away from a directory."""
    with (directory / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LocalClusterError(
                f"another command starts or stops the nodes of {directory}"
            ) from error
        yield
