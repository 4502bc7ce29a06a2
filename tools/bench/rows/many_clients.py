"""Many clients in many processes at once, against one client: bandwidth, tail, and fairness."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

from tools.bench.accounting import connection_count, cpu_s
from tools.bench.contestants.crowd_batches import BATCH_SIZE
from tools.bench.failures import ContestantError
from tools.bench.nodes import Cluster
from tools.bench.process import Process
from tools.bench.result import OURS, LimitGoal, RatioGoal, Row, Sample
from tools.bench.rounds import Outcome
from tools.bench.rows.ends import start_nodes
from tools.bench.rows.play import GB, Bench, Play
from tools.bench.settings import MIB
from tools.bench.stats import quantile

PROCESSES, CLIENTS_EACH = 8, 8
CLIENTS = PROCESSES * CLIENTS_EACH
CONNECTIONS = 256
IDLE_MAX = CONNECTIONS
"""Stores at most that are opened for their connections alone."""
ONE = "one client"
WINDOW_EACH = 2 * MIB
WINDOW_ONE = 64 * MIB
MEMORY_FACTOR = 3
AT_LEAST = 0.9
TAIL_AT_MOST = 5.0
LAG_AT_MOST = 2.0
LEAD_S = 0.3
"""Between the order to begin and the beginning: every process has it by then."""


@dataclass(slots=True)
class Run:
    """What all clients of a turn did."""

    amounts: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    def add(self, answer: Mapping[str, Any]) -> None:
        """Add the clients of one process."""
        self.amounts += answer["amounts"]
        self.latencies_ms += answer["latencies_ms"]
        self.cpu_s += answer["cpu_s"]

    def sample(self, seconds: float) -> Sample:
        """Return the aggregate."""
        gigabytes = sum(self.amounts) / GB
        if gigabytes == 0:
            raise ContestantError("no batch ended in time")
        return Sample(
            value=gigabytes / seconds,
            cpu_s_per_gb=self.cpu_s / gigabytes,
            p50_ms=quantile(self.latencies_ms, 0.5),
            p99_ms=quantile(self.latencies_ms, 0.99),
        )


def tail(run: Run) -> float:
    """Return how many times the median latency one batch in a hundred exceeds."""
    return quantile(run.latencies_ms, 0.99) / quantile(run.latencies_ms, 0.5)


def lag(run: Run) -> float:
    """Return how many times as much as the last client the median client got."""
    least = min(run.amounts)
    return median(run.amounts) / least if least > 0 else float("inf")


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the rows."""
    runs: list[Run] = []
    with bench.play("wire-many") as play:
        note = ""
        with play.attempt(OURS):
            note = play_rounds(play, runs)
        text = f"{CLIENTS} clients in {PROCESSES} processes, mixed sizes"
        yield play.row("wire-many", text, "GB/s", RatioGoal(AT_LEAST, ONE), note)
        counted = runs[1:]  # the first turn warms up
        for name, what, goal, figure in (
            ("wire-many-tail", "p99 / p50", LimitGoal(TAIL_AT_MOST, "x"), tail),
            ("wire-many-lag", "median / least of a client", LimitGoal(LAG_AT_MOST, "x"), lag),
        ):
            samples = {OURS: [Sample(figure(run)) for run in counted]} if counted else {}
            play.outcome = Outcome(samples, dict(play.outcome.problems))
            yield play.row(name, f"{text}: {what}", "x", goal)


def play_rounds(play: Play, runs: list[Run]) -> str:
    """Connect everyone and play the rounds; what to note."""
    settings = play.bench.settings
    cluster = start_nodes(play, settings.memory_size * MEMORY_FACTOR, "disk")
    one = start(play, cluster, 1, WINDOW_ONE)
    batches = settings.memory_size // BATCH_SIZE
    one.call("set_mixed", batches=batches)
    crowd = [start(play, cluster, CLIENTS_EACH, WINDOW_EACH) for _ in range(PROCESSES)]
    open_idle(play, cluster)
    connections = sum(connection_count(port) for port in cluster.ports)
    play.interleave(
        {
            OURS: partial(turn, play, cluster, crowd, batches, runs),
            ONE: partial(turn, play, cluster, [one], batches, []),
        }
    )
    return f"{connections} connections"


def start(play: Play, cluster: Cluster, clients: int, window: int) -> Process:
    """Start a process with clients."""
    return play.start(
        "kvstore-crowd", play.directory, url=cluster.url, clients=clients, window=window
    )


def open_idle(play: Play, cluster: Cluster) -> None:
    """Open stores that do nothing until there are enough connections."""
    found = sum(connection_count(port) for port in cluster.ports)
    if found >= CONNECTIONS:
        return
    each = max(1, found // (CLIENTS + 1))
    clients = min(IDLE_MAX, -(-(CONNECTIONS - found) // each))
    start(play, cluster, clients, 0)


def turn(
    play: Play,
    cluster: Cluster,
    processes: Sequence[Process],
    batches: int,
    runs: list[Run],
    round_index: int,
) -> Sample:
    """Have the clients of all processes get at the same time."""
    seconds = play.bench.settings.crowd_s
    start_at = time.monotonic() + LEAD_S
    before = cpu_s(cluster.pids)
    for i, process in enumerate(processes):
        seed = round_index * len(processes) + i
        process.send("crowd", seed=seed, batches=batches, start_at=start_at, seconds=seconds)
    run = Run()
    for process in processes:
        run.add(process.receive())
    run.cpu_s += cpu_s(cluster.pids) - before
    runs.append(run)
    return run.sample(seconds)
