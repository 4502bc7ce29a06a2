"""Makes chains and the slot table that leads to them, out of spares. Pure."""

from collections.abc import Mapping, Sequence

from kvstore.cluster.chains import new_chain
from kvstore.cluster.ids import ID_MAX, ChainId, ChainVersion, SlotTableId, TargetId
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.mgmtd.spares import Open, Spares
from kvstore.cluster.placement.design import design
from kvstore.cluster.placement.layout import Row
from kvstore.cluster.placement.slots import assigned
from kvstore.cluster.routing import Chain, ChainTarget, NamespacePolicy, SlotTable
from kvstore.cluster.states import NodeKind, NodeState, PublicState
from kvstore.errors import PlacementError

DEFAULT_NAMESPACE = "default"


def form_first_chains(draft: Draft, settings: Settings, is_open: Open) -> dict[str, object] | None:
    """Make the chains of a new cluster once everything that it expects is there; else None."""
    nodes = [
        node.id
        for node in draft.nodes.values()
        if node.kind is NodeKind.STORAGE and node.state is NodeState.ACTIVE
    ]
    if len(nodes) < settings.expected_nodes:
        return None
    targets = [target for target in draft.targets.values() if target.node in set(nodes)]
    if len(targets) < max(1, settings.expected_targets):
        return None
    if len({target.node for target in targets}) < settings.expected_nodes:
        return None
    if not all(is_open(target.id) for target in targets):
        return None
    try:
        return make_chains(
            draft,
            is_open,
            replicas=settings.replicas,
            spares=settings.spares,
            slots=settings.slots,
            seed=settings.seed,
        )
    except PlacementError:
        return None


def make_chains(
    draft: Draft, is_open: Open, *, replicas: int, spares: int, slots: int, seed: int
) -> dict[str, object]:
    """Make chains of all spares that never were in one, and a slot table; say how many."""
    free = [place for place in Spares(draft, is_open).free if not _used(draft, place.target)]
    if not free:
        raise PlacementError(
            "no chain can be made: there is no target that is open, empty and in no chain yet;"
            " start storage nodes first"
        )
    layout = design(free, replicas, spares, seed)
    if len(layout.rows) > slots:
        raise PlacementError(
            f"{len(layout.rows)} chains, and {slots} slots for them: ask for more slots"
        )
    first = next_chain_id(draft)
    chains = [put_row(draft, row, first + index) for index, row in enumerate(layout.rows)]
    table = SlotTableId(max((table.id for table in draft.slot_tables.values()), default=0) + 1)
    weights = {chain.id: weight_of(draft, chain) for chain in chains}
    draft.slot_tables[table] = SlotTable(table, assigned(even(weights), slots, seed))
    draft.replicas[table] = replicas
    if DEFAULT_NAMESPACE not in draft.namespaces:
        policy = NamespacePolicy(DEFAULT_NAMESPACE, table, replicas)
        draft.namespaces[DEFAULT_NAMESPACE] = policy
    return {"chains": len(chains), "spares": len(layout.spares), "slot_table": table}


def next_chain_id(draft: Draft) -> int:
    """Return the first id that no chain has."""
    return max((chain.id for chain in draft.chains.values()), default=0) + 1


def put_row(draft: Draft, row: Row, number: int) -> Chain:
    """Put a new chain into the draft: empty targets serve, what has held data before syncs."""
    assert number <= ID_MAX
    id = ChainId(number)
    fresh = [place for place in row if not _used(draft, place.target)]
    if not fresh:
        raise PlacementError(
            f"targets {[place.target for place in row]} have all been in chains before: a new chain"
            " needs one that is empty; replace a disk, or add a node"
        )
    serving = new_chain(id, [draft.targets[place.target] for place in fresh])
    later = [place for place in row if _used(draft, place.target)]
    places = [ChainTarget(place.target, PublicState.OFFLINE) for place in later]
    chain = Chain(id, ChainVersion(1), (*serving.targets, *places))
    draft.put_chain(chain)
    return chain


def weight_of(draft: Draft, chain: Chain) -> int:
    """Return what a chain holds, in MiB: what its smallest target does; 0: not limited."""
    capacities = [draft.targets[place.target].capacity_mib for place in chain.targets]
    return min((capacity for capacity in capacities if capacity), default=0)


def even(weights: Mapping[ChainId, int]) -> dict[ChainId, int]:
    """Return the weights, where those that are not limited count as the largest."""
    largest = max(weights.values(), default=0) or 1
    return {chain: weight or largest for chain, weight in weights.items()}


def targets_of(rows: Sequence[Row]) -> list[list[int]]:
    """Return rows as lists of targets, for people."""
    return [[place.target for place in row] for row in rows]


def _used(draft: Draft, target: TargetId) -> bool:
    identity = draft.identities.get(target)
    return identity is None or identity.used
