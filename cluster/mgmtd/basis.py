"""What is in force: routing info, ledger, and the indices that follow from them, as values.

The indices are found once, when a primary loads what is stored; from then on each draft changes
them where it changes what they follow from.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from kvstore.cluster.ids import ChainId, NodeId, TargetId
from kvstore.cluster.mgmtd.ledger import Identity, Ledger
from kvstore.cluster.routing import RoutingInfo

Key = TypeVar("Key")
Id = TypeVar("Id")


@dataclass(frozen=True, slots=True)
class Basis:
    """What is in force. Made by `basis_of`, or of another by a draft."""

    routing: RoutingInfo
    ledger: Ledger
    chain_of: Mapping[TargetId, ChainId] = field(repr=False)
    """The chain of each target that is in one."""
    owners: Mapping[UUID, TargetId] = field(repr=False)
    """The target whose directory has a uuid."""
    targets_on: Mapping[NodeId, tuple[TargetId, ...]] = field(repr=False)
    """The targets of each node."""
    nodes_at: Mapping[str, tuple[NodeId, ...]] = field(repr=False)
    """The nodes that say, or said, that they are reached at an address."""


def basis_of(routing: RoutingInfo, ledger: Ledger) -> Basis:
    """Return the basis of what was loaded."""
    return Basis(
        routing,
        ledger,
        chain_of={
            place.target: chain.id for chain in routing.chains.values() for place in chain.targets
        },
        owners={
            uuid: target
            for target, identity in ledger.identities.items()
            for uuid in uuids_of(identity)
        },
        targets_on=_grouped((target.node, target.id) for target in routing.targets.values()),
        nodes_at=_grouped(
            (address, node.id) for node in routing.nodes.values() for address in node.addresses
        ),
    )


def uuids_of(identity: Identity) -> Iterator[UUID]:
    """Yield the uuids of a target's directory, and of the one that stands in its place."""
    yield identity.uuid
    if identity.replaced_by is not None:
        yield identity.replaced_by


def _grouped(pairs: Iterable[tuple[Key, Id]]) -> dict[Key, tuple[Id, ...]]:
    groups: dict[Key, list[Id]] = {}
    for key, id in pairs:
        groups.setdefault(key, []).append(id)
    return {key: tuple(ids) for key, ids in groups.items()}
