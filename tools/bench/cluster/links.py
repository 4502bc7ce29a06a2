"""Links that can be cut: network namespaces on a bridge, which lies in a namespace of its own.

     node-1            node-2            clients
    ┌───────┐         ┌───────┐         ┌───────┐
    │ link0 │         │ link0 │         │ link0 │      10.78.0.1, .2, .3 ...
    └───┬───┘         └───┬───┘         └───┬───┘
     port-1 ─────────── bridge ───────── port-3       in the first namespace

Guarantees: the network of this machine stays as it is; leaving the context removes everything.
A port that is taken out of the bridge loses every packet both ways and keeps its carrier, as with
a cable that is pulled beyond the next switch: nobody is told.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tools.bench.cluster.place import Place
from tools.bench.failures import ContestantError

DEVICE = "link0"
BRIDGE = "bridge"
PREFIX = "10.78.0"
MEMBERS_MAX = 250


def possible() -> bool:
    """Return whether this process may make network namespaces."""
    return os.geteuid() == 0 and all(map(shutil.which, ("ip", "nsenter")))


def ip(*arguments: str) -> None:
    """Run a command of iproute2."""
    found = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise ContestantError(f"ip {' '.join(arguments)}: {found.stderr.strip()}")


@dataclass(slots=True)
class Links:
    """All links of one cluster."""

    name: str
    numbers: dict[str, int] = field(default_factory=dict)

    def join(self, member: str) -> Place:
        """Give a member its link."""
        number = len(self.numbers) + 1
        assert number <= MEMBERS_MAX
        space, port = f"{self.name}-{number}", f"port-{number}"
        ip("netns", "add", space)
        self.numbers[member] = number
        address = f"{PREFIX}.{number}"
        ends = ("type", "veth", "peer", "name", DEVICE, "netns", space)
        ip("-n", self._hub, "link", "add", port, *ends)
        ip("-n", self._hub, "link", "set", port, "master", BRIDGE, "up")
        ip("-n", space, "address", "add", f"{address}/24", "dev", DEVICE)
        ip("-n", space, "link", "set", DEVICE, "up")
        ip("-n", space, "link", "set", "lo", "up")
        return Place(("nsenter", f"--net=/run/netns/{space}"), address)

    def cut(self, member: str) -> None:
        """Lose every packet from and to a member."""
        port = f"port-{self.numbers[member]}"
        ip("-n", self._hub, "link", "set", port, "nomaster")

    @property
    def _hub(self) -> str:
        return f"{self.name}-0"

    def open(self) -> None:
        """Make the bridge."""
        ip("netns", "add", self._hub)
        ip("-n", self._hub, "link", "add", BRIDGE, "type", "bridge")
        ip("-n", self._hub, "link", "set", BRIDGE, "up")

    def close(self) -> None:
        """Remove what open() and join() made."""
        for number in range(len(self.numbers) + 1):
            with suppress(ContestantError):
                ip("netns", "delete", f"{self.name}-{number}")


@contextmanager
def links() -> Iterator[Links]:
    """Make links, and remove them."""
    made = Links(f"kvbench{os.getpid()}")
    try:
        made.open()
        yield made
    finally:
        made.close()
