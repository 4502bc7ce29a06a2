"""The kinds of faults: what each does to whom, and what it takes."""

from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """What is done; each is undone after a while, except those that undo themselves."""

    KILL = "kill"
    STOP = "stop"
    PAUSE = "pause"
    POWER = "power"
    CUT = "cut"
    CUT_IN = "cut-in"
    CUT_OUT = "cut-out"
    PART = "part"
    PART_ONE_WAY = "part-one-way"
    SLOW = "slow"
    RATE = "rate"
    FULL = "full"
    DISK = "disk"
    FLIP = "flip"
    CLOCK = "clock"
    OUTAGE = "outage"
    BLACKOUT = "blackout"
    NO_MGMTD = "no-mgmtd"
    ROLL = "roll"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a kind."""

    what: str
    links: bool = False
    """Whether it takes links of the members' own."""
    root: bool = False
    """Whether it takes disks that can fail, which only root can make."""
    pair: bool = False
    """Whether it is between two members."""
    roles: tuple[str, ...] = ("node",)
    """Whom a drawn schedule does it to."""
    whole: tuple[str, ...] = ()
    """Of which roles it is done to all members."""


MANAGERS = ("mgmtd", "etcd")
TRAITS = {
    FaultKind.KILL: Traits("kill -9, started again", roles=("node", *MANAGERS, "client")),
    FaultKind.STOP: Traits("asked to end, started again", roles=("node", *MANAGERS)),
    FaultKind.PAUSE: Traits("SIGSTOP, then SIGCONT", roles=("node", *MANAGERS)),
    FaultKind.POWER: Traits(
        "link cut and kill -9 at once, as when a machine loses power; what its disk was not asked "
        "to flush is lost, where it has one of its own",
        links=True,
    ),
    FaultKind.CUT: Traits("link cut, both ways", links=True, roles=("node", *MANAGERS)),
    FaultKind.CUT_IN: Traits("nothing reaches it", links=True, roles=("node", *MANAGERS)),
    FaultKind.CUT_OUT: Traits(
        "nothing that it sends arrives", links=True, roles=("node", *MANAGERS)
    ),
    FaultKind.PART: Traits("nothing passes between two", links=True, pair=True),
    FaultKind.PART_ONE_WAY: Traits("nothing passes from one to another", links=True, pair=True),
    FaultKind.SLOW: Traits("a slow link", links=True),
    FaultKind.RATE: Traits("a link of a low rate", links=True),
    FaultKind.FULL: Traits("its file system is full", links=True),
    FaultKind.DISK: Traits(
        "its disk fails, EIO for all, and is replaced by an empty one", root=True
    ),
    FaultKind.FLIP: Traits("bits of its stored values are turned; it has to heal"),
    FaultKind.CLOCK: Traits("its wall clock jumps, and back", roles=("node", "mgmtd")),
    FaultKind.OUTAGE: Traits(
        "kill -9 of all storage nodes, started again", roles=(), whole=("node",)
    ),
    FaultKind.BLACKOUT: Traits(
        "power of all storage nodes at once", root=True, roles=(), whole=("node",)
    ),
    FaultKind.NO_MGMTD: Traits(
        "kill -9 of all mgmtd and etcd, started again", roles=(), whole=MANAGERS
    ),
    FaultKind.ROLL: Traits("each storage node asked to end and started, one by one", roles=()),
    FaultKind.COMMAND: Traits("a command of the operator's", roles=()),
}
assert set(TRAITS) == set(FaultKind)

DRAWN = tuple(kind for kind in FaultKind if kind is not FaultKind.COMMAND)
"""What a schedule may be drawn from."""
