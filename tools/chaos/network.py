"""Members' links: each has a network namespace of its own, joined to a bridge by a pair of devices.

     node-1            node-2            clients
    ┌───────┐         ┌───────┐         ┌───────┐
    │ link0 │         │ link0 │         │ link0 │      10.77.0.1, .2, .3 ...
    └───┬───┘         └───┬───┘         └───┬───┘
       v-1 ───────────── bridge ─────────── v-3         in the harness's namespace

Packets from one member to another are lost without a word when its neighbour entry names a device
that is nowhere: so any direction between any two can be cut, in any kernel. Runs in a sandbox only.
"""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field

BRIDGE = "bridge"
DEVICE = "link0"
PREFIX = "10.77.0"
HARNESS = f"{PREFIX}.254"
NOWHERE = "02:00:00:00:00:01"
MEMBERS_MAX = 200
DELAY_LIMIT_PACKETS = 10_000
QUEUE = ("qdisc", "replace", "dev", DEVICE, "root")


class NetworkError(Exception):
    """The machine refused what was asked of a link."""


def run(*command: str) -> None:
    """Run a command of iproute2; raises NetworkError."""
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise NetworkError(f"{' '.join(command)}: {found.stderr.strip()}")


@dataclass(slots=True)
class Network:
    """All links; members join by their names."""

    addresses: dict[str, str] = field(default_factory=dict)
    _cuts: dict[tuple[str, str], int] = field(default_factory=dict)
    """How many faults cut the way from one to another."""

    def open(self) -> None:
        """Make the bridge; the harness is on it, too."""
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{HARNESS}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")

    def join(self, name: str) -> str:
        """Give a member its link; returns its address."""
        number = len(self.addresses) + 1
        assert number <= MEMBERS_MAX
        outer = f"v-{number}"
        run("ip", "netns", "add", name)
        ends = ("type", "veth", "peer", "name", DEVICE, "netns", name)
        run("ip", "link", "add", outer, *ends)
        run("ip", "link", "set", outer, "master", BRIDGE, "up")
        address = f"{PREFIX}.{number}"
        run("ip", "-n", name, "address", "add", f"{address}/24", "dev", DEVICE)
        run("ip", "-n", name, "link", "set", DEVICE, "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        self.addresses[name] = address
        return address

    def close(self) -> None:
        """Remove what open() and join() made."""
        for name in self.addresses:
            run("ip", "netns", "delete", name)
        run("ip", "link", "delete", BRIDGE)
        self.addresses.clear()

    @staticmethod
    def command(name: str) -> tuple[str, ...]:
        """Return what starts a command within a member's namespace, in place of itself."""
        return ("nsenter", f"--net=/run/netns/{name}")

    # Faults. Each is undone as often as it is done.

    def cut(self, sender: str, receiver: str) -> None:
        """Lose every packet from one member to another."""
        count = self._cuts.get((sender, receiver), 0)
        self._cuts[sender, receiver] = count + 1
        if count == 0:
            self._neighbour(sender, "replace", receiver, "lladdr", NOWHERE, "nud", "permanent")

    def heal(self, sender: str, receiver: str) -> None:
        """Take one cut back."""
        count = self._cuts[sender, receiver] - 1
        self._cuts[sender, receiver] = count
        if count == 0:
            self._neighbour(sender, "delete", receiver)

    def _neighbour(self, name: str, verb: str, other: str, *more: str) -> None:
        address = self.addresses[other]
        run("ip", "-n", name, "neighbour", verb, address, *more, "dev", DEVICE)

    def others(self, name: str) -> Iterable[str]:
        """Return everybody else."""
        return [other for other in self.addresses if other != name]

    def slow(self, name: str, delay_ms: float, rate_mbit: float) -> None:
        """Delay what a member sends, where the kernel can; otherwise limit how much."""
        delay = ("netem", "delay", f"{delay_ms}ms", "limit", str(DELAY_LIMIT_PACKETS))
        try:
            run("tc", "-n", name, *QUEUE, *delay)
        except NetworkError:
            self.limit(name, rate_mbit)

    def limit(self, name: str, rate_mbit: float) -> None:
        """Limit how much a member sends."""
        rate = ("tbf", "rate", f"{rate_mbit}mbit", "burst", "32kb", "latency", "300ms")
        run("tc", "-n", name, *QUEUE, *rate)

    def quicken(self, name: str) -> None:
        """Take slow() or limit() back."""
        run("tc", "-n", name, "qdisc", "delete", "dev", DEVICE, "root")
