"""Sets and gets over loopback beside the peers that have a server: one client, every size.

A round is a set and a get of everyone. All keep values in memory only, and so does this store here.
The goal of a row names the fastest peer: who is ahead of it is ahead of each.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from statistics import median

from tools.bench import servers
from tools.bench.environment import Environment
from tools.bench.result import OURS, RatioGoal, Row, Sample
from tools.bench.rounds import Outcome
from tools.bench.rows.ends import Ends, connect, start_nodes
from tools.bench.rows.play import PASSES_MAX, Bench, Play
from tools.bench.rows.wire import IDEAL
from tools.bench.servers import Server
from tools.bench.settings import BATCH_COUNTS, KIB, MIB, size_text

SIZES = (4 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB)
MEMORY_FACTOR = 10
"""Every contestant's memory, in values of one size: all sizes, each twice."""
FIRST_FACTOR = 6
"""The first round may set for this many times as long."""
SET, GET = "set", "get"
Far = Callable[[Play, int], AbstractContextManager[Server]]


def environment(play: Play) -> Environment:
    """Return where programs are."""
    return play.bench.environment


@dataclass(frozen=True, slots=True)
class Peer:
    """A contestant of the comparison: its client, and how its server starts."""

    kind: str
    far: Far


PEERS: Mapping[str, Peer] = {
    IDEAL: Peer("ideal", lambda play, memory: servers.ideal(environment(play), memory)),
    "redis-py": Peer("redis-tcp", lambda play, _: servers.redis(play.directory / "redis.log")),
    "valkey-py": Peer(
        "valkey", lambda play, _: servers.valkey(environment(play), play.directory / "valkey.log")
    ),
    "memcached": Peer(
        "memcached",
        lambda play, memory: servers.memcached(play.directory / "memcached.log", memory),
    ),
    "mooncake": Peer(
        "mooncake",
        lambda play, memory: servers.mooncake(
            environment(play), play.directory / "mooncake.log", memory
        ),
    ),
    "lmcache": Peer(
        "lmcache",
        lambda play, _: servers.lmcache(environment(play), play.directory / "lmcache.log"),
    ),
}


def measure(bench: Bench) -> Iterator[Row]:
    """Yield two rows for each size."""
    with bench.play("wire-peers") as play:
        ends = start_all(play)
        problems = dict(play.outcome.problems)
        for size in SIZES:
            bench.say(f"wire-peers-{size // KIB}K")
            play.outcome = Outcome(problems=dict(problems))
            for name, found in ends.items():
                with play.attempt(name):
                    prepare(play, found, size)
            yield from rows_of(play, ends, size)


def start_all(play: Play) -> dict[str, Ends]:
    """Start everyone who can run."""
    memory = play.bench.settings.peers_size * MEMORY_FACTOR
    ends: dict[str, Ends] = {}
    with play.attempt(OURS):
        cluster = start_nodes(play, memory, "memory")
        process = play.start("kvstore-network", play.directory, url=cluster.url)
        ends[OURS] = Ends(process, cluster.pids)
    for name, peer in PEERS.items():
        with play.attempt(name):
            ends[name] = connect(play, peer.kind, peer.far(play, memory))
    return ends


def prepare(play: Play, ends: Ends, size: int) -> None:
    """Make values and buffers of a size, in place of those before."""
    count = play.bench.settings.peers_size // size
    ends.process.call("unregister")
    ends.process.call("prepare", size=size, batch_count=BATCH_COUNTS[size], count=count)
    ends.process.call("register")


def rows_of(play: Play, ends: Mapping[str, Ends], size: int) -> Iterator[Row]:
    """Measure one size: all sets, then all gets, then every byte is compared."""
    phase_s = play.bench.settings.peers_phase_s
    text = f"{size_text(size)} x {BATCH_COUNTS[size]}, fastest peer"

    def sets(found: Ends, round_index: int) -> Sample:
        limit_s = phase_s * (1 if round_index else FIRST_FACTOR)
        return found.call("set", limit_s=limit_s)

    def gets(found: Ends, round_index: int) -> Sample:
        return found.call("get", seed=round_index, limit_s=phase_s, passes_max=PASSES_MAX)

    for operation, perform in ((SET, sets), (GET, gets)):
        play.outcome = Outcome(problems=dict(play.outcome.problems))
        play.interleave({name: partial(perform, found) for name, found in ends.items()})
        if operation == GET:
            play.verify({name: found.process for name, found in ends.items()})
        goal = RatioGoal(1.0, fastest(play.outcome))
        name = f"wire-peers-{operation}-{size // KIB}K"
        yield play.row(name, f"batch_{operation}, {text}", "GB/s", goal)


def fastest(outcome: Outcome) -> str:
    """Return the peer with the largest median; the ideal is a limit, not a peer."""
    medians = {
        name: median(sample.value for sample in samples)
        for name, samples in outcome.samples.items()
        if name not in (OURS, IDEAL)
    }
    return max(medians, key=lambda name: medians[name], default="any peer")
