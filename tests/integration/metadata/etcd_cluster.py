"""A real etcd for tests: some members on loopback, on ports that the kernel chooses."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

START_TIMEOUT_S = 60.0
STARTS_MAX = 3
ELECTION_MS = 500
HEARTBEAT_MS = 50


@dataclass(slots=True)
class Member:
    """One process of etcd."""

    name: str
    client_port: int
    process: subprocess.Popen[bytes]
    command: list[str]
    stopped: bool = False

    @property
    def killed(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        """End it as a crash would, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start it again with what it has on disk."""
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def pause(self) -> None:
        """Hang it: it keeps its connections and answers nothing."""
        self.stopped = True
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.stopped = False
        os.kill(self.process.pid, signal.SIGCONT)


@dataclass(slots=True)
class EtcdCluster:
    """Members that form one etcd."""

    members: list[Member] = field(default_factory=list)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(f"127.0.0.1:{member.client_port}" for member in self.members)

    def leader(self) -> Member:
        """Return the member that leads, once one does."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            for member in self.members:
                answer = post(member, "maintenance/status")
                if answer and answer.get("leader", "0") == header_of(answer)["member_id"]:
                    return member
            time.sleep(0.05)
        raise AssertionError("no member leads")

    def pause(self) -> None:
        for member in self.members:
            member.pause()

    def resume(self) -> None:
        for member in self.members:
            if member.stopped:
                member.resume()

    def restart(self) -> None:
        """Start every killed member again."""
        for member in self.members:
            if member.killed:
                member.restart()

    def close(self) -> None:
        for member in self.members:
            member.kill()


@contextmanager
def etcd_cluster(folder: Path, count: int, *extra: str) -> Iterator[EtcdCluster]:
    """Run an etcd while the context lasts; another process may take a port before it does."""
    for attempt in range(STARTS_MAX):
        with ExitStack() as stack:
            cluster = start(folder / str(attempt), count, *extra)
            stack.callback(cluster.close)
            if ready(cluster):
                yield cluster
                return
    raise AssertionError(f"etcd does not start, see {folder}")


def installed() -> bool:
    return shutil.which("etcd") is not None


def start(folder: Path, count: int, *extra: str) -> EtcdCluster:
    folder.mkdir(parents=True)
    ports = free_ports(2 * count)
    clients, others = ports[:count], ports[count:]
    names = [f"n{index}" for index in range(count)]
    initial = ",".join(
        f"{name}=http://127.0.0.1:{port}" for name, port in zip(names, others, strict=True)
    )
    cluster = EtcdCluster()
    for name, client, other in zip(names, clients, others, strict=True):
        command = [
            "etcd",
            *("--name", name, "--data-dir", str(folder / name), "--logger", "zap"),
            *("--listen-client-urls", f"http://127.0.0.1:{client}"),
            *("--advertise-client-urls", f"http://127.0.0.1:{client}"),
            *("--listen-peer-urls", f"http://127.0.0.1:{other}"),
            *("--initial-advertise-peer-urls", f"http://127.0.0.1:{other}"),
            *("--initial-cluster", initial, "--initial-cluster-token", str(folder)),
            *("--heartbeat-interval", str(HEARTBEAT_MS)),
            *("--election-timeout", str(ELECTION_MS)),
            *extra,
        ]
        with (folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        cluster.members.append(Member(name, client, process, command))
    return cluster


def ready(cluster: EtcdCluster) -> bool:
    """Wait until every member takes part; False as soon as one has given up."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    waiting = list(cluster.members)
    while waiting and time.monotonic() < deadline_s:
        if any(member.process.poll() is not None for member in waiting):
            return False
        waiting = [member for member in waiting if not post(member, "kv/range", key="AA==")]
        time.sleep(0.05)
    return not waiting


def post(member: Member, what: str, **fields: str) -> dict[str, object]:
    """Ask a member by HTTP; an empty answer when it has none."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{member.client_port}/v3/{what}", json.dumps(fields).encode()
    )
    try:
        with urllib.request.urlopen(request, timeout=1) as response:
            answer = json.loads(response.read())
    except (OSError, urllib.error.URLError, ValueError):
        return {}
    assert isinstance(answer, dict)
    return answer


def header_of(answer: dict[str, object]) -> dict[str, object]:
    header = answer["header"]
    assert isinstance(header, dict)
    return header


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
