"""Batches and single keys over loopback, against the ideal TCP peer and against Redis at C speed.

CPU time is that of both ends. Values lie in the DRAM tier, and are more than the last cache holds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from tools.bench import servers
from tools.bench.result import OURS, CostGoal, Goal, RatioGoal, Row, Sample
from tools.bench.rows.ends import Ends, connect, restated, start_nodes
from tools.bench.rows.play import GB, PASSES_MAX, UNLIMITED_S, Bench, Play
from tools.bench.settings import BATCH_COUNTS, KIB, MIB, size_text

IDEAL, REDIS = "ideal TCP", "redis, C client"
SIZES = (64 * KIB, MIB, 4 * MIB)
SMALL_SIZE = 4 * KIB
MEMORY_FACTOR = 3
"""The DRAM tier is larger than the values by this: none of them goes."""
GET_AT_LEAST, GET_CPU_AT_MOST = 0.85, 1.25
SET_AT_LEAST = 0.8
SMALL_AT_LEAST = 0.85
DEPTH = 16
DEEP_AT_LEAST, DEEP_CPU_AT_MOST = 2.0, 0.5
SINGLE_P50_AT_MOST, SINGLE_P99_AT_MOST = 1.5, 2.0
SINGLE_FACTOR = 2
"""Single keys are read for so many times the usual time: p99 takes many."""
THOUSAND, MICROSECONDS = 1e3, 1e6


@dataclass(frozen=True, slots=True)
class Shape:
    """The values of a row, and how they come and go."""

    size: int
    batch_count: int
    durability: str

    def prepare(self, play: Play, ends: Ends) -> None:
        """Make values and buffers, and set every key."""
        count = play.bench.settings.memory_size // self.size
        ends.process.call("prepare", size=self.size, batch_count=self.batch_count, count=count)
        ends.process.call("set", limit_s=UNLIMITED_S)


def gets(bench: Bench) -> Iterator[Row]:
    """Yield bandwidth and CPU time of batch_get_into."""
    for size in SIZES:
        shape = Shape(size, BATCH_COUNTS[size], "disk")
        text = f"batch_get_into over loopback, {size_text(size)} x {shape.batch_count}"
        with bench.play(name := f"wire-get-{size // KIB}K") as play:
            ends = both(play, shape)
            against_ideal(play, ends, "get", passes_max=PASSES_MAX)
            yield play.row(name, text, "GB/s", RatioGoal(GET_AT_LEAST, IDEAL))
            cost = CostGoal(GET_CPU_AT_MOST, IDEAL)
            yield other_row(play, f"{name}-cpu", f"{text}: CPU time", "s/GB", cost, cpu)


def sets(bench: Bench) -> Iterator[Row]:
    """Yield bandwidth of batch_set into memory; CPU time without a goal is in the JSON file."""
    for size in SIZES:
        shape = Shape(size, BATCH_COUNTS[size], "memory")
        text = f"batch_set over loopback, memory, {size_text(size)} x {shape.batch_count}"
        with bench.play(name := f"wire-set-{size // KIB}K") as play:
            against_ideal(play, both(play, shape), "set")
            yield play.row(name, text, "GB/s", RatioGoal(SET_AT_LEAST, IDEAL))


def small(bench: Bench) -> Iterator[Row]:
    """Yield rows of small values: one batch in flight, then many."""
    shape = Shape(SMALL_SIZE, BATCH_COUNTS[SMALL_SIZE], "disk")
    text = f"batch_get_into over loopback, {size_text(SMALL_SIZE)} x {shape.batch_count}"
    with bench.play("wire-small-1") as play:
        against_ideal(play, both(play, shape), "get", passes_max=PASSES_MAX)
        play.outcome = restated(play.outcome, lambda sample: keys_k(sample, SMALL_SIZE))
        goal = RatioGoal(SMALL_AT_LEAST, IDEAL)
        yield play.row("wire-small-1", f"{text}, 1 in flight", "k keys/s", goal)
    with bench.play(name := f"wire-small-{DEPTH}") as play:
        ends = both(play, shape, "kvstore-async")
        with play.attempt(REDIS):
            far = servers.redis(play.directory / "redis.log")
            ends[REDIS] = connect(play, "redis-stream", far)
            shape.prepare(play, ends[REDIS])
        against_ideal(play, ends, "get_pipelined", depth=DEPTH)
        text = f"{text}, {DEPTH} in flight"
        found = play.outcome
        play.outcome = restated(found, lambda sample: keys_k(sample, SMALL_SIZE))
        yield play.row(name, text, "k keys/s", RatioGoal(DEEP_AT_LEAST, REDIS))
        play.outcome = restated(found, lambda sample: key_cpu_us(sample, SMALL_SIZE))
        cost = CostGoal(DEEP_CPU_AT_MOST, REDIS)
        yield play.row(f"{name}-cpu", f"{text}: CPU time", "µs/key", cost)


def single(bench: Bench) -> Iterator[Row]:
    """Yield the median and the tail of single gets, one after another."""
    with bench.play("wire-single") as play:
        ends = both(play, Shape(SMALL_SIZE, BATCH_COUNTS[SMALL_SIZE], "disk"))
        limit_s = bench.settings.phase_s * SINGLE_FACTOR
        turns = {
            name: partial(turn, found, "get_single", {"limit_s": limit_s})
            for name, found in ends.items()
        }
        play.interleave(turns)
        text = f"get over loopback, one key of {size_text(SMALL_SIZE)}"
        for share, at_most, figure in (
            ("p50", SINGLE_P50_AT_MOST, p50_us),
            ("p99", SINGLE_P99_AT_MOST, p99_us),
        ):
            goal = CostGoal(at_most, IDEAL)
            yield other_row(play, f"wire-single-{share}", f"{text}: {share}", "µs", goal, figure)


def both(play: Play, shape: Shape, kind: str = "kvstore-network") -> dict[str, Ends]:
    """Start a node and the ideal peer, with all values set."""
    memory = play.bench.settings.memory_size
    ends: dict[str, Ends] = {}
    with play.attempt(OURS):
        cluster = start_nodes(play, memory * MEMORY_FACTOR, shape.durability)
        started = Ends(play.start(kind, play.directory, url=cluster.url), cluster.pids)
        shape.prepare(play, started)
        ends[OURS] = started
    with play.attempt(IDEAL):
        started = connect(play, "ideal", servers.ideal(play.bench.environment, memory))
        shape.prepare(play, started)
        ends[IDEAL] = started
    return ends


def against_ideal(play: Play, ends: Mapping[str, Ends], command: str, **arguments: object) -> None:
    """Play the rounds, and compare every byte afterwards."""
    arguments = {"limit_s": play.bench.settings.phase_s, **arguments}
    play.interleave(
        {name: partial(turn, found, command, arguments) for name, found in ends.items()}
    )
    play.verify({name: found.process for name, found in ends.items()})


def turn(ends: Ends, command: str, arguments: Mapping[str, object], round_index: int) -> Sample:
    """Have one contestant perform its phase."""
    seed = {} if command == "set" else {"seed": round_index}
    return ends.call(command, **arguments, **seed)


def other_row(
    play: Play,
    name: str,
    text: str,
    unit: str,
    goal: Goal,
    figure: Callable[[Sample], float | None],
) -> Row:
    """Return a row about another figure of the same rounds."""
    kept = play.outcome
    play.outcome = restated(kept, figure)
    row = play.row(name, text, unit, goal)
    play.outcome = kept
    return row


def cpu(sample: Sample) -> float | None:
    """Return seconds of CPU time for each 10^9 bytes."""
    return sample.cpu_s_per_gb


def keys_k(sample: Sample, size: int) -> float:
    """Return thousands of keys a second."""
    return sample.value * GB / size / THOUSAND


def key_cpu_us(sample: Sample, size: int) -> float | None:
    """Return microseconds of CPU time for each key."""
    per_gb = sample.cpu_s_per_gb
    return None if per_gb is None else per_gb / GB * size * MICROSECONDS


def p50_us(sample: Sample) -> float | None:
    """Return the median latency."""
    return None if sample.p50_ms is None else sample.p50_ms * THOUSAND


def p99_us(sample: Sample) -> float | None:
    """Return the latency that one in a hundred exceeds."""
    return None if sample.p99_ms is None else sample.p99_ms * THOUSAND
