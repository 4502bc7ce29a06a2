"""Nodes on this machine, each a real process on loopback, kept in one directory.

DIRECTORY/
    cluster.json        what runs: {"format_version": 1, "url": ..., "settings": {...}, "nodes":
                        [{"node", "pid", "started", "address", "metrics", "directory", "log"}, ...]}
    routing.json        nodes and slots, see kvstore.cluster.routing_file
    secret              where one was asked for
    node-1/             node.toml, log, ready.json, and its targets: target-1 ...

Guarantees: when bring_up() returns, every node serves and publishes the routing info of all; when
it raises, whatever it started is stopped. Data stays where it is. Only processes that are in
cluster.json, and are still the same ones, are ever signalled.
"""

import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

from kvstore.addresses import Address
from kvstore.cluster.processes import ProcessId, identify, send_signal, stop
from kvstore.cluster.routing import RoutingInfo
from kvstore.cluster.routing_file import read_routing_file, write_routing_file
from kvstore.cluster.static_routing import even_slots, static_routing
from kvstore.errors import KVStoreError
from kvstore.shared_secret import read_or_make_secret

FORMAT_VERSION = 1
NODES_MAX = 64
TARGETS_MAX = 64
"""Of each node."""
START_TIMEOUT_S = 60.0
"""Opening a target replays its journal, for seconds at most."""
RELOAD_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
PORT_TIMEOUT_S = 2.0
"""How long to wait for the port that a node had, before it gets another one."""
DRAIN_TIMEOUT_S = 10.0
POLL_S = 0.01
LOG_LINES_SHOWN = 20
LOOPBACK = "127.0.0.1"
ARGUMENTS = ("-P", "-m", "kvstore", "storage", "--config")
LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class LocalClusterError(KVStoreError):
    """The nodes of a directory cannot be started or found; `log_lines` say more, where they do."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        """Remember the end of the log that tells why."""
        super().__init__(message if log is None else f"{message}: see {log}")
        self.log_lines = "" if log is None else last_lines(log)


@dataclass(frozen=True, slots=True)
class LocalNode:
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


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """What cluster.json says."""

    url: str
    settings: dict[str, object]
    """The number of nodes, of targets of each, and keys of node.toml."""
    nodes: tuple[LocalNode, ...]


def read_cluster(directory: Path) -> LocalCluster | None:
    """Return what is in a directory; None where nothing is."""
    path = directory / "cluster.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format_version"] != FORMAT_VERSION:
            raise LocalClusterError(f"{path}: format version {found['format_version']}, not 1")
        nodes = tuple(LocalNode(**node) for node in found["nodes"])
        return LocalCluster(found["url"], found["settings"], nodes)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LocalClusterError(f"{path} is no cluster.json: {error!r}") from error


def write_cluster(directory: Path, cluster: LocalCluster) -> None:
    """Write cluster.json, which appears whole."""
    content = {
        "format_version": FORMAT_VERSION,
        "url": cluster.url,
        "settings": cluster.settings,
        "nodes": [asdict(node) for node in cluster.nodes],
    }
    fresh = directory / ".cluster.json.new"
    fresh.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(fresh, directory / "cluster.json")


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


# Up.


def bring_up(directory: Path, settings: Mapping[str, object]) -> LocalCluster:
    """Start whatever does not run; *settings* win over those of an earlier time."""
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    with only_one(directory):
        earlier = read_cluster(directory)
        merged = merged_settings(directory, earlier, settings)
        if merged["secret"]:
            read_or_make_secret(directory / "secret")
        known = {node.node: node for node in earlier.nodes} if earlier else {}
        running = {number: node for number, node in known.items() if node.process.running}
        started = Started(directory, merged)
        try:
            for number in range(1, whole(merged["nodes"]) + 1):
                if number not in running:
                    started.start(number, known.get(number))
            nodes = running | {number: started.wait(number) for number in started.processes}
            cluster = LocalCluster(
                url_of(directory, merged, nodes),
                merged,
                tuple(nodes[number] for number in sorted(nodes)),
            )
            publish(directory, cluster)
        except BaseException:
            started.stop()
            raise
        write_cluster(directory, cluster)
        return cluster


def merged_settings(
    directory: Path, earlier: LocalCluster | None, settings: Mapping[str, object]
) -> dict[str, object]:
    """Return the settings to start with; slots do not move, so some stay as they are."""
    given = {key: value for key, value in settings.items() if value is not None}
    if earlier is None:
        return {"nodes": 1, "targets_per_node": 1, "secret": False, **given}
    for key in ("nodes", "targets_per_node"):
        if given.get(key, earlier.settings[key]) != earlier.settings[key]:
            raise LocalClusterError(
                f"{directory} holds a cluster with {key} {earlier.settings[key]}, "
                f"which keys are placed by: use another directory for {given[key]}"
            )
    return earlier.settings | given


def whole(value: object) -> int:
    """Return a setting that is a number."""
    if not isinstance(value, int):
        raise LocalClusterError(f"cluster.json: expected a number, got {value!r}")
    return value


def url_of(directory: Path, settings: Mapping[str, object], nodes: dict[int, LocalNode]) -> str:
    """Return the URL of the whole."""
    addresses = ",".join(nodes[number].address for number in sorted(nodes))
    secret = f"?secret_file={quote(str(directory / 'secret'))}" if settings["secret"] else ""
    return f"kv://{addresses}/default{secret}"


class Started:
    """The processes that this command has started."""

    def __init__(self, directory: Path, settings: Mapping[str, object]) -> None:
        """Start nothing yet."""
        self._directory = directory
        self._settings = settings
        self._deadline = time.monotonic() + START_TIMEOUT_S
        self.processes: dict[int, int] = {}
        """The pid of each node."""

    def start(self, number: int, known: LocalNode | None) -> None:
        """Start a node, at the address that it had if nobody took it meanwhile."""
        home = self._directory / f"node-{number}"
        home.mkdir(exist_ok=True)
        (home / "ready.json").unlink(missing_ok=True)
        address = Address(LOOPBACK, 0) if known is None else Address.parse(known.address)
        if address.port and not free_soon(address):
            address = Address(LOOPBACK, 0)
        (home / "node.toml").write_text(
            node_toml(self._directory, number, self._settings, address), encoding="utf-8"
        )
        self.processes[number] = os.posix_spawn(
            sys.executable,
            [sys.executable, *ARGUMENTS, str(home / "node.toml")],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, home / "log", LOG_FLAGS, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )

    def wait(self, number: int) -> LocalNode:
        """Return a node once it serves."""
        pid, home = self.processes[number], self._directory / f"node-{number}"
        while (ready := read_ready(home)) is None:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self.processes[number]
                code = os.waitstatus_to_exitcode(status)
                raise LocalClusterError(
                    f"node {number} ended with code {code} before it served", home / "log"
                )
            if time.monotonic() > self._deadline:
                raise LocalClusterError(
                    f"node {number} does not serve after {START_TIMEOUT_S:.0f} s", home / "log"
                )
            time.sleep(POLL_S)
        identity = identify(pid)
        if identity is None:
            raise LocalClusterError(f"node {number} ended right after its start", home / "log")
        return LocalNode(
            node=number,
            pid=identity.pid,
            started=identity.started,
            address=str(ready["listen"]),
            metrics=str(ready["metrics"]),
            directory=str(home),
            log=str(home / "log"),
        )

    def stop(self) -> None:
        """Stop all of them."""
        found = (identify(pid) for pid in self.processes.values())
        stop([identity for identity in found if identity is not None], STOP_TIMEOUT_S)
        for pid in self.processes.values():
            os.waitpid(pid, 0)


def free_soon(address: Address) -> bool:
    """Return whether a node can listen at an address, now or in a moment.

    The kernel may go on closing the sockets of a process for a while after its end.
    """
    deadline = time.monotonic() + PORT_TIMEOUT_S
    while not free(address):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def free(address: Address) -> bool:
    """Return whether a node can listen at an address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.name, address.port))
        except OSError:
            return False
    return True


