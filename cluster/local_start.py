"""Starts the processes of a cluster on this machine, and waits until they serve."""

import json
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from kvstore.addresses import Address
from kvstore.cluster.local_files import (
    MGMTD,
    LocalClusterError,
    LocalProcess,
    name_of,
    read_ready,
)
from kvstore.cluster.processes import identify, stop

START_TIMEOUT_S = 60.0
"""Opening a target replays its journal, for seconds at most."""
STOP_TIMEOUT_S = 10.0
PORT_TIMEOUT_S = 2.0
"""How long to wait for the port that a process had, before it gets another one."""
DRAIN_TIMEOUT_S = 10.0
POLL_S = 0.01
LOOPBACK = "127.0.0.1"
KVSTORE = ("-P", "-m", "kvstore")
LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
NOT_OF_NODES = ("nodes", "targets_per_node", "replicas", "secret")
"""Settings that are no keys of node.toml."""


class Started:
    """The processes that this command has started."""

    def __init__(self, directory: Path, settings: Mapping[str, object]) -> None:
        """Start nothing yet."""
        self._directory = directory
        self._settings = settings
        self._deadline = time.monotonic() + START_TIMEOUT_S
        self.processes: dict[int, int] = {}
        """The pid of each node, and of mgmtd."""

    def start_mgmtd(self, known: LocalProcess | None) -> None:
        """Start mgmtd, at the address that it had if nobody took it meanwhile."""
        home = self._home(MGMTD)
        arguments = [
            *("--listen", str(address_for(known))),
            *("--metadata", f"file://{home / 'metadata'}"),
            *("--ready-file", str(home / "ready.json")),
            *("--metrics", f"{LOOPBACK}:0"),
            *("--log", "json"),
        ]
        if self._settings["secret"]:
            arguments += ["--secret-file", str(self._directory / "secret")]
        self._spawn(MGMTD, ["mgmtd", *arguments])

    def start_node(self, number: int, known: LocalProcess | None, mgmtd: str) -> None:
        """Start a node, at the address that it had if nobody took it meanwhile."""
        home = self._home(number)
        toml = node_toml(self._directory, number, self._settings, address_for(known), mgmtd)
        (home / "node.toml").write_text(toml, encoding="utf-8")
        self._spawn(number, ["storage", "--config", str(home / "node.toml")])

    def _home(self, number: int) -> Path:
        home = self._directory / (f"node-{number}" if number else "mgmtd")
        home.mkdir(exist_ok=True)
        (home / "ready.json").unlink(missing_ok=True)
        return home

    def _spawn(self, number: int, arguments: Sequence[str]) -> None:
        home = self._directory / (f"node-{number}" if number else "mgmtd")
        self.processes[number] = os.posix_spawn(
            sys.executable,
            [sys.executable, *KVSTORE, *arguments],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, home / "log", LOG_FLAGS, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )

    def wait(self, number: int) -> LocalProcess:
        """Return a process once it serves."""
        home = self._directory / (f"node-{number}" if number else "mgmtd")
        pid, name = self.processes[number], name_of(number)
        while (ready := read_ready(home)) is None:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self.processes[number]
                code = os.waitstatus_to_exitcode(status)
                raise LocalClusterError(
                    f"{name} ended with code {code} before it served", home / "log"
                )
            if time.monotonic() > self._deadline:
                raise LocalClusterError(
                    f"{name} does not serve after {START_TIMEOUT_S:.0f} s", home / "log"
                )
            time.sleep(POLL_S)
        identity = identify(pid)
        if identity is None:
            raise LocalClusterError(f"{name} ended right after its start", home / "log")
        return LocalProcess(
            node=number,
            pid=identity.pid,
            started=identity.started,
            address=str(ready["listen"]),
            metrics=str(ready.get("metrics") or ""),
            directory=str(home),
            log=str(home / "log"),
        )

    def stop(self) -> None:
        """Stop all of them."""
        found = (identify(pid) for pid in self.processes.values())
        stop([identity for identity in found if identity is not None], STOP_TIMEOUT_S)
        for pid in self.processes.values():
            os.waitpid(pid, 0)


def address_for(known: LocalProcess | None) -> Address:
    """Return where a process is to listen: where it was, or at any port."""
    address = Address(LOOPBACK, 0) if known is None else Address.parse(known.address)
    if address.port and not free_soon(address):
        return Address(LOOPBACK, 0)
    return address


def free_soon(address: Address) -> bool:
    """Return whether a process can listen at an address, now or in a moment.

    The kernel may go on closing the sockets of a process for a while after its end.
    """
    deadline = time.monotonic() + PORT_TIMEOUT_S
    while not free(address):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def free(address: Address) -> bool:
    """Return whether a process can listen at an address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.name, address.port))
        except OSError:
            return False
    return True


def node_toml(
    directory: Path, number: int, settings: Mapping[str, object], address: Address, mgmtd: str
) -> str:
    """Return the configuration of a node."""
    values: dict[str, object] = {
        "node": number,
        "mgmtd": mgmtd,
        "listen": str(address),
        "metrics": f"{LOOPBACK}:0",
        "ready_file": "ready.json",
        "log": "json",
        "drain_timeout_s": DRAIN_TIMEOUT_S,
    }
    if settings["secret"]:
        values["secret_file"] = str(directory / "secret")
    values |= {key: value for key, value in settings.items() if key not in NOT_OF_NODES}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    for target in targets_of(number, settings):
        lines += ["", "[[targets]]", f"target = {target}", f'directory = "target-{target}"']
    return "\n".join(lines) + "\n"


def targets_of(number: int, settings: Mapping[str, object]) -> range:
    """Return the targets of a node: they are numbered through."""
    count = whole(settings["targets_per_node"])
    return range((number - 1) * count + 1, number * count + 1)


def whole(value: object) -> int:
    """Return a setting that is a number."""
    if not isinstance(value, int):
        raise LocalClusterError(f"cluster.json: expected a number, got {value!r}")
    return value
