"""The words that every layer shares: statuses, and the frozen values that calls return."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TypeAlias

Key: TypeAlias = bytes | str
"""1 to 1024 bytes; a str stands for its UTF-8 encoding."""

Buffer: TypeAlias = object
"""Anything C-contiguous with the buffer protocol, or a pair (address, length) of ints.

The type system of Python 3.11 has no name for the buffer protocol; a wrong type is a TypeError.
"""

Keys: TypeAlias = Iterable[Key]
Buffers: TypeAlias = Iterable[Buffer]


class Status(IntEnum):
    """How the C core answers for one key (kv_status)."""

    OK = 0
    EXISTS = 1
    NOT_FOUND = 2
    NO_SPACE = 3
    QUOTA = 4
    TOO_LARGE = 5
    UNAVAILABLE = 6
    TIMEOUT = 7
    DENIED = 8
    BUFFER_TOO_SMALL = 9
    CORRUPT = 10
    IO_ERROR = 11
    CANCELLED = 12
    OUTCOME_UNKNOWN = 13
    WRONG_TARGET = 14
    """Between nodes and the client's core only."""
    BUSY = 15
    """Between nodes and the client's core only."""
    DIRTY = 16
    """Between nodes and the client's core only."""


class SetStatus(IntEnum):
    """What became of one key of a batch_set; the values are those of Status."""

    OK = Status.OK
    """Stored, at the durability of the store."""
    EXISTS = Status.EXISTS
    """if_absent was asked for, and the key is there already: nothing changed."""
    NO_SPACE = Status.NO_SPACE
    """The store is full: nothing changed."""
    QUOTA = Status.QUOTA
    """The store holds objects_max objects: nothing changed."""
    TOO_LARGE = Status.TOO_LARGE
    """The value exceeds 64 MiB: nothing changed."""
    UNAVAILABLE = Status.UNAVAILABLE
    """A device failure took the target offline, or no node that serves the key answers; where the
    node went away in the middle of the set, the value may or may not be stored."""
    TIMEOUT = Status.TIMEOUT
    """Not done within timeout_s: the value may or may not be stored."""
    DENIED = Status.DENIED
    """The store is open read-only, or the node grants no right to write."""
    CORRUPT = Status.CORRUPT
    """The value changed under the core's hands while it was being stored."""
    IO_ERROR = Status.IO_ERROR
    """The device failed to write."""
    CANCELLED = Status.CANCELLED
    """The store closed first: the value may or may not be stored."""


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What is known of one object without reading its value."""

    size: int
    """Bytes of the value."""
    version: int
    """Grows with every set of the store; where nodes serve it, with every set of its target."""
    expiry_s: float | None
    """Unix time at which the object expires; None: never."""
    checksum: int
    """CRC-32C of the value."""
    pinned: bool


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One object of a listing."""

    key: bytes
    size: int
    version: int
    expiry_s: float | None
    pinned: bool


@dataclass(frozen=True, slots=True)
class BadObject:
    """An object whose value a verification could not read, or whose checksum does not match."""

    key: bytes
    size: int
    version: int
    status: Status


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification has read so far, and what it found."""

    objects: int
    """Objects gone through; an empty value has nothing to read."""
    bytes: int
    bad: tuple[BadObject, ...]


@dataclass(frozen=True, slots=True)
class SlabRow:
    """The slabs of one slab class."""

    slab_class: int
    extent_size: int
    """0: packs of small values."""
    slabs: int
    live_count: int
    """Extents in use; packs count bytes only."""
    live_size: int
    free_size: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Gauges, and counters since the store was opened. Sizes are bytes.

    Of a store that nodes serve: sums over its targets, whoever caused them.
    """

    description: str
    """Which driver and checksum code run: "driver=io_uring checksum=vpclmulqdq"."""

    objects: int
    value_size: int
    pinned_objects: int
    capacity: int
    slab_size: int
    slabs: int
    slabs_free: int
    space_used: int
    space_free: int
    space_quarantined: int
    index_size: int
    memory_capacity: int
    memory_used: int
    memory_objects: int
    memory_huge_size: int
    gets: int
    get_hits: int
    get_misses: int
    get_memory_hits: int
    sets: int
    deletes: int
    exists: int
    bytes_read: int
    bytes_written: int
    device_reads: int
    device_writes: int
    device_flushes: int
    device_read_bytes: int
    device_write_bytes: int
    journal_size: int
    journal_generation: int
    journal_groups: int
    journal_records: int
    sequence: int
    sequence_durable: int
    sequence_flushed: int
    checkpoints: int
    checkpoint_sequence: int
    evictions: int
    expirations: int
    compactions: int
    compacted_bytes: int
    corrupt_values: int
    scrubbed_values: int
    scrubbed_bytes: int
    scrub_passes: int
    recovered_objects: int
    recovered_records: int
    recovery_cut_size: int
    recovery_dropped: int
    recovery_ns: int
    in_flight: int
    offline: int
    """The errno that took the store, or one of its targets, offline; 0: it serves."""


