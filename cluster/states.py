"""What a node and a target can be: the verdicts of mgmtd, and what a node says of its own targets.

The numbers are part of the wire format: they are added to, never given another meaning.
"""

from enum import IntEnum, unique


@unique
class PublicState(IntEnum):
    """mgmtd's verdict on a target of a chain. Chains list their targets in the order of states."""

    SERVING = 1
    """Holds every acknowledged update, answers reads, takes updates."""
    LASTSRV = 2
    """Was serving when the last serving targets were lost: it holds every acknowledged update."""
    SYNCING = 3
    """Gets what it missed from the last serving target, and every new update."""
    WAITING = 4
    """Is alive and behind; syncs when its turn comes."""
    OFFLINE = 5
    """Is not reachable, or has failed."""


@unique
class LocalState(IntEnum):
    """What a node reports of a target."""

    UNKNOWN = 0
    """Not heard of since this primary began; the lease of the primary before it may still run."""
    OFFLINE = 1
    """Not open: starting, stopping, or its disk has failed."""
    ONLINE = 2
    """Open; it may lack updates."""
    UPTODATE = 3
    """Open, and lacks nothing as of the chain version that the report names."""


@unique
class NodeKind(IntEnum):
    """What a node does."""

    MGMTD = 1
    STORAGE = 2
    AGENT = 3
    CLIENT = 4


@unique
class NodeState(IntEnum):
    """mgmtd's verdict on a node."""

    ACTIVE = 1
    """Its lease runs."""
    FAILED = 2
    """Its lease has run out, or its process is known to be gone."""
    DRAINING = 3
    """Serves on, while its targets are replaced by others."""
    DISABLED = 4
    """An operator took it out; it gets no lease."""


@unique
class Durability(IntEnum):
    """When a set is acknowledged: what must be true at every serving target."""

    MEMORY = 0
    DISK = 1
    SYNC = 2


@unique
class Eviction(IntEnum):
    """What a full chain does with a set."""

    NONE = 0
    """It refuses."""
    CACHE = 1
    """It makes room by evicting."""
