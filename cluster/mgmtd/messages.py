"""What nodes and mgmtd say to each other, as values; `wire` has them as msgpack.

A node registers once at each start, then sends heartbeats on the same connection. It counts its
lease from before it sent the heartbeat that was answered, and serves nothing without one.
"""

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag, unique
from uuid import UUID

from kvstore.cluster.ids import ChainVersion, Epoch, NodeId, RoutingVersion, TargetId
from kvstore.cluster.leases import LeaseTerms
from kvstore.cluster.routing import NIL_UUID, VERSION_OF_NOTHING, RoutingInfo
from kvstore.cluster.states import LocalState, NodeKind

NO_CHAIN_VERSION = ChainVersion(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRegistration:
    """A target that a node brings, as its directory says."""

    id: TargetId
    uuid: UUID
    """Made at random when the target's directory was made, and written into it."""
    disk: int = 0
    """Counts the disks of the node from 0."""
    capacity_bytes: int = 0
    """0: not limited, all targets of that kind weigh the same."""
    empty: bool = False
    """Whether the directory was made by this start, or holds no object."""
    cluster: UUID = NIL_UUID
    """The cluster whose uuid is written into the directory; NIL_UUID: none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRegistration:
    """A node's start: who it is, where it is reached, and what it brings."""

    id: NodeId
    incarnation: int
    """Grows at every start of the process: nanoseconds since 1970 at the start will do."""
    addresses: tuple[str, ...]
    """`host:port`, one for each network, as others reach it; it listens there already."""
    kind: NodeKind = NodeKind.STORAGE
    rack: str = ""
    targets: tuple[TargetRegistration, ...] = ()


@dataclass(frozen=True, slots=True)
class RegisterAnswer:
    """What a node that may join needs. It has no lease yet: heartbeats bring that.

    The node writes `cluster` into the directories of its targets, and reports all of them OFFLINE
    until routing info shows none of them SERVING or SYNCING.
    """

    terms: LeaseTerms
    cluster: UUID
    epoch: Epoch
    """The lease of the primary that answered; an answer of a lower one is out of date."""
    routing: RoutingInfo = field(repr=False)
    secret: bytes = field(default=b"", repr=False)
    """The cluster's shared secret: the one that the client proved; it is never sent."""


@unique
class MoveState(IntEnum):
    """How far a target is with an order (kv_move_state)."""

    NONE = 0
    WORKING = 1
    READY = 2
    """All was sent once; what changes is sent as it changes."""
    DONE = 3
    FAILED = 4


class MoveFlag(IntFlag):
    """What an order is about (kv_move_flag)."""

    DELETE = 1
    """What the target holds of the slots is deleted through the head of its own chain."""
    LAST = 2
    """No update of the slots comes any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a target is to do about slots that move."""

    id: int
    source: TargetId
    """The target that works: the tail of its chain."""
    target: TargetId
    """The head that takes what it sends, by this version of its chain, at this address."""
    chain_version: ChainVersion
    address: str
    flags: MoveFlag
    table_size: int
    slots: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """A node's word on one of its targets."""

    target: TargetId
    local: LocalState
    chain_version: ChainVersion = NO_CHAIN_VERSION
    """The version of its chain that the target was configured with; 0: none."""
    error: str = ""
    """Why it is OFFLINE, or slow; for people."""
    used_bytes: int = 0
    free_bytes: int = 0
    capacity_bytes: int = 0
    objects: int = 0
    resync_done: int = 0
    """Objects that were compared since its resync began, and how many there are in all."""
    resync_total: int = 0
    settled: bool = True
    """Whether nothing is under way at it that came by an older version of its chain."""
    move: int = 0
    """The id of the order that it works on; 0: none."""
    move_state: MoveState = MoveState.NONE
    move_objects: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A node is alive, knows this version of the routing info, and says how its targets are."""

    node: NodeId
    incarnation: int
    routing_version: RoutingVersion = VERSION_OF_NOTHING
    targets: tuple[TargetReport, ...] = ()
    """Of every target that it registered."""


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """What mgmtd knows, and until when the node may serve."""

    epoch: Epoch
    routing_version: RoutingVersion
    """The one in force; a node that has a lower one asks for it, or waits for its subscription."""
    lease_ms: int
    """The node may serve for so long from before it sent the heartbeat. 0: no lease, because a
    change that takes something from this node is newer than the routing info it named: it
    configures itself by the newer one, and sends the next heartbeat at once."""
    retire: tuple[TargetId, ...] = ()
    """Targets that are to leave their chains: the node stops serving them, drops what is in flight,
    and only then reports them OFFLINE, as long as answers name them. One that is still in its
    chain, by routing info at least as new as that of an answer which names it no more, is needed
    again: the node reports it as it is."""
    orders: tuple[Order, ...] = ()
    """All that the node's targets are to do about slots that move; what is not named ends."""
    haste: bool = False
    """mgmtd waits for the next heartbeat: it is to come soon."""
