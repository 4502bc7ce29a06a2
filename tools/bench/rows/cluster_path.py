"""What it costs a node to be in a cluster: a chain of one target, against a node on its own."""

from collections.abc import Iterator
from functools import partial

from tools.bench.cluster.members import Shape, cluster, standalone
from tools.bench.result import OURS, RatioGoal, Row
from tools.bench.rows.ends import CAPACITY, Ends
from tools.bench.rows.play import PASSES_MAX, Bench, Play
from tools.bench.rows.wire import MEMORY_FACTOR, turn
from tools.bench.rows.wire import Shape as Values
from tools.bench.settings import BATCH_COUNTS, KIB, size_text

ALONE = "without mgmtd"
AT_LEAST = 0.95
SIZE = 64 * KIB
FACTOR = 4
"""A turn lasts so many times the usual time: the ratio is close to 1."""


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the rows: bandwidth of gets and of sets."""
    values = Values(SIZE, BATCH_COUNTS[SIZE], "disk")
    limit_s = bench.settings.phase_s * FACTOR
    for command, arguments in (
        ("get", {"limit_s": limit_s, "passes_max": PASSES_MAX}),
        ("set", {"limit_s": limit_s}),
    ):
        with bench.play(name := f"cluster-path-{command}") as play:
            ends: dict[str, Ends] = {}
            with play.attempt(OURS):
                ends[OURS] = in_chain(play, values)
            with play.attempt(ALONE):
                ends[ALONE] = alone(play, values)
            play.interleave(
                {who: partial(turn, end, command, arguments) for who, end in ends.items()}
            )
            play.verify({who: end.process for who, end in ends.items()})
            text = f"batch_{command} over loopback, chain of one, {size_text(SIZE)}"
            yield play.row(
                name, f"{text} x {values.batch_count}", "GB/s", RatioGoal(AT_LEAST, ALONE)
            )


def options(play: Play) -> dict[str, str | int]:
    """Return what both nodes are told: nothing leaves the DRAM tier."""
    memory = play.bench.settings.memory_size * MEMORY_FACTOR
    return {"memory": memory, "durability": "disk", "capacity": CAPACITY}


def in_chain(play: Play, values: Values) -> Ends:
    """Start a cluster of one node, with all values set."""
    shape = Shape(nodes=1, replicas=1, options=options(play))
    members = play.stack.enter_context(cluster(play.folder("cluster"), shape))
    return filled(play, members.url, members.pids, values)


def alone(play: Play, values: Values) -> Ends:
    """Start a node on its own, with all values set."""
    node = play.stack.enter_context(standalone(play.folder("alone"), options(play)))
    return filled(play, f"kv://{node.address}/default", (node.pid,), values)


def filled(play: Play, url: str, pids: tuple[int, ...], values: Values) -> Ends:
    """Connect, and set every key."""
    ends = Ends(play.start("kvstore-network", play.directory, url=url), pids)
    values.prepare(play, ends)
    return ends
