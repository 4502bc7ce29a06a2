"""New chains in a draft, and what they can hold. Pure."""

from collections.abc import Iterable, Mapping

from kvstore.cluster.chains import new_chain
from kvstore.cluster.ids import ID_MAX, ChainId, ChainVersion, TargetId
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.placement.layout import Row
from kvstore.cluster.routing import Chain, ChainTarget
from kvstore.cluster.states import PublicState
from kvstore.errors import PlacementError


def next_chain_id(draft: Draft) -> int:
    """Return the first id that no chain has."""
    return max((chain.id for chain in draft.chains.values()), default=0) + 1


def put_row(draft: Draft, row: Row, number: int) -> Chain:
    """Put a new chain into the draft: empty targets serve, what has held data before syncs."""
    assert number <= ID_MAX
    id = ChainId(number)
    fresh = [place for place in row if not used(draft, place.target)]
    if not fresh:
        raise PlacementError(
            f"targets {[place.target for place in row]} have all been in chains before: a new chain"
            " needs one that is empty; replace a disk, or add a node"
        )
    serving = new_chain(id, [draft.targets[place.target] for place in fresh])
    later = [place for place in row if used(draft, place.target)]
    places = [ChainTarget(place.target, PublicState.OFFLINE) for place in later]
    chain = Chain(id, ChainVersion(1), (*serving.targets, *places))
    draft.put_chain(chain)
    return chain


def weight_of(draft: Draft, targets: Iterable[TargetId]) -> int:
    """Return what a chain holds, in MiB: what its smallest target does; 0: not limited."""
    capacities = [draft.targets[target].capacity_mib for target in targets]
    return min((capacity for capacity in capacities if capacity), default=0)


def even(weights: Mapping[ChainId, int]) -> dict[ChainId, int]:
    """Return the weights, where those that are not limited count as the largest."""
    largest = max(weights.values(), default=0) or 1
    return {chain: weight or largest for chain, weight in weights.items()}


def used(draft: Draft, target: TargetId) -> bool:
    """Say whether a target may hold what is out of date."""
    identity = draft.identities.get(target)
    return identity is None or identity.used
