"""Changes of a layout with as few moved targets as can be, when nodes come and go.

Nothing here starts a move: a plan says which place of which chain is to be replaced by which, which
chains are to be dissolved (their slots go to others first), and which can be formed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kvstore.cluster.ids import ChainId, NodeId
from kvstore.cluster.placement.draws import Draws
from kvstore.cluster.placement.layout import Meetings, Place, Row, fits
from kvstore.errors import PlacementError

ROWS_TRIED_MAX = 1000
"""Chains that are compared for one exchange: all of a small cluster, a sample of a large one."""


@dataclass(frozen=True, slots=True)
class Move:
    """A copy of one chain's data: a place leaves when the one that joins has everything."""

    chain: ChainId
    leaves: Place
    joins: Place


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, and what is there afterwards."""

    moves: tuple[Move, ...]
    dissolved: tuple[ChainId, ...]
    formed: tuple[Row, ...]
    rows: Mapping[ChainId, Row]
    """The chains that stay, after the moves."""
    spares: tuple[Place, ...]
    """The places in no chain afterwards; of a drained node there is none."""


def drain(rows: Mapping[ChainId, Row], spares: Sequence[Place], node: NodeId, seed: int) -> Plan:
    """Plan a node's leaving: each of its places is replaced by a spare of another node.

    Where spares run out, chains of the node are dissolved: one that goes needs no replacement and
    sets its other places free. Raises PlacementError when that would leave no chain.
    """
    board = _Board(rows, [place for place in spares if place.node != node], seed)
    concerned = [id for id, row in rows.items() if any(place.node == node for place in row)]
    waiting = board.draws.shuffled(sorted(concerned))
    dissolved: list[ChainId] = []
    while waiting:
        chain = waiting[-1]
        leaves = next(place for place in board.rows[chain] if place.node == node)
        if len(board.free) < len(waiting) or not board.replace(chain, leaves):
            dissolved.append(chain)
            board.dissolve(chain, without=node)
        waiting.pop()
    if rows and not board.rows:
        raise PlacementError(
            f"node {node} cannot leave: no other node could take its targets and no chain would"
            " be left; add nodes first"
        )
    return board.plan(tuple(dissolved), ())


def grow(
    rows: Mapping[ChainId, Row], spares: Sequence[Place], replicas: int, keep: int, seed: int
) -> Plan:
    """Plan new chains from places that are in none, and keep some of these as spares.

    Where such places are on too few nodes, as when one node joins, they take places in chains that
    exist, and the places that these give up form the new chains.
    """
    board = _Board(rows, spares, seed)
    formed: list[Row] = []
    while len(board.free) - keep >= replicas:
        row = board.form(replicas)
        if row is None:
            break
        formed.append(row)
    return board.plan((), tuple(formed))


class _Board:
    """The layout while a plan is made."""

    def __init__(self, rows: Mapping[ChainId, Row], spares: Iterable[Place], seed: int) -> None:
        self.rows = dict(rows)
        self.free = sorted(spares, key=lambda place: place.target)
        self.draws = Draws(seed)
        self._before = rows
        self._meetings = Meetings(rows.values())
        widest = max(map(len, rows.values()), default=1)
        places = [*self.free, *(place for row in rows.values() for place in row)]
        self._apart = len({place.rack for place in places}) >= max(2, widest)

    def replace(self, chain: ChainId, leaves: Place) -> bool:
        """Put the best free place in the place of one that leaves; say whether there was any."""
        others = [place for place in self.rows[chain] if place is not leaves]
        joins = self._best_free(others)
        if joins is None:
            return False
        self._swap(chain, leaves, joins)
        return True

    def dissolve(self, chain: ChainId, without: NodeId) -> None:
        """Set the places of a chain free, but for those of one node."""
        row = self.rows.pop(chain)
        self._meetings.remove(row)
        self.free.extend(place for place in row if place.node != without)

    def form(self, replicas: int) -> Row | None:
        """Take a new row from free places, by exchange with existing rows where that is needed."""
        row: list[Place] = []
        while len(row) < replicas:
            place = self._best_free(row) or self._exchanged(row)
            if place is None:
                self.free.extend(row)
                return None
            self.free.remove(place)
            row.append(place)
        self._meetings.add(row)
        return tuple(row)

    def plan(self, dissolved: tuple[ChainId, ...], formed: tuple[Row, ...]) -> Plan:
        """Compare with the beginning, so that a place that moved twice counts once."""
        moves: list[Move] = []
        for chain, row in self.rows.items():
            pairs = zip(self._before[chain], row, strict=True)
            moves.extend(Move(chain, old, new) for old, new in pairs if old != new)
        spares = tuple(sorted(self.free, key=lambda place: place.target))
        return Plan(tuple(moves), dissolved, formed, self.rows, spares)

    def _best_free(self, others: Sequence[Place]) -> Place | None:
        """Return the place of the node with most free, then of the fewest meetings."""
        count: dict[NodeId, int] = {}
        for place in self.free:
            count[place.node] = count.get(place.node, 0) + 1
        ranked = [
            (-count[place.node], self._meetings.with_all(place.node, others), place.target, place)
            for place in self.free
            if fits(place, others, apart=self._apart)
        ]
        return min(ranked, key=lambda rank: rank[:3])[3] if ranked else None

    def _exchanged(self, row: Sequence[Place]) -> Place | None:
        """Let a free place take one in an existing chain that the row can use; return that one."""
        best: tuple[int, ChainId, Place, Place] | None = None
        for joins in self._one_a_node():
            for chain in self._sample():
                for leaves in self.rows[chain]:
                    cost = self._cost(chain, leaves, joins, row)
                    if cost is not None and (best is None or cost < best[0]):
                        best = (cost, chain, leaves, joins)
        if best is None:
            return None
        _, chain, leaves, joins = best
        self._swap(chain, leaves, joins)
        self.free.append(leaves)
        return leaves

    def _cost(
        self, chain: ChainId, leaves: Place, joins: Place, row: Sequence[Place]
    ) -> int | None:
        """Return how uneven an exchange makes the meetings; None where it is not allowed."""
        others = [place for place in self.rows[chain] if place is not leaves]
        if not fits(leaves, row, apart=self._apart):
            return None
        if not fits(joins, others, apart=self._apart):
            return None
        gained = self._meetings.with_all(joins.node, others)
        gained += self._meetings.with_all(leaves.node, row)
        return gained - self._meetings.with_all(leaves.node, others)

    def _one_a_node(self) -> list[Place]:
        return list({place.node: place for place in reversed(self.free)}.values())

    def _sample(self) -> Sequence[ChainId]:
        chains = sorted(self.rows)
        if len(chains) <= ROWS_TRIED_MAX:
            return chains
        return sorted({self.draws.choice(chains) for _ in range(ROWS_TRIED_MAX)})

    def _swap(self, chain: ChainId, leaves: Place, joins: Place) -> None:
        row = self.rows[chain]
        self._meetings.remove(row)
        self.rows[chain] = tuple(joins if place is leaves else place for place in row)
        self._meetings.add(self.rows[chain])
        self.free.remove(joins)
