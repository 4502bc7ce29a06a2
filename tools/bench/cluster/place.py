"""Where a process of a cluster runs: what starts it there, and the address that it has."""

from dataclasses import dataclass

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Place:
    """Loopback, or a network namespace with an address of its own."""

    command: tuple[str, ...] = ()
    """What starts a program there, in place of itself."""
    address: str = LOOPBACK
