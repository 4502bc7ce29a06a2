"""Slots: shares by capacity, the fewest moves, utilisation within five percent."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.cluster.ids import ChainId
from kvstore.cluster.placement.draws import Draws
from kvstore.cluster.placement.slots import Moves, assigned, evened, reweighted, shares
from kvstore.errors import PlacementError

weights_of_chains = st.dictionaries(
    st.integers(1, 500).map(ChainId), st.integers(1, 10_000), min_size=1, max_size=40
)


def moved(slots: Sequence[ChainId], moves: Moves) -> list[ChainId]:
    return [moves.get(slot, chain) for slot, chain in enumerate(slots)]


def utilisation(
    slots: Sequence[ChainId], sizes: Sequence[int], weights: Mapping[ChainId, int]
) -> list[float]:
    used = Counter[ChainId]()
    for chain, size in zip(slots, sizes, strict=True):
        used[chain] += size
    mean = sum(sizes) / sum(weights.values())
    return [used[chain] / weight / mean for chain, weight in weights.items()]


@given(weights_of_chains)
def test_every_chain_gets_its_share_of_slots(weights: dict[ChainId, int]) -> None:
    counts = Counter(assigned(weights, 1024, 1))

    for chain, weight in weights.items():
        assert abs(counts[chain] - 1024 * weight / sum(weights.values())) < 1


@given(weights_of_chains, weights_of_chains)
def test_new_weights_move_the_fewest_slots(
    before: dict[ChainId, int], after: dict[ChainId, int]
) -> None:
    slots = assigned(before, 512, 1)

    moves = reweighted(slots, after)

    held, counts = Counter(slots), Counter(moved(slots, moves))
    assert shares(after, 512, held) == {chain: counts[chain] for chain in after}
    assert len(moves) == sum(max(0, held[chain] - counts[chain]) for chain in held)
    assert {} == reweighted(moved(slots, moves), after)


def test_a_chain_that_joins_takes_only_its_share() -> None:
    weights = dict.fromkeys(map(ChainId, range(1, 9)), 100)
    slots = assigned(weights, 1024, 1)

    moves = reweighted(slots, {**weights, ChainId(9): 100})

    assert len(moves) in (113, 114)
    assert {9} == set(moves.values())


def test_a_chain_that_goes_gives_all_and_nobody_else_moves() -> None:
    weights = dict.fromkeys(map(ChainId, range(1, 10)), 100)
    slots = assigned(weights, 1024, 1)
    del weights[ChainId(4)]

    moves = reweighted(slots, weights)

    assert {slot for slot, chain in enumerate(slots) if chain == 4} == set(moves)
    assert 4 not in moved(slots, moves)


def test_neighbouring_slots_are_spread() -> None:
    slots = assigned(dict.fromkeys(map(ChainId, range(1, 9)), 1), 1024, 1)

    same = sum(a == b for a, b in pairwise(slots))
    assert same < 180


@pytest.mark.parametrize("seed", range(5))
def test_utilisation_is_within_five_percent_after_evening(seed: int) -> None:
    draws = Draws(seed)
    weights = {ChainId(id): draws.choice([2000, 4000, 8000]) for id in range(1, 31)}
    slots = assigned(weights, 2048, seed)
    sizes = [500 + draws.below(1000) * draws.below(10) for _ in slots]
    assert max(utilisation(slots, sizes, weights)) > 1.05

    moves = evened(slots, sizes, weights, 2048)
    after = utilisation(moved(slots, moves), sizes, weights)

    assert 0.95 <= min(after)
    assert max(after) <= 1.05
    assert len(moves) < 300


def test_evening_moves_nothing_where_all_are_even() -> None:
    weights = dict.fromkeys(map(ChainId, range(1, 5)), 10)
    slots = assigned(weights, 64, 1)

    assert {} == evened(slots, [100] * 64, weights, 64)
    assert {} == evened(slots, [0] * 64, weights, 64)


def test_evening_takes_no_more_moves_than_it_may() -> None:
    weights = dict.fromkeys(map(ChainId, range(1, 3)), 10)
    slots = [ChainId(1)] * 64

    moves = evened(slots, [100] * 64, weights, 5)

    assert 5 == len(moves)


def test_one_slot_that_is_too_large_does_not_stop_the_others() -> None:
    weights = dict.fromkeys(map(ChainId, range(1, 5)), 100)
    slots = [ChainId(1)] + [ChainId(2)] * 15
    sizes = [10_000] + [100] * 15

    moves = evened(slots, sizes, weights, 100)

    assert 0 not in moves
    after = Counter(moved(slots, moves))
    assert after[ChainId(3)] >= 3
    assert after[ChainId(4)] >= 3


def test_a_growing_cluster_stays_within_five_percent() -> None:
    draws = Draws(11)
    weights = {ChainId(id): 1000 for id in range(1, 11)}
    slots = list(assigned(weights, 1024, 1))
    sizes = [900 + draws.below(200) for _ in slots]
    for id in range(11, 21):
        weights[ChainId(id)] = draws.choice([1000, 3000])
        slots = moved(slots, reweighted(slots, weights))
        slots = moved(slots, evened(slots, sizes, weights, 1024))
        after = utilisation(slots, sizes, weights)
        assert 0.95 <= min(after) <= max(after) <= 1.05


def test_chains_without_capacity_are_refused() -> None:
    with pytest.raises(PlacementError, match="no chain has any capacity"):
        assigned({ChainId(1): 0}, 4, 1)
