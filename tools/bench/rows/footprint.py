"""Memory of an object beyond the DRAM tier and its key: how resident memory grows with objects.

Values first fill a small DRAM tier, so that later ones take no more of it.
"""

from collections.abc import Iterator
from itertools import pairwise

from tools.bench.process import Process
from tools.bench.result import OURS, LimitGoal, Row, Sample
from tools.bench.rows.play import Bench
from tools.bench.settings import MIB
from tools.bench.stats import slope

MEMORY = 96 * MIB
VALUE_SIZE = 1024
FIRST_FACTOR = 1.5
"""Values set before the first look, in DRAM tiers."""
KEY_SIZE = 32
BYTES_MAX = 64
STEPS = 10


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the row: one round, since the figure does not depend on time."""
    count = bench.settings.footprint_objects
    with bench.play("footprint") as play:
        points: list[tuple[float, float]] = []
        with play.attempt(OURS):
            started = play.start("kvstore", play.folder("kvstore"), memory=MEMORY)
            first = int(MEMORY * FIRST_FACTOR) // VALUE_SIZE
            points = grow(started, first, count)
            play.outcome.samples[OURS] = [Sample(slope(points) - KEY_SIZE)]
        steepest = max((slope([a, b]) for a, b in pairwise(points)), default=0.0)
        yield play.row(
            "footprint",
            f"memory of an object beyond DRAM tier and key, {count:,} objects",
            "B",
            LimitGoal(BYTES_MAX, "B"),
            f"steepest tenth: {steepest - KEY_SIZE:.0f} B" if points else "",
        )


def grow(started: Process, first: int, count: int) -> list[tuple[float, float]]:
    """Set objects step by step; how many there were and what was resident after each step."""
    step = count // STEPS
    started.call("fill", first=0, count=first, size=VALUE_SIZE)
    points = [(float(first), started.call("resident")["size"])]
    for i in range(STEPS):
        started.call("fill", first=first + i * step, count=step, size=VALUE_SIZE)
        points.append((first + (i + 1.0) * step, started.call("resident")["size"]))
    return points
