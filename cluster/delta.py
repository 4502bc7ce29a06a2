"""The difference between two versions of the routing info: what mgmtd pushes at each change."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from kvstore.cluster.ids import ChainId, NodeId, RoutingVersion, SlotTableId, TargetId
from kvstore.cluster.routing import (
    NIL_UUID,
    Chain,
    NamespacePolicy,
    Node,
    RoutingInfo,
    SlotTable,
    Target,
)
from kvstore.errors import RoutingVersionError

Id = TypeVar("Id", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Delta:
    """What to put in, to take out and to move, to come from version `base` to `version`."""

    base: RoutingVersion
    version: RoutingVersion
    cluster: UUID = NIL_UUID
    nodes: Mapping[NodeId, Node] = field(default_factory=dict)
    targets: Mapping[TargetId, Target] = field(default_factory=dict)
    chains: Mapping[ChainId, Chain] = field(default_factory=dict)
    slot_tables: Mapping[SlotTableId, SlotTable] = field(default_factory=dict)
    """Only tables that are new or have another count of slots."""
    namespaces: Mapping[str, NamespacePolicy] = field(default_factory=dict)
    removed_nodes: frozenset[NodeId] = frozenset()
    removed_targets: frozenset[TargetId] = frozenset()
    removed_chains: frozenset[ChainId] = frozenset()
    removed_slot_tables: frozenset[SlotTableId] = frozenset()
    removed_namespaces: frozenset[str] = frozenset()
    moves: Mapping[SlotTableId, Mapping[int, ChainId]] = field(default_factory=dict)
    """For each table that changed, the slots that have another chain now."""


def delta_between(before: RoutingInfo, after: RoutingInfo) -> Delta:
    """Return what leads from one version to another of the same cluster."""
    assert before.cluster == after.cluster
    replaced, moves = slot_changes(before.slot_tables, after.slot_tables)
    return Delta(
        base=before.version,
        version=after.version,
        cluster=after.cluster,
        nodes=_changed(before.nodes, after.nodes),
        targets=_changed(before.targets, after.targets),
        chains=_changed(before.chains, after.chains),
        slot_tables=replaced,
        namespaces=_changed(before.namespaces, after.namespaces),
        removed_nodes=frozenset(before.nodes.keys() - after.nodes.keys()),
        removed_targets=frozenset(before.targets.keys() - after.targets.keys()),
        removed_chains=frozenset(before.chains.keys() - after.chains.keys()),
        removed_slot_tables=frozenset(before.slot_tables.keys() - after.slot_tables.keys()),
        removed_namespaces=frozenset(before.namespaces.keys() - after.namespaces.keys()),
        moves=moves,
    )


def apply_delta(delta: Delta, before: RoutingInfo) -> RoutingInfo:
    """Return the routing info that the delta leads to; `before` is not changed.

    Raises RoutingVersionError where the delta leads from something else than `before`.
    """
    if delta.cluster != before.cluster:
        raise RoutingVersionError(
            f"the delta belongs to cluster {delta.cluster}, this is {before.cluster}"
        )
    if delta.base != before.version:
        raise RoutingVersionError(
            f"the delta leads from version {delta.base} to {delta.version},"
            f" this is version {before.version}: ask for the whole routing info"
        )
    return RoutingInfo(
        version=delta.version,
        cluster=delta.cluster,
        nodes=_merged(before.nodes, delta.nodes, delta.removed_nodes),
        targets=_merged(before.targets, delta.targets, delta.removed_targets),
        chains=_merged(before.chains, delta.chains, delta.removed_chains),
        slot_tables=_moved(before.slot_tables, delta),
        namespaces=_merged(before.namespaces, delta.namespaces, delta.removed_namespaces),
    )


def _changed(before: Mapping[Id, Value], after: Mapping[Id, Value]) -> dict[Id, Value]:
    if before is after:
        return {}
    return {
        id: value
        for id, value in after.items()
        if (old := before.get(id)) is not value and old != value
    }


def _merged(
    before: Mapping[Id, Value], changed: Mapping[Id, Value], removed: frozenset[Id]
) -> Mapping[Id, Value]:
    if not changed and not removed:
        return before
    merged = {**before, **changed}
    for id in removed:
        merged.pop(id, None)
    return merged


def slot_changes(
    before: Mapping[SlotTableId, SlotTable], after: Mapping[SlotTableId, SlotTable]
) -> tuple[dict[SlotTableId, SlotTable], dict[SlotTableId, dict[int, ChainId]]]:
    """Return the tables that are new or of another size, and the slots that moved in the others."""
    replaced: dict[SlotTableId, SlotTable] = {}
    moves: dict[SlotTableId, dict[int, ChainId]] = {}
    for id, table in after.items():
        old = before.get(id)
        if old is None or len(old.chains) != len(table.chains):
            replaced[id] = table
        elif old.chains is not table.chains:
            pairs = enumerate(zip(old.chains, table.chains, strict=True))
            moved = {slot: chain for slot, (was, chain) in pairs if was != chain}
            if moved:
                moves[id] = moved
    return replaced, moves


def _moved(
    before: Mapping[SlotTableId, SlotTable], delta: Delta
) -> Mapping[SlotTableId, SlotTable]:
    tables = dict(_merged(before, delta.slot_tables, delta.removed_slot_tables))
    for id, moves in delta.moves.items():
        table = tables.get(id)
        if table is None or max(moves, default=0) >= len(table.chains):
            raise RoutingVersionError(f"the delta moves slots that slot table {id} does not have")
        chains = list(table.chains)
        for slot, chain in moves.items():
            chains[slot] = chain
        tables[id] = SlotTable(id, tuple(chains))
    return tables
