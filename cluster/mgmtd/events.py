"""What happens to mgmtd, and what it wants done: the events and effects of its core, as values.

A ticket names a request whose answer is an effect. Events come with the time, in nanoseconds of a
monotonic clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, unique

from kvstore.cluster.ids import NodeId, TargetId
from kvstore.cluster.mgmtd.draft import Proposal
from kvstore.cluster.mgmtd.messages import HeartbeatAnswer, NodeRegistration
from kvstore.errors import KVStoreError

Ticket = int
SessionNumber = int
"""Counts the connections to this mgmtd, so that the end of an old one is not taken for a new."""


@unique
class ProbeOutcome(IntEnum):
    """What came of connecting to each address of a node."""

    ANSWERED = 1
    """Something listens at one of them."""
    REFUSED = 2
    """At least one refused, none answered: its host is there, and the process is not."""
    SILENT = 3
    """No answer: only the lease decides."""


@dataclass(frozen=True, slots=True)
class Register:
    """A node's start."""

    ticket: Ticket
    session: SessionNumber
    registration: NodeRegistration
    deadline_ns: int
    comes_from: str = "127.0.0.1"
    """The address that its connection comes from."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A node's heartbeat."""

    ticket: Ticket
    session: SessionNumber
    node: NodeId
    incarnation: int
    routing_version: int
    states: bytes
    measures: bytes
    """As encoded: most heartbeats say the same of their targets as the one before."""


@dataclass(frozen=True, slots=True)
class Leave:
    """A node serves no more, by its own word."""

    ticket: Ticket
    node: NodeId
    incarnation: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """Somebody could not reach a node, or one of its targets."""

    node: NodeId
    target: TargetId | None
    why: str


@dataclass(frozen=True, slots=True)
class Probed:
    """A probe of one start of a node has ended."""

    node: NodeId
    incarnation: int
    outcome: ProbeOutcome


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection has ended on which nodes may have spoken."""

    session: SessionNumber


@dataclass(frozen=True, slots=True)
class Ask:
    """An operator's request."""

    ticket: Ticket
    operation: str
    parameters: Mapping[str, object]
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Saved:
    """The proposal of the last Save is stored."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Proceed:
    """What Continue asked for: whatever else there was to do has had its turn."""


Event = Register | Beat | Leave | Suspect | Probed | Disconnected | Ask | Saved | Tick | Proceed


@dataclass(frozen=True, slots=True)
class Registered:
    """The answer to Register: the node may join."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A request is done."""

    ticket: Ticket
    result: Registered | HeartbeatAnswer | Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """A request is not done."""

    ticket: Ticket
    error: KVStoreError


@dataclass(frozen=True, slots=True)
class Save:
    """Store a proposal; nothing else is proposed until Saved."""

    proposal: Proposal


@dataclass(frozen=True, slots=True)
class Publish:
    """A proposal is in force: push its delta to everybody."""

    proposal: Proposal


@dataclass(frozen=True, slots=True)
class Probe:
    """Connect to each address of a node, and say what came of it."""

    node: NodeId
    incarnation: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """A line of the log."""

    text: str
    about: Mapping[str, object] = field(default_factory=dict)
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Continue:
    """There is more to compute: a Proceed is wanted, after what else is there to do."""


Effect = Answer | Refuse | Save | Publish | Probe | Note | Continue