def node_toml(
    directory: Path, number: int, settings: Mapping[str, object], address: Address
) -> str:
    """Return the configuration of a node."""
    values: dict[str, object] = {
        "node": number,
        "listen": str(address),
        "metrics": f"{LOOPBACK}:0",
        "ready_file": "ready.json",
        "log": "json",
        "drain_timeout_s": DRAIN_TIMEOUT_S,
    }
    if settings["secret"]:
        values["secret_file"] = str(directory / "secret")
    kept = ("nodes", "targets_per_node", "secret")
    values |= {key: value for key, value in settings.items() if key not in kept}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    for target in targets_of(number, settings):
        lines += ["", "[[targets]]", f"target = {target}", f'directory = "target-{target}"']
    routing = directory / "routing.json"
    return (routing_line(routing) if routing.exists() else "") + "\n".join(lines) + "\n"


def targets_of(number: int, settings: Mapping[str, object]) -> range:
    """Return the targets of a node: they are numbered through."""
    count = whole(settings["targets_per_node"])
    return range((number - 1) * count + 1, number * count + 1)


def read_ready(home: Path) -> dict[str, object] | None:
    """Return what a node says once it serves; of its addresses, the first."""
    try:
        found = json.loads((home / "ready.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return {**found, "listen": found["listen"][0]}


def last_lines(log: Path) -> str:
    """Return the end of a log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES_SHOWN:])


# Routing info.


def publish(directory: Path, cluster: LocalCluster) -> None:
    """Write the routing file where it is not as it should be, and wait until every node has it."""
    path = directory / "routing.json"
    routing = routing_of(cluster)
    known = read_routing_file(path) if path.exists() else None
    if known is not None and replace(known, version=routing.version) == routing:
        routing = known
    else:
        write_routing_file(path, routing)
    for node in cluster.nodes:
        add_routing_key(Path(node.directory) / "node.toml", path)
        if published_version(node) != routing.version:
            send_signal(node.process, signal.SIGHUP)
    deadline = time.monotonic() + RELOAD_TIMEOUT_S
    for node in cluster.nodes:
        while published_version(node) != routing.version:
            if not node.process.running or time.monotonic() > deadline:
                raise LocalClusterError(
                    f"node {node.node} has not taken the routing info", Path(node.log)
                )
            time.sleep(POLL_S)


def add_routing_key(toml: Path, routing: Path) -> None:
    """Name the routing file in a node's configuration, whose other keys stay."""
    text = toml.read_text(encoding="utf-8")
    line = routing_line(routing)
    if line not in text:
        toml.write_text(line + text, encoding="utf-8")


def routing_line(routing: Path) -> str:
    """Return the line of node.toml that names the routing file."""
    return f"routing = {json.dumps(str(routing), ensure_ascii=False)}\n"


def published_version(node: LocalNode) -> object:
    """Return the version of the routing info that a node publishes."""
    ready = read_ready(Path(node.directory))
    return None if ready is None else ready.get("routing_version")


def routing_of(cluster: LocalCluster) -> RoutingInfo:
    """Return all slots spread over all targets; a later one is a newer version."""
    targets = {
        target: node.node
        for node in cluster.nodes
        for target in targets_of(node.node, cluster.settings)
    }
    return static_routing(
        time.time_ns() // 1_000_000,
        {node.node: Address.parse(node.address) for node in cluster.nodes},
        targets,
        even_slots(sorted(targets)),
    )


# Down.


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of the nodes."""

    stopped: tuple[int, ...]
    killed: tuple[int, ...]
    not_running: tuple[int, ...]


def take_down(directory: Path, timeout_s: float) -> Stopped:
    """Stop every node that runs; those that do not end within *timeout_s* are killed."""
    directory = directory.absolute()
    if not directory.is_dir():
        raise LocalClusterError(f"{directory}: no such directory")
    with only_one(directory):
        cluster = read_cluster(directory)
        if cluster is None:
            raise LocalClusterError(f"{directory} holds no cluster: cluster.json is not there")
        running = {node.process: node.node for node in cluster.nodes if node.process.running}
        killed = {running[process] for process in stop(list(running), timeout_s)}
        numbers = {node.node for node in cluster.nodes}
        stopped = set(running.values()) - killed
        return Stopped(
            tuple(sorted(stopped)),
            tuple(sorted(killed)),
            tuple(sorted(numbers - stopped - killed)),
        )
