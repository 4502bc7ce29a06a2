"""How a store opens: every option with its default. kvstore.client.url reads them from text."""

from dataclasses import dataclass
from enum import IntEnum

MIB = 1 << 20


class Durability(IntEnum):
    """What an acknowledged set survives."""

    MEMORY = 0
    """Nothing but a clean close."""
    DISK = 1
    """kill -9 of the process."""
    SYNC = 2
    """Loss of power."""


class Eviction(IntEnum):
    """What a full store does with a set."""

    NONE = 0
    """It answers NO_SPACE and loses nothing."""
    CACHE = 1
    """It evicts what is used least, never a pinned key."""


class Driver(IntEnum):
    """How the store talks to its device."""

    AUTO = 0
    """io_uring where the system allows it."""
    IO_URING = 1
    THREADS = 2


class OpenMode(IntEnum):
    """What open may do to the directory."""

    NORMAL = 0
    """Make the store when it is missing."""
    EXISTING = 1
    """Fail when it is missing."""
    READ_ONLY = 2
    """Fail when it is missing, and change nothing in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """Every option of an embedded store. Sizes are bytes."""

    directory: str
    capacity: int = 0
    """Bytes of slabs; 0: as much as the file system has, grown as needed."""
    objects_max: int = 0
    """0: no limit."""
    memory: int = 256 * MIB
    """Bytes of the DRAM tier."""
    durability: Durability = Durability.DISK
    eviction: Eviction = Eviction.NONE
    driver: Driver = Driver.AUTO
    mode: OpenMode = OpenMode.NORMAL
    workers: int = 2
    """Threads that execute asynchronous batches."""
    depth: int = 64
    """Device operations in flight."""
    ttl_s: float = 0.0
    """Lifetime of objects set without a ttl_s of their own; 0: for ever."""
    timeout_s: float = 30.0
    """Deadline of a batch."""
    scrub_bytes_per_s: int = 16 * MIB
    """Rate of the background check of stored values; 0: none."""
