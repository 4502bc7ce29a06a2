"""The cluster under attack, as the harness starts it: mgmtd, storage nodes and clients, as members.

    DIRECTORY/
        mgmtd-1/         mgmtd.toml, log, ready.json, metadata
        etcd-1/          where several mgmtd share it
        node-1/          node.toml, log, ready.json, disk/target-1 ...
        routing.json     where there is no mgmtd
        clients/         a history and a log of each client

A member that is started again has the same command, place and data. Without mgmtd, nodes are alone:
each key has one target, and waits for it.
"""

import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kvstore.addresses import Address
from tools.chaos.configs import (
    DISK,
    READY,
    etcd_command,
    mgmtd_command,
    node_command,
    write_routing,
)
from tools.chaos.disks import Disk
from tools.chaos.member import Member, MemberError
from tools.chaos.network import Network
from tools.chaos.patience import Deadline
from tools.chaos.sanitizers import SanitizedPython, joined
from tools.chaos.schedule import ClusterShape
from tools.chaos.wall_clocks import WallClocks
from tools.chaos.wholeness import (
    compare_replicas,
    damaged_values,
    wait_until_healed,
    wait_until_whole,
)

PORTS = {"node": 7400, "mgmtd": 7300, "etcd": 2379}
START_TIMEOUT_S = 60.0
POLL_S = 0.01
CONNECT_TIMEOUT_S = 1.0
CLOCK_STEP_S = 1_000_003
"""Members' monotonic clocks are so far apart, as if their machines had started on other days."""
LOOPBACK = "127.0.0.1"
CLIENTS = "clients"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member runs."""

    name: str
    role: str
    number: int
    address: Address
    prefix: tuple[str, ...]
    """What starts a command there."""


class Cluster:
    """All members of one run."""

    def __init__(
        self,
        directory: Path,
        shape: ClusterShape,
        network: Network | None,
        wall_clocks: WallClocks | None,
        sanitized: SanitizedPython | None = None,
    ) -> None:
        """Make places and configurations; start nothing yet."""
        self._sanitized = sanitized
        self.wall_clocks = wall_clocks
        self.directory = directory
        self.shape = shape
        self.network = network
        self.members: dict[str, Member] = {}
        self.disks: dict[str, Disk] = {}
        """Of members that have one of their own."""
        self._places = [
            *self._make_places("etcd", 1 if shape.mgmtds > 1 else 0),
            *self._make_places("mgmtd", shape.mgmtds),
            *self._make_places("node", shape.nodes),
        ]
        if network is not None:
            network.join(CLIENTS)
        if not shape.mgmtds:
            write_routing(directory / "routing.json", shape, self._addresses("node"))
        for place in self._places:
            self._add(place)

    @property
    def url(self) -> str:
        """Where clients find it."""
        addresses = self._addresses("mgmtd" if self.shape.mgmtds else "node")
        return f"kv://{','.join(map(str, addresses))}/default"

    @property
    def nodes(self) -> list[Member]:
        """Return the storage nodes."""
        return [self.members[place.name] for place in self._places if place.role == "node"]

    @property
    def managers(self) -> list[Member]:
        """Return etcd and all mgmtd, in the order of their start."""
        return [self.members[place.name] for place in self._places if place.role != "node"]

    @property
    def client_prefix(self) -> tuple[str, ...]:
        """What starts a command where clients are."""
        return () if self.network is None else self.network.command(CLIENTS)

    def _addresses(self, role: str) -> list[Address]:
        return [place.address for place in self._places if place.role == role]

    # Life.

    def start(self) -> None:
        """Start all, and return when they serve."""
        for place in self._places:
            self.members[place.name].start()
            if place.role == "etcd":
                self._wait_until(self.members[place.name], partial(listens, place.address))
        self.wait_until_whole(lambda: None)

    def restart(self, member: Member) -> None:
        """Start a member that does not run; it may not serve yet."""
        (member.home / READY).unlink(missing_ok=True)
        member.start()

    def wait_until_whole(self, watch: Callable[[], None]) -> None:
        """Return once every member serves, and every chain has all its targets.

        *watch* is called often. Raises ClusterError, or MemberError, when that takes too long.
        """
        for place in self._places:
            if place.role != "etcd":
                member = self.members[place.name]
                self._wait_until(member, (member.home / READY).exists)
        if self.shape.mgmtds:
            wait_until_whole(self._addresses("mgmtd"), watch)

    def _wait_until(self, member: Member, served: Callable[[], bool]) -> None:
        deadline = Deadline(START_TIMEOUT_S)
        while not served():
            member.check()
            if deadline.over:
                raise MemberError(
                    f"{member.name} does not serve after {START_TIMEOUT_S:g} s: see {member.log}"
                )
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raise MemberError when a member ended that no fault ended."""
        for member in self.members.values():
            member.check()

    def cut_power(self, name: str) -> None:
        """Let a member's disk lose power, where it has one of its own."""
        if name in self.disks:
            self.disks[name].cut_power()

    def give_power(self, name: str) -> None:
        """Undo cut_power()."""
        if name in self.disks:
            self.disks[name].give_power()

    def wait_until_healed(self) -> None:
        """Return once no target holds a damaged value; raises ClusterError when that takes long."""
        wait_until_healed(self.url, self.check)

    def damaged_values(self) -> list[str]:
        """Return how many values of any target are damaged."""
        return damaged_values(self.url)

    def compare_replicas(self) -> list[str]:
        """Return how the targets of chains differ."""
        return compare_replicas(self.url) if self.shape.mgmtds else []

    def stop(self) -> None:
        """Ask all to end; raises MemberError when one does not."""
        for role in ("node", "mgmtd", "etcd"):
            members = [self.members[place.name] for place in self._places if place.role == role]
            for member in members:
                member.ask_to_end()
            for member in members:
                member.wait_for_end()

    def clean_up(self) -> None:
        """Kill whatever is left."""
        for member in self.members.values():
            member.clean_up()
        for disk in self.disks.values():
            disk.close()

    # What members are told.

    def _make_places(self, role: str, count: int) -> list[Place]:
        return [self._make_place(role, number) for number in range(1, count + 1)]

    def _make_place(self, role: str, number: int) -> Place:
        name = f"{role}-{number}"
        if self.network is None:
            return Place(name, role, number, Address(LOOPBACK, free_port()), ())
        address = Address(self.network.join(name), PORTS[role])
        return Place(name, role, number, address, self.network.command(name))

    def _add(self, place: Place) -> None:
        home = self.directory / place.name
        home.mkdir()
        ahead = self.network is not None and self.shape.clocks
        self.members[place.name] = Member(
            place.name,
            (*place.prefix, *self._command(place, home)),
            home,
            clock_s=len(self.members) * CLOCK_STEP_S if ahead else 0,
            environment=self._environment(place, home),
        )

    def _environment(self, place: Place, home: Path) -> dict[str, str]:
        watched = self._sanitized is not None and place.role == "node"
        return joined(
            self._sanitized.environment(home) if self._sanitized and watched else {},
            self.wall_clocks.environment(place.name) if self.wall_clocks else {},
        )

    def _command(self, place: Place, home: Path) -> tuple[str, ...]:
        if place.role == "etcd":
            return etcd_command(home, place.address)
        if place.role == "mgmtd":
            return mgmtd_command(home, self.shape, place.address, self._metadata())
        if self.shape.disk_mib:
            self.disks[place.name] = Disk(home, self.shape.disk_mib)
        else:
            (home / DISK).mkdir()
        learns: dict[str, object] = {"routing": str(self.directory / "routing.json")}
        if self.shape.mgmtds:
            learns = {"mgmtd": [str(address) for address in self._addresses("mgmtd")]}
        sanitized = self._sanitized
        python = sys.executable if sanitized is None else sanitized.python
        command = node_command(home, place.number, self.shape, place.address, learns, python)
        return command if sanitized is None else (*sanitized.prefix, *command)

    def _metadata(self) -> str:
        etcds = self._addresses("etcd")
        if etcds:
            return f"etcd://{','.join(map(str, etcds))}/chaos"
        return f"file://{self.directory / 'mgmtd-1' / 'metadata'}"


def listens(address: Address) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((address.name, address.port), CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """Return a port that the kernel has to spare."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
