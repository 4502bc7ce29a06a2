"""How a store opens: every option with its default. kvstore.client.url reads them from text.

StoreOptions are of a store in this process, also of a target of a node; ClientOptions are of a
store that nodes serve.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from kvstore.addresses import Address

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


class ReactorDriver(IntEnum):
    """How a node or a client talks to the network."""

    AUTO = 0
    """io_uring where the system allows it and it is the faster one."""
    IO_URING = 1
    EPOLL = 2


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

    @property
    def name(self) -> str:
        """What messages call the store."""
        return self.directory


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Every option of a store that nodes serve."""

    addresses: tuple[Address, ...]
    """Of mgmtd, or of nodes that are on their own: whom to ask for the routing info."""
    name_space: str = "default"
    tenant: str = "default"
    token: bytes = field(default=b"", repr=False)
    """Shown to nodes as it is."""
    secret: bytes = field(default=b"", repr=False)
    """Proven to nodes and by nodes, never sent; empty: none."""
    timeout_s: float = 30.0
    """Deadline of a batch."""
    connect_timeout_s: float = 5.0
    """Deadline of one attempt to connect."""
    lanes: int = 0
    """Threads that execute asynchronous batches, each with its own connections; 0: the default."""
    connections: int = 0
    """Connections to one node at most; 0: the default."""
    verify: bool = True
    """Whether the checksums of values that arrive are checked."""
    reactor: ReactorDriver = ReactorDriver.AUTO

    @property
    def name(self) -> str:
        """What messages call the store: its URL without what is secret."""
        tenant = "" if self.tenant == "default" else f"?tenant={self.tenant}"
        return f"kv://{','.join(map(str, self.addresses))}/{self.name_space}{tenant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """Every option of a node but its targets; 0 stands for the core's default."""

    node: int
    secret: bytes = field(default=b"", repr=False)
    """Clients must prove it; empty: they need none."""
    reactors: int = 0
    """Event loops, one thread each; 0: one for each core, 8 at most."""
    reactor: ReactorDriver = ReactorDriver.AUTO
    connections_max: int = 0
    requests_max: int = 0
    """Requests in flight on one connection."""
    requests_memory: int = 0
    """Bytes of requests and replies under way, beyond the DRAM tiers."""
    stall_timeout_s: float = 0.0
    """How long a client may leave a message unfinished, or a reply untaken."""
    idle_timeout_s: float = 0.0
    """How long a connection may be without a request."""
    hello_timeout_s: float = 0.0
    """How long a connection may take to prove who it is."""
    protocol_version_max: int = 0
    """It speaks none above, so that what was changed can be changed back."""
