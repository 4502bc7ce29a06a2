"""A change of routing info and ledger in the making. Pure.

A draft is laid over what is in force and changes none of it. What is wrong with one request is
taken back to the mark before it; `finish` makes the proposal that is saved and then published.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from itertools import islice
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from kvstore.cluster.delta import Delta, delta_between
from kvstore.cluster.ids import ChainId, NodeId, RoutingVersion, SlotTableId, TargetId
from kvstore.cluster.mgmtd.ledger import Identity, Ledger, MoveKey, SlotMove, records_between
from kvstore.cluster.routing import (
    Chain,
    NamespacePolicy,
    Node,
    RoutingInfo,
    SlotTable,
    Target,
    problems_of,
)

RECORDS_MAX = 90
"""Of one proposal, so that it fits one transaction of the metadata store (128 operations)."""

Id = TypeVar("Id", bound=Hashable)
Value = TypeVar("Value")


class Overlay(Generic[Id, Value]):
    """A mapping, and what is to be different about it."""

    def __init__(self, base: Mapping[Id, Value]) -> None:
        """Begin without a change."""
        self._base = base
        self.changed: dict[Id, Value | None] = {}
        """None stands for what is removed."""

    def __getitem__(self, id: Id) -> Value:
        """Return what is there now."""
        value = self.get(id)
        if value is None:
            raise KeyError(id)
        return value

    def __contains__(self, id: Id) -> bool:
        """Say whether it is there now."""
        return self.get(id) is not None

    def __setitem__(self, id: Id, value: Value) -> None:
        """Put in, or replace."""
        self.changed[id] = value

    def get(self, id: Id) -> Value | None:
        """Return what is there now; None where there is nothing."""
        return self.changed[id] if id in self.changed else self._base.get(id)

    def remove(self, id: Id) -> None:
        """Take out."""
        self.changed[id] = None

    def values(self) -> Iterator[Value]:
        """Yield everything that is there now."""
        for id, value in self._base.items():
            if id not in self.changed:
                yield value
        yield from (value for value in self.changed.values() if value is not None)

    def items(self) -> Iterator[tuple[Id, Value]]:
        """Yield everything that is there now, with its id."""
        for id, value in self._base.items():
            if id not in self.changed:
                yield id, value
        yield from ((id, value) for id, value in self.changed.items() if value is not None)

    def mark(self) -> Callable[[], None]:
        """Return what takes back everything that is changed from now on."""
        changed = dict(self.changed)

        def take_back() -> None:
            self.changed = changed

        return take_back

    def result(self) -> Mapping[Id, Value]:
        """Return the mapping with its changes; the one below where there is none."""
        if not self.changed:
            return self._base
        merged = dict(self._base)
        for id, value in self.changed.items():
            if value is None:
                merged.pop(id, None)
            else:
                merged[id] = value
        return merged


class Part(Protocol):
    """What overlays of all kinds have in common."""

    @property
    def changed(self) -> Sized:
        """What is different."""

    def mark(self) -> Callable[[], None]:
        """Return what takes back everything that is changed from now on."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What is in force, and the chain of each target, which follows from it."""

    routing: RoutingInfo
    ledger: Ledger
    chain_of: Mapping[TargetId, ChainId]


