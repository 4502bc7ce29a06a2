"""Designs the chains of a new cluster: even by nodes, apart by racks, the same for the same seed.

Rows are filled greedily, the nodes with most places left first, each next to those it has met
least; then pairs of rows exchange places while that makes the meetings of nodes more even.
"""

from collections import Counter
from collections.abc import Sequence

from kvstore.cluster.ids import NodeId
from kvstore.cluster.placement.draws import Draws
from kvstore.cluster.placement.layout import Layout, Meetings, Place, Row, check_row, fits
from kvstore.cluster.placement.steps import Work, finish
from kvstore.errors import PlacementError

CANDIDATES_MAX = 48
"""Nodes that are compared for one place: all of a small cluster, a sample of a large one."""
EXCHANGES_A_PLACE = 100
EXCHANGES_MAX = 60_000
"""A bound on the work: a large cluster is even enough by the greedy step alone."""


def design(places: Sequence[Place], replicas: int, spares: int, seed: int) -> Layout:
    """Lay out as many chains of `replicas` places as can be, and leave at least `spares` over.

    Racks are kept apart when there are at least `replicas` of them. Every node gives spares in
    turn. Raises PlacementError where not even one chain is possible.
    """
    return finish(designing(places, replicas, spares, seed))


def designing(places: Sequence[Place], replicas: int, spares: int, seed: int) -> Work[Layout]:
    """Lay out in steps."""
    assert replicas > 0
    assert spares >= 0
    draws = Draws(seed)
    apart = len({place.rack for place in places}) >= max(2, replicas)
    free, kept = yield from _without_spares(places, spares, draws)
    meetings = Meetings(())
    rows = yield from _filled(free, replicas, apart, meetings, draws)
    if not rows:
        raise PlacementError(
            f"{len(places)} targets on {len({place.node for place in places})} nodes make no chain"
            f" of {replicas} and leave {spares} spares: add nodes, or ask for fewer replicas"
        )
    yield from _even(rows, apart, meetings, draws)
    used = {place.target for row in rows for place in row}
    left = sorted(
        (place for place in places if place.target not in used), key=lambda place: place.target
    )
    assert len(left) >= len(kept)
    ordered = yield from _ordered(rows)
    for row in ordered:
        check_row(row, apart=apart)
        yield
    return Layout(tuple(ordered), tuple(left))


def with_even_heads(rows: Sequence[Sequence[Place]]) -> list[Row]:
    """Order each row so that all nodes are head, second, ... and tail about equally often."""
    return finish(_ordered(rows))


def _ordered(rows: Sequence[Sequence[Place]]) -> Work[list[Row]]:
    at: Counter[tuple[int, NodeId]] = Counter()
    ordered: list[Row] = []
    for row in rows:
        turns = [tuple(row[turn:]) + tuple(row[:turn]) for turn in range(len(row))]
        best = min(turns, key=lambda turn: [at[index, place.node] for index, place in _seats(turn)])
        at.update((index, place.node) for index, place in _seats(best))
        ordered.append(best)
        yield
    return ordered


def _seats(row: Row) -> list[tuple[int, Place]]:
    return list(enumerate(row))


def _without_spares(
    places: Sequence[Place], spares: int, draws: Draws
) -> Work[tuple[dict[NodeId, list[Place]], list[Place]]]:
    """Return the places of each node, without spares from those that have most."""
    free: dict[NodeId, list[Place]] = {}
    for place in sorted(places, key=lambda place: place.target):
        free.setdefault(place.node, []).append(place)
    order = draws.shuffled(sorted(free))
    kept: list[Place] = []
    for _ in range(min(spares, len(places))):
        richest = max(order, key=lambda node: len(free[node]))
        kept.append(free[richest].pop())
        order.append(order.pop(order.index(richest)))
        yield
    return {node: free[node] for node in order if free[node]}, kept


def _filled(
    free: dict[NodeId, list[Place]], replicas: int, apart: bool, meetings: Meetings, draws: Draws
) -> Work[list[list[Place]]]:
    """Fill rows until no row can be filled, and count their meetings."""
    rows: list[list[Place]] = []
    while (row := (yield from _next_row(free, replicas, apart, meetings, draws))) is not None:
        for place in row:
            free[place.node].remove(place)
            if not free[place.node]:
                del free[place.node]
        meetings.add(row)
        rows.append(row)
    return rows


def _next_row(
    free: dict[NodeId, list[Place]], replicas: int, apart: bool, meetings: Meetings, draws: Draws
) -> Work[list[Place] | None]:
    row: list[Place] = []
    for _ in range(replicas):
        yield
        best = _best(free, row, apart, meetings, draws)
        if best is None:
            return None
        row.append(best)
    return row


def _best(
    free: dict[NodeId, list[Place]],
    row: list[Place],
    apart: bool,
    meetings: Meetings,
    draws: Draws,
) -> Place | None:
    """Return a place of the node that has most left, then has met the row's least."""
    ranked: list[tuple[int, int, int, Place]] = []
    for place in _candidates(free, row, apart, draws):
        cost = meetings.with_all(place.node, row)
        ranked.append((-len(free[place.node]), cost, draws.below(1 << 32), place))
    return min(ranked, key=lambda rank: rank[:3])[3] if ranked else None


def _candidates(
    free: dict[NodeId, list[Place]], row: list[Place], apart: bool, draws: Draws
) -> list[Place]:
    """Return one place of each node that may join the row; a sample where there are many."""
    nodes = list(free)
    if len(nodes) > 2 * CANDIDATES_MAX:
        sample = {draws.choice(nodes) for _ in range(CANDIDATES_MAX)}
        found = [
            free[node][-1] for node in sorted(sample) if fits(free[node][-1], row, apart=apart)
        ]
        if found:
            return found
    return [free[node][-1] for node in nodes if fits(free[node][-1], row, apart=apart)]


def _even(rows: list[list[Place]], apart: bool, meetings: Meetings, draws: Draws) -> Work[None]:
    """Exchange places between rows while the meetings get no less even."""
    size = sum(map(len, rows))
    for _ in range(min(EXCHANGES_MAX, EXCHANGES_A_PLACE * size)):
        a, b = draws.choice(rows), draws.choice(rows)
        if a is not b:
            _exchange(a, draws.below(len(a)), b, draws.below(len(b)), apart, meetings)
            yield


def _exchange(
    a: list[Place], i: int, b: list[Place], j: int, apart: bool, meetings: Meetings
) -> None:
    """Exchange a[i] and b[j], unless that is forbidden or makes it worse."""
    others_a, others_b = a[:i] + a[i + 1 :], b[:j] + b[j + 1 :]
    if a[i].node == b[j].node:
        return
    if not (fits(b[j], others_a, apart=apart) and fits(a[i], others_b, apart=apart)):
        return
    meetings.remove(a)
    meetings.remove(b)
    before = meetings.with_all(a[i].node, others_a) + meetings.with_all(b[j].node, others_b)
    after = meetings.with_all(b[j].node, others_a) + meetings.with_all(a[i].node, others_b)
    if after <= before:
        a[i], b[j] = b[j], a[i]
    meetings.add(a)
    meetings.add(b)
