"""A contestant over the network: the process that asks, and the processes that answer."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from tools.bench.accounting import cpu_s
from tools.bench.failures import ContestantError
from tools.bench.nodes import Cluster, nodes
from tools.bench.process import Process
from tools.bench.result import Sample
from tools.bench.rounds import Outcome
from tools.bench.rows.play import Play, bandwidth
from tools.bench.servers import Server
from tools.bench.settings import MIB

CAPACITY = 8192 * MIB
"""Of a node: more than any row sets."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a connection."""

    process: Process
    pids: tuple[int, ...]

    def call(self, command: str, **arguments: object) -> Sample:
        """Have a phase performed; its bandwidth, and the CPU time of both ends."""
        before = cpu_s(self.pids)
        answer = self.process.call(command, **arguments)
        far_s = cpu_s(self.pids) - before
        return bandwidth({**answer, "cpu_s": answer["cpu_s"] + far_s})


def start_nodes(play: Play, memory: int, durability: str) -> Cluster:
    """Start a node for the rest of the row."""
    return play.stack.enter_context(
        nodes(
            play.directory / "nodes",
            memory=memory,
            durability=durability,
            capacity=CAPACITY,
        )
    )


def connect(play: Play, kind: str, far: AbstractContextManager[Server]) -> Ends:
    """Start the far end of a peer, and a process that is connected to it."""
    problem = play.bench.environment.problem(kind)
    if problem:
        raise ContestantError(problem)
    server = play.stack.enter_context(far)
    return Ends(play.start(kind, play.directory, port=server.port), server.pids)


def restated(outcome: Outcome, figure: Callable[[Sample], float | None]) -> Outcome:
    """Return an outcome whose values are another figure of its samples."""
    samples: Mapping[str, list[Sample]] = {
        name: [
            replace(sample, value=value)
            for sample in found
            if (value := figure(sample)) is not None
        ]
        for name, found in outcome.samples.items()
    }
    return Outcome(dict(samples), dict(outcome.problems))