class ControlKind(IntEnum):
    """What a node does or tells beyond batches (kv_control_kind)."""

    ROUTING = 1
    STATISTICS = 2
    LIST = 3
    VERIFY = 4
    SLABS = 5
    COMPACT = 6
    CHECKPOINT = 7
    FLUSH = 8
    DESCRIBE = 9
    LIST_STORED = 10
    DIGEST = 11


class NodeEventKind(IntEnum):
    """What a node tells of its connections and targets (kv_node_event_kind)."""

    CONNECTED = 1
    DISCONNECTED = 2
    REFUSED = 3
    CUT_STALLED = 4
    CUT_IDLE = 5
    CUT_PROTOCOL = 6
    CUT_RESET = 7
    TARGET_OFFLINE = 8
    PEER_LOST = 9
    """`connection` is the target of another node that is waited for."""
    SYNCED = 10
    """`connection` is the target that lacks nothing any more."""
    VALUE_LOST = 11
    """`connection` is the target; nobody had the value whole any more."""


class ChainFlag(IntFlag):
    """What a target is in its chain (kv_chain_flag); none: it neither serves nor syncs."""

    SERVES = 1
    SYNCS = 2
    HEAD = 4
    TAIL = 8


NO_FLAG = ChainFlag(0)


@dataclass(frozen=True, slots=True)
class ChainPlace:
    """The place of a node's target in its chain (kv_chain_place)."""

    target: int
    chain: int
    chain_version: int
    flags: ChainFlag
    position: int
    """0 at the head; counts serving and syncing targets."""
    successor: int = 0
    """The target that serves next, or syncs; 0: none."""
    successor_node: int | None = None
    """Index of its node's address; None: there is no successor."""
    successor_flags: ChainFlag = NO_FLAG


@dataclass(frozen=True, slots=True)
class ChainState:
    """How a target of a node is (kv_chain_state). Sizes are bytes."""

    chain_version: int
    """The version that it goes by; 0: it is in no chain."""
    objects: int
    value_size: int
    capacity: int
    space_used: int
    space_free: int
    updates_in_flight: int
    updates_total: int
    resync_compared: int
    """Objects compared by the run that feeds its successor, or by the last one."""
    resync_sent: int
    resync_sent_bytes: int
    target: int
    local: int
    """As LocalState in kvstore.cluster.states."""
    error: int
    """The errno that took it offline, or 0."""
    resyncing: bool
    """Whether it feeds its successor now."""
    damaged: int
    """Objects known to have values that cannot be read, or do not match their checksums."""
    settled: bool
    """Whether nothing is under way that came by an older version of its chain."""
    io_oldest_ms: int
    """For how long the oldest device operation has been out."""
    io_silent_ms: int
    """For how long no device operation has ended although some were out."""
    move: int = 0
    """The id of the slot move that it works on; 0: none."""
    move_objects: int = 0
    """That it sent, or deleted."""
    move_state: int = 0
    """As MoveState in kvstore.cluster.mgmtd.messages."""
    resync_vain_ms: int = 0
    """For how long nothing that it feeds its successor has found room there."""


@dataclass(frozen=True, slots=True)
class SlotMoveOrder:
    """What a target does about slots that move to another chain (kv_move)."""

    id: int
    source: int
    target: int
    chain_version: int
    address: str
    flags: int
    """1: what is in the slots is deleted; 2: no update of them comes any more."""
    table_size: int
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """One thing that happened on a node."""

    time_s: float
    """Unix time."""
    kind: NodeEventKind
    error: int
    """An errno, or 0."""
    connection: int
    """Counts up from 1."""
    text: str
    """Whom it is about, and why."""


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """Gauges of a node, and counters since it was started (kv_node_statistics). Sizes are bytes.

    Latencies are from the last byte of a request to the last byte of its reply given to the socket;
    bin i of an operation counts those below 2^i microseconds that no smaller bin counts.
    """

    connections: int
    connections_total: int
    requests_in_flight: int
    request_memory: int
    lent_memory: int
    received_bytes: int
    sent_bytes: int
    requests: tuple[int, ...]
    """By operation, as are keys and latencies."""
    keys: tuple[int, ...]
    latency: tuple[int, ...]
    """The bins of operation 0, then those of operation 1, and so on."""
    latency_sum_ns: tuple[int, ...]
    key_statuses: tuple[int, ...]
    """Keys answered, by Status."""
    events: tuple[int, ...]
    """By NodeEventKind."""
    events_dropped: int
    updates_repeated: int
    """Updates answered from their channel without being applied again."""
    controls: int

    def latency_of(self, operation: int) -> tuple[int, ...]:
        """Return the bins of one operation."""
        width = len(self.latency) // len(self.requests)
        return self.latency[operation * width : (operation + 1) * width]
