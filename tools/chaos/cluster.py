"""The cluster under attack, as the harness starts it: storage nodes, mgmtd and clients, as members.

    DIRECTORY/
        node-1/          node.toml, log, ready.json, disk/target-1 ...
        routing.json     where there is no mgmtd
        clients/         a history and a log of each client

Members that do not run are started by the same command, in the same place, with the same data.
"""

import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from kvstore.addresses import Address
from kvstore.cluster.routing_file import write_routing_file
from kvstore.cluster.static_routing import even_slots, static_routing
from tools.chaos.member import Member, MemberError
from tools.chaos.network import Network
from tools.chaos.schedule import ClusterShape

PORT = 7400
METRICS_PORT = 9400
START_TIMEOUT_S = 60.0
POLL_S = 0.01
CLOCK_STEP_S = 1_000_003
"""Members' monotonic clocks are so far apart, as if their machines had started on other days."""
LOOPBACK = "127.0.0.1"
DISK = "disk"
CLIENTS = "clients"
DRAIN_TIMEOUT_S = 10.0


class ClusterError(Exception):
    """The cluster is not what it has to be, although no fault is left."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member runs."""

    address: Address
    prefix: tuple[str, ...]
    """What starts a command there."""


class Cluster:
    """All members of one run."""

    def __init__(self, directory: Path, shape: ClusterShape, network: Network | None) -> None:
        """Make places and configurations; start nothing yet."""
        self.directory = directory
        self.shape = shape
        self.network = network
        self.members: dict[str, Member] = {}
        self._places: dict[str, Place] = {}
        for name in self._names():
            self._places[name] = self._new_place(name)
        if network is not None:
            network.join(CLIENTS)
        for number in range(1, shape.nodes + 1):
            self._add_node(number)
        self._write_routing()

    def _names(self) -> list[str]:
        return [f"node-{number}" for number in range(1, self.shape.nodes + 1)]

    @property
    def url(self) -> str:
        """Where clients find it."""
        addresses = ",".join(str(place.address) for place in self._places.values())
        return f"kv://{addresses}/default"

    @property
    def nodes(self) -> list[Member]:
        """Return the storage nodes."""
        return [member for name, member in self.members.items() if name.startswith("node-")]

    @property
    def client_prefix(self) -> tuple[str, ...]:
        """What starts a command where clients are."""
        return () if self.network is None else self.network.command(CLIENTS)

    def start(self) -> None:
        """Start all, and return when they serve."""
        for member in self.members.values():
            member.start()
        for member in self.members.values():
            self.wait_until_serving(member)

    def wait_until_serving(self, member: Member) -> None:
        """Return once a member says so; raises MemberError when it does not."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (member.home / "ready.json").exists():
            member.check()
            if time.monotonic() > deadline:
                raise MemberError(
                    f"{member.name} does not serve after {START_TIMEOUT_S:g} s: see {member.log}"
                )
            time.sleep(POLL_S)

    def wait_until_whole(self) -> None:
        """Return once every node serves; raises ClusterError when that takes too long."""
        for member in self.nodes:
            self.wait_until_serving(member)

    def compare_replicas(self) -> list[str]:
        """Return how the targets of chains differ."""
        return []

    def stop(self) -> None:
        """Ask all to end; raises MemberError when one does not, or did not end well."""
        for member in self.members.values():
            member.ask_to_end()
        for member in self.members.values():
            member.wait_for_end()

    def clean_up(self) -> None:
        """Kill whatever is left."""
        for member in self.members.values():
            member.clean_up()
        if self.shape.disk:
            for member in self.nodes:
                subprocess.run(["umount", str(member.home / DISK)], check=False)

    def restart(self, member: Member) -> None:
        """Start a member that does not run; it may not serve yet."""
        (member.home / "ready.json").unlink(missing_ok=True)
        member.start()

    # What members are told.

    def _new_place(self, name: str) -> Place:
        if self.network is None:
            return Place(Address(LOOPBACK, free_port()), ())
        address = self.network.join(name)
        return Place(Address(address, PORT), self.network.command(name))

    def _add_node(self, number: int) -> None:
        name = f"node-{number}"
        home = self.directory / name
        home.mkdir()
        (home / DISK).mkdir()
        if self.shape.disk:
            mount_disk(home / DISK, self.shape.disk)
        (home / "node.toml").write_text(self._node_toml(number), encoding="utf-8")
        arguments = ("-P", "-m", "kvstore", "storage", "--config", str(home / "node.toml"))
        place = self._places[name]
        clock_s = number * CLOCK_STEP_S if self.network is not None and self.shape.clocks else 0
        command = (*place.prefix, sys.executable, *arguments)
        self.members[name] = Member(name, command, home, clock_s=clock_s)

    def _node_toml(self, number: int) -> str:
        values: dict[str, object] = {
            "node": number,
            "listen": str(self._places[f"node-{number}"].address),
            "open": True,
            "ready_file": "ready.json",
            "log": "json",
            "drain_timeout_s": DRAIN_TIMEOUT_S,
            "memory": self.shape.memory,
            "capacity": self.shape.capacity,
            "durability": self.shape.durability,
            "routing": str(self.directory / "routing.json"),
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        for target in self._targets(number):
            lines += [
                "",
                "[[targets]]",
                f"target = {target}",
                f'directory = "{DISK}/target-{target}"',
            ]
        return "\n".join(lines) + "\n"

    def _targets(self, number: int) -> range:
        count = self.shape.targets_per_node
        return range((number - 1) * count + 1, number * count + 1)

    def _write_routing(self) -> None:
        numbers = range(1, self.shape.nodes + 1)
        targets = {target: number for number in numbers for target in self._targets(number)}
        addresses = {number: self._places[f"node-{number}"].address for number in numbers}
        routing = static_routing(1, addresses, targets, even_slots(sorted(targets)))
        write_routing_file(self.directory / "routing.json", routing)


def mount_disk(folder: Path, size: str) -> None:
    """Give a member a file system of its own; it goes with the sandbox."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise ClusterError(f"{' '.join(command)}: {found.stderr.strip()}")


def free_port() -> int:
    """Return a port that the kernel has to spare."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
