"""Which slots are to move, so that chains are used evenly. Pure.

Where targets hold enough to tell, what counts is bytes: a slot is taken to hold its share of what
its chain does, and what is left uneven by that shows in the next plan. In a cluster that is almost
empty what counts is slots.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from kvstore.cluster.ids import ChainId, TargetId
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.mgmtd.ledger import DISSOLVES
from kvstore.cluster.mgmtd.new_chains import even, weight_of
from kvstore.cluster.mgmtd.slot_moves import planned
from kvstore.cluster.placement.slots import evened, reweighted
from kvstore.cluster.routing import NO_CHAIN, Chain, SlotTable

MIB = 1 << 20
TELLING_MIN = 0.05
"""How full chains are on average, where bytes tell more than slots."""

Used = Mapping[TargetId, int]
"""What each target holds, in bytes, as far as it was reported."""


def moves_of(draft: Draft, table: SlotTable, used: Used) -> dict[int, ChainId]:
    """Return the moves, beyond those under way, that bring each chain to its share."""
    slots = planned(draft, table)
    weights = weights_of(draft, table, slots)
    sizes = sizes_of(draft, table, used)
    if sum(sizes) < TELLING_MIN * sum(weights.values()) * MIB:
        return reweighted(slots, weights)
    moves = _given_up(slots, sizes, weights)
    for slot, chain in moves.items():
        slots[slot] = chain
    moves.update(evened(slots, sizes, weights, len(slots)))
    return moves


def moves_from(draft: Draft, table: SlotTable, used: Used, gives: ChainId) -> dict[int, ChainId]:
    """Return where the slots of a chain go that is to have none."""
    slots = planned(draft, table)
    weights = weights_of(draft, table, slots)
    weights.pop(gives, None)
    if not weights:
        return {}
    held = {slot for slot, chain in enumerate(slots) if chain == gives}
    sizes = sizes_of(draft, table, used)
    if sum(sizes) < TELLING_MIN * sum(weights.values()) * MIB:
        sizes = [1] * len(slots)
    moves = _given_up(slots, sizes, weights)
    return {slot: chain for slot, chain in moves.items() if slot in held}


def weights_of(draft: Draft, table: SlotTable, slots: Sequence[ChainId]) -> dict[ChainId, int]:
    """Return what each chain can hold that is to have slots of a table, in MiB."""
    going = dissolving(draft)
    replicas = draft.replicas.get(table.id) or 1
    others = {
        chain
        for other in draft.slot_tables.values()
        if other.id != table.id
        for chain in other.chains
    }
    weights = {
        chain.id: weight_of(draft, targets_of(chain))
        for chain in draft.chains.values()
        if chain.id not in others and len(chain.targets) >= replicas and chain.id not in going
    }
    for id in set(slots) - weights.keys() - going - {NO_CHAIN}:
        weights[id] = weight_of(draft, targets_of(draft.chains[id]))
    return even(weights)


def dissolving(draft: Draft) -> set[ChainId]:
    """Return the chains that are to have no slots, and then to go."""
    chains = (draft.chain_of(id) for id, joins in draft.leaving.items() if joins == DISSOLVES)
    return {chain.id for chain in chains if chain is not None}


def sizes_of(draft: Draft, table: SlotTable, used: Used) -> list[int]:
    """Return what each slot holds, in bytes: its share of what its chain does."""
    counts = Counter(table.chains)
    share: dict[ChainId, int] = {}
    for id, count in counts.items():
        chain = draft.chains.get(id)
        held = [used.get(target, 0) for target in targets_of(chain)] if chain else []
        share[id] = max(held, default=0) // count
    return [share[chain] for chain in table.chains]


def targets_of(chain: Chain) -> list[TargetId]:
    """Return the targets of a chain."""
    return [place.target for place in chain.targets]


def _given_up(
    slots: Sequence[ChainId], sizes: Sequence[int], weights: Mapping[ChainId, int]
) -> dict[int, ChainId]:
    """Return where the slots go of chains that are to have none: to whoever is emptiest then."""
    held = dict.fromkeys(weights, 0)
    for slot, chain in enumerate(slots):
        if chain in held:
            held[chain] += sizes[slot]
    moves: dict[int, ChainId] = {}
    for slot, chain in enumerate(slots):
        if chain not in held:
            taker = min(held, key=lambda id: ((held[id] + sizes[slot]) / weights[id], id))
            held[taker] += sizes[slot]
            moves[slot] = taker
    return moves
