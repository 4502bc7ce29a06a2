"""What an operator's operation is done on: a draft, and the facts that go with it."""

from collections.abc import Mapping
from dataclasses import dataclass

from kvstore.cluster.ids import ChainId, Epoch, NodeId, TargetId
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.mgmtd.members import Members
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.mgmtd.slot_moves import Said
from kvstore.cluster.mgmtd.spares import Open


@dataclass(frozen=True, slots=True)
class Situation:
    """One moment of a primary."""

    draft: Draft
    settings: Settings
    epoch: Epoch
    members: Members
    is_open: Open
    said: Said
    wanted: Mapping[ChainId, int]
    """How many targets the chains that are not as they should be are to have."""
    blocked: frozenset[TargetId]
    retiring: Mapping[NodeId, tuple[TargetId, ...]]
    now_ns: int
