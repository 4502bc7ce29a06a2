"""Chains of new clusters: even, apart, the same for the same seed."""

from collections import Counter

import pytest
from unit.places import node_ids, places_of

from kvstore.cluster.ids import NodeId
from kvstore.cluster.placement.design import design
from kvstore.cluster.placement.draws import Draws
from kvstore.cluster.placement.layout import Layout, evenness, recovery_load
from kvstore.errors import PlacementError


def test_draws_are_those_of_the_published_generator() -> None:
    draws = Draws(1234567)

    assert [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ] == [draws.word() for _ in range(5)]


def test_a_seed_gives_the_same_order_for_ever() -> None:
    assert [8, 1, 5, 9, 0, 4, 3, 2, 6, 7] == Draws(7).shuffled(range(10))


def test_draws_below_a_count_are_even() -> None:
    draws = Draws(3)

    counts = Counter(draws.below(6) for _ in range(6000))

    assert all(850 < counts[value] < 1150 for value in range(6))


@pytest.mark.parametrize(
    ("nodes", "targets", "replicas", "meetings"),
    [(4, 3, 3, 2), (7, 3, 3, 1), (6, 5, 3, 2), (9, 4, 3, 1), (13, 4, 4, 1), (5, 4, 2, 1)],
)
@pytest.mark.parametrize("seed", range(3))
def test_where_a_perfect_design_exists_nodes_meet_almost_equally_often(
    nodes: int, targets: int, replicas: int, meetings: int, seed: int
) -> None:
    layout = design(places_of(nodes, targets), replicas, 0, seed)

    fewest, most = evenness(layout.rows, node_ids(nodes))
    assert nodes * targets == sum(map(len, layout.rows))
    assert meetings - 1 <= fewest
    assert most <= meetings + 1


@pytest.mark.parametrize(("nodes", "targets"), [(10, 12), (16, 16), (25, 24)])
def test_the_load_of_a_failed_node_spreads_evenly_over_all_others(nodes: int, targets: int) -> None:
    layout = design(places_of(nodes, targets), 3, 0, 1)

    for failed in node_ids(nodes):
        load = recovery_load(layout.rows, failed)
        mean = 2 * targets / (nodes - 1)
        assert nodes - 1 == len(load)
        assert max(load.values()) <= mean + 1.5
        assert min(load.values()) >= mean - 1.5


def test_a_large_cluster_is_laid_out_evenly() -> None:
    layout = design(places_of(200, 12), 3, 0, 1)

    assert 800 == len(layout.rows)
    for failed in node_ids(200):
        load = recovery_load(layout.rows, failed)
        assert 22 <= len(load)
        assert max(load.values()) <= 2


def test_heads_and_tails_are_spread_over_all_nodes() -> None:
    layout = design(places_of(10, 12), 3, 0, 1)

    for seat in (0, -1):
        counts = Counter(row[seat].node for row in layout.rows)
        assert all(2 <= counts[node] <= 6 for node in node_ids(10))


def test_racks_are_kept_apart_where_there_are_enough() -> None:
    layout = design(places_of(12, 6, racks=4), 3, 0, 1)

    assert all(3 == len({place.rack for place in row}) for row in layout.rows)
    assert 24 == len(layout.rows)


def test_with_too_few_racks_nodes_are_kept_apart() -> None:
    layout = design(places_of(6, 4, racks=2), 3, 0, 1)

    assert 8 == len(layout.rows)
    assert all(3 == len({place.node for place in row}) for row in layout.rows)


def test_spares_are_left_over_on_different_nodes() -> None:
    layout = design(places_of(6, 5), 3, 6, 1)

    assert 8 == len(layout.rows)
    assert 6 == len(layout.spares) == len({place.node for place in layout.spares})


def test_nodes_of_different_sizes_are_used_as_far_as_they_go() -> None:
    places = [place for place in places_of(6, 6) if place.node > 2 or place.target % 2]

    layout = design(places, 3, 0, 1)

    assert len(places) // 3 == len(layout.rows)


def test_the_same_seed_gives_the_same_layout_and_another_seed_another() -> None:
    def laid_out(seed: int) -> Layout:
        return design(places_of(8, 6), 3, 0, seed)

    assert laid_out(1) == laid_out(1)
    assert laid_out(1) != laid_out(2)


def test_too_few_nodes_are_refused_with_what_to_do() -> None:
    with pytest.raises(PlacementError, match="8 targets on 2 nodes make no chain of 3"):
        design(places_of(2, 4), 3, 0, 1)
    with pytest.raises(PlacementError, match="leave 10 spares: add nodes"):
        design(places_of(3, 4), 3, 10, 1)


def test_a_single_node_holds_chains_of_one() -> None:
    layout = design(places_of(1, 3), 1, 0, 1)

    assert [NodeId(1)] * 3 == [row[0].node for row in layout.rows]
