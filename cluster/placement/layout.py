"""A layout: which targets share a chain, and how often two nodes meet in one.

When a node fails, what its targets held is read from the others of their chains. The failure is
repaired fastest when all others share that load: when every two nodes meet equally often. A layout
in which they do is a balanced incomplete block design; `evenness` says how near one comes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from kvstore.cluster.ids import NodeId, TargetId
from kvstore.errors import PlacementError


@dataclass(frozen=True, slots=True)
class Place:
    """A target that a layout may use, and what fails with it."""

    target: TargetId
    node: NodeId
    rack: str = ""


Row = tuple[Place, ...]
"""The places of one chain; the head comes first."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Chains, and the places that are left over as spares."""

    rows: tuple[Row, ...]
    spares: tuple[Place, ...]


class Meetings:
    """How often every two nodes meet, kept up while rows change."""

    def __init__(self, rows: Iterable[Sequence[Place]]) -> None:
        """Count the meetings in all rows."""
        self._counts: Counter[tuple[NodeId, NodeId]] = Counter()
        for row in rows:
            self.add(row)

    def between(self, a: NodeId, b: NodeId) -> int:
        """Return how many rows have both nodes."""
        return self._counts[(a, b) if a < b else (b, a)]

    def with_all(self, node: NodeId, others: Iterable[Place]) -> int:
        """Return what it costs if a node meets all of the others once more.

        The cost of a pair is the square of its meetings, so the sum is least when they are even.
        """
        return sum(2 * self.between(node, other.node) + 1 for other in others)

    def add(self, row: Sequence[Place]) -> None:
        """Count a row's meetings."""
        for a, b in _pairs(row):
            self._counts[a, b] += 1

    def remove(self, row: Sequence[Place]) -> None:
        """Take a row's meetings away."""
        for a, b in _pairs(row):
            self._counts[a, b] -= 1
            assert self._counts[a, b] >= 0


def recovery_load(rows: Iterable[Row], failed: NodeId) -> Mapping[NodeId, int]:
    """Return how many of a failed node's chains each other node can be read from."""
    load: Counter[NodeId] = Counter()
    for row in rows:
        if any(place.node == failed for place in row):
            load.update(place.node for place in row if place.node != failed)
    return load


def evenness(rows: Sequence[Row], nodes: Sequence[NodeId]) -> tuple[int, int]:
    """Return the fewest and the most meetings of any two nodes."""
    meetings = Meetings(rows)
    counts = [meetings.between(a, b) for a, b in combinations(nodes, 2)]
    return min(counts), max(counts)


def check_row(row: Sequence[Place], *, apart: bool) -> None:
    """Raise PlacementError where two places would fail together."""
    nodes = [place.node for place in row]
    if len(set(nodes)) != len(nodes):
        raise PlacementError(f"two targets of one node in a chain: {sorted(nodes)}")
    racks = [place.rack for place in row]
    if apart and len(set(racks)) != len(racks):
        raise PlacementError(f"two targets of one rack in a chain: {sorted(racks)}")


def fits(place: Place, row: Iterable[Place], *, apart: bool) -> bool:
    """Say whether a place fails with none of a row; `apart`: not by its rack either."""
    return all(
        place.node != other.node and not (apart and place.rack == other.rack) for other in row
    )


def _pairs(row: Sequence[Place]) -> Iterator[tuple[NodeId, NodeId]]:
    for first, second in combinations(row, 2):
        a, b = first.node, second.node
        yield (a, b) if a < b else (b, a)
