"""A change of routing info and ledger in the making. Pure.

A draft is laid over what is in force and changes none of it. What is wrong with one request is
taken back to the mark before it; `finish` makes the proposal that is saved and then published.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol, TypeVar
from uuid import UUID

from kvstore.cluster.delta import Delta, slot_changes
from kvstore.cluster.ids import ChainId, NodeId, RoutingVersion, SlotTableId, TargetId
from kvstore.cluster.mgmtd.basis import Basis, uuids_of
from kvstore.cluster.mgmtd.ledger import (
    IDENTITY,
    LEAVING,
    MOVE,
    TABLE,
    Identity,
    Ledger,
    MoveKey,
    SlotMove,
    records_of,
)
from kvstore.cluster.mgmtd.overlay import Overlay
from kvstore.cluster.routing import (
    NO_CHAIN,
    Chain,
    NamespacePolicy,
    Node,
    RoutingInfo,
    SlotTable,
    Target,
    problems_of,
    slot_problems,
)

RECORDS_MAX = 90
"""Of one proposal, so that it fits one transaction of the metadata store (128 operations)."""

Key = TypeVar("Key", bound=Hashable)
Id = TypeVar("Id", bound=Hashable)
Value = TypeVar("Value")


class Part(Protocol):
    """What overlays of all kinds have in common."""

    @property
    def changed(self) -> Sized:
        """What is different."""

    def mark(self) -> Callable[[], None]:
        """Return what takes back everything that is changed from now on."""


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
        self._owners: Overlay[UUID, TargetId] = Overlay(basis.owners)
        self._targets_on: Overlay[NodeId, tuple[TargetId, ...]] = Overlay(basis.targets_on)
        self._nodes_at: Overlay[str, tuple[NodeId, ...]] = Overlay(basis.nodes_at)

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

    def remove_chain(self, id: ChainId) -> None:
        """Take out a chain that no slot leads to; its targets are spares."""
        for place in self.chains[id].targets:
            self._chain_of.remove(place.target)
            self._left(place.target)
            if place.target in self.leaving:
                self.leaving.remove(place.target)
        self.chains.remove(id)

    def put_node(self, node: Node) -> None:
        """Put a node in, or what it has become."""
        before = self.nodes.get(node.id)
        known = before.addresses if before else ()
        self.nodes[node.id] = node
        for address in known:
            if address not in node.addresses:
                _leave(self._nodes_at, address, node.id)
        for address in dict.fromkeys(node.addresses):
            if address not in known:
                self._nodes_at[address] = (*self.nodes_at(address), node.id)

    def forget_node(self, id: NodeId) -> None:
        """Take out a node that has no targets."""
        assert not self.targets_on(id)
        for address in self.nodes[id].addresses:
            _leave(self._nodes_at, address, id)
        self.nodes.remove(id)

    def nodes_at(self, address: str) -> Sequence[NodeId]:
        """Return the nodes that say, or said, that they are reached at an address."""
        return self._nodes_at.get(address) or ()

    def targets_on(self, node: NodeId) -> Sequence[TargetId]:
        """Return the targets of a node."""
        return self._targets_on.get(node) or ()

    def put_target(self, target: Target) -> None:
        """Put a target in, or what it has become; it never changes its node."""
        before = self.targets.get(target.id)
        assert before is None or before.node == target.node
        self.targets[target.id] = target
        if before is None:
            self._targets_on[target.node] = (*self.targets_on(target.node), target.id)

    def forget_target(self, id: TargetId) -> None:
        """Take out a target that is in no chain."""
        assert self.chain_of(id) is None
        _leave(self._targets_on, self.targets[id].node, id)
        self.targets.remove(id)
        identity = self.identities.get(id)
        if identity is not None:
            self._forget_uuids(identity)
            self.identities.remove(id)

    def put_identity(self, target: TargetId, identity: Identity) -> None:
        """Put in who a target is."""
        before = self.identities.get(target)
        if before is not None:
            self._forget_uuids(before)
        self.identities[target] = identity
        for uuid in uuids_of(identity):
            self._owners[uuid] = target

    def owner_of(self, uuid: UUID) -> TargetId | None:
        """Return the target whose directory has a uuid."""
        return self._owners.get(uuid)

    def mark(self) -> Callable[[], None]:
        """Return what takes back everything that is changed from now on."""
        restores = [part.mark() for part in self._parts()]

        def take_back() -> None:
            for restore in restores:
                restore()

        return take_back

    def finish(self) -> Proposal | None:
        """Return the proposal; None where nothing is different."""
        records = self._records()
        routing = self._routing()
        if routing is None and not records:
            return None
        after = Basis(
            routing or self.basis.routing,
            self._ledger() if records else self.basis.ledger,
            self._chain_of.result(),
            self._owners.result(),
            self._targets_on.result(),
            self._nodes_at.result(),
        )
        if routing is None:
            return Proposal(after, None, records)
        delta = self._delta(routing)
        problems = list(islice(self._problems(after, delta), 3))
        assert not problems, problems
        return Proposal(after, delta, records)

    def _forget_uuids(self, identity: Identity) -> None:
        for uuid in uuids_of(identity):
            self._owners.remove(uuid)

    def _left(self, target: TargetId) -> None:
        """Remember that what a target holds goes out of date from now on."""
        identity = self.identities.get(target)
        if identity is not None:
            self.put_identity(target, replace(identity, used=True))

    def _records(self) -> dict[bytes, bytes | None]:
        return {
            **records_of(IDENTITY, self.identities.different()),
            **records_of(LEAVING, self.leaving.different()),
            **records_of(TABLE, self.replicas.different()),
            **records_of(MOVE, self.slot_moves.different()),
        }

    def _ledger(self) -> Ledger:
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

    def _delta(self, routing: RoutingInfo) -> Delta:
        nodes, removed_nodes = _parted(self.nodes)
        targets, removed_targets = _parted(self.targets)
        chains, removed_chains = _parted(self.chains)
        namespaces, removed_namespaces = _parted(self.namespaces)
        before = self.basis.routing
        slot_tables, moves = slot_changes(before.slot_tables, routing.slot_tables)
        return Delta(
            base=before.version,
            version=routing.version,
            cluster=routing.cluster,
            nodes=nodes,
            targets=targets,
            chains=chains,
            slot_tables=slot_tables,
            namespaces=namespaces,
            removed_nodes=removed_nodes,
            removed_targets=removed_targets,
            removed_chains=removed_chains,
            removed_slot_tables=_parted(self.slot_tables)[1],
            removed_namespaces=removed_namespaces,
            moves=moves,
        )

    def _problems(self, after: Basis, delta: Delta) -> Iterator[str]:
        """Name what this change makes inconsistent; with 20,000 chains it touches a few."""
        routing = after.routing
        if delta.removed_chains or delta.removed_slot_tables:
            yield from problems_of(routing)
            return
        places = {place.target for chain in delta.chains.values() for place in chain.targets}
        targets = {id: routing.targets[id] for id in places | delta.targets.keys()}
        touched = RoutingInfo(nodes=routing.nodes, targets=targets, chains=delta.chains)
        yield from problems_of(touched)
        for table in delta.slot_tables.values():
            yield from slot_problems(table, routing)
        for id, moves in delta.moves.items():
            lost = set(moves.values()) - routing.chains.keys() - {NO_CHAIN}
            yield from (f"slot table {id} names chain {chain}, not known" for chain in lost)
        for policy in delta.namespaces.values():
            if policy.slot_table not in routing.slot_tables:
                yield f"namespace {policy.name!r} uses slot table {policy.slot_table}: not known"
        for node in delta.removed_nodes & after.targets_on.keys():
            yield f"node {node} is forgotten, and has targets"
        for target in delta.removed_targets & after.chain_of.keys():
            yield f"target {target} is forgotten, and in a chain"

    def _ledger_parts(self) -> list[Part]:
        return [self.identities, self.leaving, self.replicas, self.slot_moves]

    def _routing_parts(self) -> list[Part]:
        return [self.nodes, self.targets, self.chains, self.slot_tables, self.namespaces]

    def _parts(self) -> list[Part]:
        indices: list[Part] = [self._chain_of, self._owners, self._targets_on, self._nodes_at]
        return [*self._ledger_parts(), *self._routing_parts(), *indices]


def _parted(overlay: Overlay[Id, Value]) -> tuple[dict[Id, Value], frozenset[Id]]:
    """Return what is put in, and what is taken out."""
    different = overlay.different()
    put = {id: value for id, value in different.items() if value is not None}
    return put, frozenset(different.keys() - put.keys())


def _leave(groups: Overlay[Key, tuple[Id, ...]], key: Key, leaves: Id) -> None:
    """Take an id out of a group; a group of nobody goes."""
    left = tuple(id for id in groups[key] if id != leaves)
    if left:
        groups[key] = left
    else:
        groups.remove(key)
