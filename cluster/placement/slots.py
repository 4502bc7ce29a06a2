"""Which chain holds which slots: by capacity, with as few moved slots as can be.

`assigned` makes the table of a new cluster; `reweighted` says which slots move when chains come, go
or change their capacity; `evened` says which move when slots turn out to differ in size. Moves are
slot to chain, as a delta of the routing info has them.
"""

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush

from kvstore.cluster.ids import ChainId
from kvstore.cluster.placement.draws import Draws
from kvstore.cluster.placement.steps import Work, finish
from kvstore.cluster.routing import is_power_of_two
from kvstore.errors import PlacementError

TOLERANCE = 0.05
"""How far a chain's utilisation may be from the mean, as a fraction of the mean."""

Moves = dict[int, ChainId]


def assigned(weights: Mapping[ChainId, int], slot_count: int, seed: int) -> tuple[ChainId, ...]:
    """Return a table for chains of these capacities; neighbouring slots are of unrelated chains."""
    return finish(assigning(weights, slot_count, seed))


def assigning(
    weights: Mapping[ChainId, int], slot_count: int, seed: int
) -> Work[tuple[ChainId, ...]]:
    """Make a table in steps."""
    assert is_power_of_two(slot_count)
    counts = shares(weights, slot_count, {})
    slots = [chain for chain, count in sorted(counts.items()) for _ in range(count)]
    return tuple((yield from Draws(seed).shuffling(slots)))


def shares(
    weights: Mapping[ChainId, int], slot_count: int, held: Mapping[ChainId, int]
) -> dict[ChainId, int]:
    """Return how many slots each chain is to have: its share by weight, rounded up or down.

    Who has more than the lower number already is rounded up first, so that fewer slots move.
    """
    total = sum(weights.values())
    if total <= 0:
        raise PlacementError("no chain has any capacity: add targets, or set their capacity")
    counts = {chain: slot_count * weight // total for chain, weight in weights.items()}
    left = slot_count - sum(counts.values())
    fractional = [chain for chain, weight in weights.items() if slot_count * weight % total]
    assert left <= len(fractional)
    fractional.sort(
        key=lambda chain: (
            held.get(chain, 0) <= counts[chain],
            -(slot_count * weights[chain] % total),
            chain,
        )
    )
    for chain in fractional[:left]:
        counts[chain] += 1
    return counts


def reweighted(slots: Sequence[ChainId], weights: Mapping[ChainId, int]) -> Moves:
    """Return the fewest moves that give every chain its share; chains without weight give all."""
    held: dict[ChainId, int] = {}
    for chain in slots:
        held[chain] = held.get(chain, 0) + 1
    counts = shares(weights, len(slots), held)
    missing = {chain: count - held.get(chain, 0) for chain, count in sorted(counts.items())}
    takers = [chain for chain, count in missing.items() for _ in range(count)]
    surplus = {chain: count - counts.get(chain, 0) for chain, count in held.items()}
    moves: Moves = {}
    for slot, chain in enumerate(slots):
        if surplus[chain] > 0:
            surplus[chain] -= 1
            moves[slot] = takers[len(moves)]
    assert len(moves) == len(takers)
    return moves


def evened(
    slots: Sequence[ChainId],
    sizes: Sequence[int],
    weights: Mapping[ChainId, int],
    moves_max: int,
) -> Moves:
    """Return moves that bring all chains within the tolerance of the mean utilisation.

    `sizes` are the bytes of each slot. The fullest chain gives the emptiest one the largest slot
    that does not make that one the fuller of the two; it stops when all are near enough, when no
    move helps any more, or at `moves_max`.
    """
    assert len(slots) == len(sizes)
    used = dict.fromkeys(weights, 0)
    owned: dict[ChainId, list[int]] = {chain: [] for chain in weights}
    for slot, chain in enumerate(slots):
        used[chain] += sizes[slot]
        owned[chain].append(slot)
    mean = sum(sizes) / sum(weights.values())
    fullest = [(-used[chain] / weights[chain], chain) for chain in weights]
    emptiest = [(used[chain] / weights[chain], chain) for chain in weights]
    heapify(fullest)
    heapify(emptiest)
    moves: Moves = {}
    while len(moves) < moves_max and fullest and emptiest:
        giver = _current(fullest, used, weights, -1)
        taker = _current(emptiest, used, weights, 1)
        if giver is None or taker is None:
            break
        high, low = used[giver] / weights[giver], used[taker] / weights[taker]
        if high <= mean * (1 + TOLERANCE) and low >= mean * (1 - TOLERANCE):
            break
        fitting = _movable(owned[giver], sizes, high - low, weights[giver], weights[taker])
        if fitting is None:
            heappop(fullest)  # what it has is too large for anybody: the next one may help
            continue
        owned[giver].remove(fitting)
        owned[taker].append(fitting)
        used[giver] -= sizes[fitting]
        used[taker] += sizes[fitting]
        moves[fitting] = taker
        for chain in (giver, taker):
            heappush(fullest, (-used[chain] / weights[chain], chain))
            heappush(emptiest, (used[chain] / weights[chain], chain))
    return {slot: chain for slot, chain in moves.items() if slots[slot] != chain}


def _current(
    heap: list[tuple[float, ChainId]],
    used: Mapping[ChainId, int],
    weights: Mapping[ChainId, int],
    sign: int,
) -> ChainId | None:
    """Return the first chain of a heap whose entry is not outdated."""
    while heap and heap[0][0] != sign * used[heap[0][1]] / weights[heap[0][1]]:
        heappop(heap)
    return heap[0][1] if heap else None


def _movable(
    slots: Sequence[int], sizes: Sequence[int], gap: float, giver: int, taker: int
) -> int | None:
    """Return the largest slot whose move narrows the gap without turning it round."""
    limit = gap / (1 / giver + 1 / taker)
    fitting = [slot for slot in slots if 0 < sizes[slot] <= limit]
    return max(fitting, key=lambda slot: (sizes[slot], -slot)) if fitting else None