def basis_of(routing: RoutingInfo, ledger: Ledger) -> Basis:
    """Return the basis of what was loaded."""
    chain_of = {
        place.target: chain.id for chain in routing.chains.values() for place in chain.targets
    }
    return Basis(routing, ledger, chain_of)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change that is to be saved, and then in force."""

    after: Basis
    delta: Delta | None
    """None: only the ledger changes."""
    records: Mapping[bytes, bytes | None]


class Draft:
    """The parts of routing info and ledger, to be read and changed."""

    def __init__(self, basis: Basis) -> None:
        """Begin without a change."""
        routing, ledger = basis.routing, basis.ledger
        self.basis = basis
        self.nodes: Overlay[NodeId, Node] = Overlay(routing.nodes)
        self.targets: Overlay[TargetId, Target] = Overlay(routing.targets)
        self.chains: Overlay[ChainId, Chain] = Overlay(routing.chains)
        self.slot_tables: Overlay[SlotTableId, SlotTable] = Overlay(routing.slot_tables)
        self.namespaces: Overlay[str, NamespacePolicy] = Overlay(routing.namespaces)
        self.identities: Overlay[TargetId, Identity] = Overlay(ledger.identities)
        self.leaving: Overlay[TargetId, TargetId] = Overlay(ledger.leaving)
        self.replicas: Overlay[SlotTableId, int] = Overlay(ledger.replicas)
        self.slot_moves: Overlay[MoveKey, SlotMove] = Overlay(ledger.slot_moves)
        self._chain_of: Overlay[TargetId, ChainId] = Overlay(basis.chain_of)
        self._owners: dict[UUID, TargetId] | None = None

    @property
    def version(self) -> RoutingVersion:
        """The version of the routing info that this becomes."""
        return RoutingVersion(self.basis.routing.version + 1)

    @property
    def full(self) -> bool:
        """Whether it has as many records as fit one transaction."""
        return sum(len(part.changed) for part in self._ledger_parts()) >= RECORDS_MAX

    def chain_of(self, target: TargetId) -> Chain | None:
        """Return the chain that a target is in; None for a spare."""
        id = self._chain_of.get(target)
        return None if id is None else self.chains[id]

    def put_chain(self, chain: Chain) -> None:
        """Put a chain in, or a later version of it."""
        before = self.chains.get(chain.id)
        assert before is None or chain.version > before.version
        now = {place.target for place in chain.targets}
        for place in before.targets if before else ():
            if place.target not in now:
                self._chain_of.remove(place.target)
                self._left(place.target)
        for target in now:
            owner = self._chain_of.get(target)
            assert owner in (None, chain.id)
            if owner is None:
                self._chain_of[target] = chain.id
        self.chains[chain.id] = chain

    def put_identity(self, target: TargetId, identity: Identity) -> None:
        """Put in who a target is."""
        self.identities[target] = identity
        if self._owners is not None:
            self._owners.update(_uuids(target, identity))

    def forget_target(self, target: TargetId) -> None:
        """Take out a target that is in no chain."""
        assert self.chain_of(target) is None
        self.targets.remove(target)
        if target in self.identities:
            self.identities.remove(target)
        self._owners = None

    def owner_of(self, uuid: UUID) -> TargetId | None:
        """Return the target whose directory has a uuid."""
        if self._owners is None:
            self._owners = {}
            for target, identity in self.identities.items():
                self._owners.update(_uuids(target, identity))
        return self._owners.get(uuid)

    def mark(self) -> Callable[[], None]:
        """Return what takes back everything that is changed from now on."""
        restores = [part.mark() for part in self._parts()]

        def take_back() -> None:
            self._owners = None
            for restore in restores:
                restore()

        return take_back

    def finish(self) -> Proposal | None:
        """Return the proposal; None where nothing is different."""
        ledger = self._ledger()
        records = records_between(self.basis.ledger, ledger)
        routing = self._routing()
        if routing is None:
            if not records:
                return None
            after = Basis(self.basis.routing, ledger, self.basis.chain_of)
            return Proposal(after, None, records)
        delta = delta_between(self.basis.routing, routing)
        self._check(routing, delta)
        after = Basis(routing, ledger, self._chain_of.result())
        return Proposal(after, delta, records)

    def _left(self, target: TargetId) -> None:
        """Remember that what a target holds goes out of date from now on."""
        identity = self.identities.get(target)
        if identity is not None:
            self.put_identity(target, replace(identity, used=True))

    def _ledger(self) -> Ledger:
        if not any(part.changed for part in self._ledger_parts()):
            return self.basis.ledger
        return Ledger(
            self.identities.result(),
            self.leaving.result(),
            self.replicas.result(),
            self.slot_moves.result(),
        )

    def _routing(self) -> RoutingInfo | None:
        if not any(part.changed for part in self._routing_parts()):
            return None
        return RoutingInfo(
            version=self.version,
            cluster=self.basis.routing.cluster,
            nodes=self.nodes.result(),
            targets=self.targets.result(),
            chains=self.chains.result(),
            slot_tables=self.slot_tables.result(),
            namespaces=self.namespaces.result(),
        )

    def _check(self, routing: RoutingInfo, delta: Delta) -> None:
        """Assert that what is to be published is consistent.

        A change of states alone cannot make anything inconsistent but the chains that it touches;
        with 20,000 chains that is a thousandth of the work.
        """
        checked = routing
        if not (delta.targets or delta.slot_tables or delta.moves or delta.namespaces) and not (
            delta.removed_nodes
            or delta.removed_targets
            or delta.removed_chains
            or delta.removed_slot_tables
            or delta.removed_namespaces
        ):
            places = [place.target for chain in delta.chains.values() for place in chain.targets]
            targets = {id: routing.targets[id] for id in places}
            checked = RoutingInfo(nodes=routing.nodes, targets=targets, chains=delta.chains)
        problems = list(islice(problems_of(checked), 3))
        assert not problems, problems

    def _ledger_parts(self) -> list[Part]:
        return [self.identities, self.leaving, self.replicas, self.slot_moves]

    def _routing_parts(self) -> list[Part]:
        return [self.nodes, self.targets, self.chains, self.slot_tables, self.namespaces]

    def _parts(self) -> list[Part]:
        return [*self._ledger_parts(), *self._routing_parts(), self._chain_of]


def _uuids(target: TargetId, identity: Identity) -> Iterator[tuple[UUID, TargetId]]:
    yield identity.uuid, target
    if identity.replaced_by is not None:
        yield identity.replaced_by, target
