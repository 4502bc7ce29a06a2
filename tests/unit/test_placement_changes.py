"""Nodes come and go: as few moves as can be, and the layout stays even."""

from collections import Counter

import pytest
from unit.places import node_ids, places_of

from kvstore.cluster.ids import ChainId, NodeId, TargetId
from kvstore.cluster.placement.changes import Plan, drain, grow
from kvstore.cluster.placement.design import design
from kvstore.cluster.placement.layout import Place, Row, check_row, recovery_load
from kvstore.errors import PlacementError


def laid_out(
    nodes: int, targets: int, spares: int, racks: int = 1
) -> tuple[dict[ChainId, Row], tuple[Place, ...]]:
    layout = design(places_of(nodes, targets, racks=racks), 3, spares, 1)
    return {ChainId(id): row for id, row in enumerate(layout.rows, 1)}, layout.spares


def check(plan: Plan, places: int, *, apart: bool = False) -> None:
    """Every place is in one chain or a spare, and no chain has two that fail together."""
    rows = [*plan.rows.values(), *plan.formed]
    for row in rows:
        check_row(row, apart=apart)
    targets = [place.target for row in rows for place in row]
    targets += [place.target for place in plan.spares]
    assert places == len(targets) == len(set(targets))


def joining(node: int, targets: int, rack: str = "rack-0") -> list[Place]:
    return [Place(TargetId(node * 1000 + index), NodeId(node), rack) for index in range(targets)]


def test_a_node_that_leaves_costs_one_move_for_each_of_its_chains() -> None:
    rows, spares = laid_out(10, 12, 15)
    concerned = sum(any(place.node == 4 for place in row) for row in rows.values())

    plan = drain(rows, spares, NodeId(4), 1)

    check(plan, 108)
    assert concerned == len(plan.moves)
    assert () == plan.dissolved
    assert {4} == {move.leaves.node for move in plan.moves}
    assert rows.keys() == plan.rows.keys()


def test_what_replaces_a_node_is_spread_over_the_others() -> None:
    rows, spares = laid_out(12, 12, 24)

    plan = drain(rows, spares, NodeId(4), 1)

    joins = Counter(move.joins.node for move in plan.moves)
    assert max(joins.values()) <= 2
    for failed in node_ids(12):
        if failed != 4:
            assert max(recovery_load(plan.rows.values(), failed).values()) <= 5


def test_a_node_without_chains_leaves_with_its_spares() -> None:
    rows, spares = laid_out(6, 3, 0)

    plan = drain(rows, [*spares, *joining(9, 2)], NodeId(9), 1)

    assert ((), (), ()) == (plan.moves, plan.dissolved, plan.spares)


def test_without_spares_as_few_chains_as_possible_are_dissolved() -> None:
    rows, _ = laid_out(10, 12, 0)

    plan = drain(rows, (), NodeId(4), 1)

    check(plan, 108)
    assert 4 == len(plan.dissolved)
    assert 8 == len(plan.moves)
    assert not any(place.node == 4 for row in plan.rows.values() for place in row)


def test_a_node_that_no_other_can_replace_does_not_leave() -> None:
    rows, spares = laid_out(3, 4, 0)

    with pytest.raises(PlacementError, match="node 2 cannot leave"):
        drain(rows, spares, NodeId(2), 1)


def test_one_node_that_joins_is_filled_by_exchange() -> None:
    rows, _ = laid_out(10, 12, 0)

    plan = grow(rows, joining(11, 12), 3, 0, 1)

    check(plan, 132)
    assert 4 == len(plan.formed)
    assert 8 == len(plan.moves)
    assert () == plan.spares
    assert {11} == {move.joins.node for move in plan.moves}
    assert all(any(place.node == 11 for place in row) for row in plan.formed)
    load = recovery_load([*plan.rows.values(), *plan.formed], NodeId(11))
    assert 10 == len(load)
    assert max(load.values()) <= 4


def test_nodes_that_join_together_form_chains_without_any_move() -> None:
    rows, _ = laid_out(6, 6, 0)

    plan = grow(rows, [*joining(7, 6), *joining(8, 6), *joining(9, 6)], 3, 0, 1)

    check(plan, 54)
    assert (6, ()) == (len(plan.formed), plan.moves)


def test_spares_are_kept_when_a_cluster_grows() -> None:
    rows, _ = laid_out(6, 6, 0)

    plan = grow(rows, joining(7, 8), 3, 2, 1)

    check(plan, 44)
    assert (2, 2) == (len(plan.formed), len(plan.spares))


def test_racks_stay_apart_when_nodes_come_and_go() -> None:
    rows, spares = laid_out(12, 6, 9, racks=4)

    left = drain(rows, spares, NodeId(4), 1)
    check(left, 66, apart=True)
    grown = grow(left.rows, [*left.spares, *joining(13, 6, "rack-1")], 3, 0, 1)
    check(grown, 72, apart=True)


def test_a_large_cluster_grows_by_a_sample() -> None:
    rows, _ = laid_out(150, 24, 0)
    assert len(rows) == 1200

    plan = grow(rows, joining(151, 6), 3, 0, 1)

    check(plan, 3606)
    assert (2, 4) == (len(plan.formed), len(plan.moves))


def test_many_changes_one_after_the_other_keep_the_layout_even() -> None:
    rows, spares = laid_out(8, 12, 6)
    for round in range(6):
        plan = grow(rows, [*spares, *joining(20 + round, 12)], 3, 6, round)
        rows = renumbered(plan)
        plan = drain(rows, plan.spares, NodeId(round + 1), round)
        rows, spares = renumbered(plan), plan.spares
        check(plan, 96)

    nodes = {place.node for row in rows.values() for place in row}
    assert 8 == len(nodes)
    for failed in nodes:
        load = recovery_load(rows.values(), failed)
        assert 7 == len(load)
        assert max(load.values()) <= 7


def renumbered(plan: Plan) -> dict[ChainId, Row]:
    rows = dict(plan.rows)
    for id, row in enumerate(plan.formed, max(rows) + 1):
        rows[ChainId(id)] = row
    return rows
