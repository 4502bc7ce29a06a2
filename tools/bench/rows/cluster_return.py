"""What writers notice of a node that comes back, with what it had, or with an empty disk.

Live writes go to the node that returns while it is brought in line, so a stall counts from its
start until every target serves again. The calm period before it is of the same run.
"""

import shutil
from collections.abc import Iterator

from tools.bench.cluster.members import Members, cluster
from tools.bench.failures import ContestantError
from tools.bench.process import Process
from tools.bench.result import OURS, LimitGoal, Row, Sample
from tools.bench.rows.cluster_failures import Watch, shape, watch
from tools.bench.rows.play import Bench, Play
from tools.bench.settings import KIB, size_text

STALL_MS = 300.0
COUNT, SIZE = 3_000, 16 * KIB
"""Objects beside those that are watched."""
CHANGED = 1_000
"""Of them while the node is away."""
VICTIM = 1
"""The middle of the chain: it comes back as its last target."""
CALM_S, AFTER_S = 3.0, 6.0
WHOLE_TIMEOUT_S = 30.0
RETURNS = {"cluster-return": "with its disk", "cluster-return-empty": "with an empty disk"}


def measure(bench: Bench) -> Iterator[Row]:
    """Yield a row for each kind of return."""
    for name, what in RETURNS.items():
        with bench.play(name) as play:
            for round_index in range(bench.settings.rounds):
                with play.attempt(OURS):
                    come_back(play, round_index, empty=name == "cluster-return-empty")
            text = f"longest write while a node of 3 returns {what}"
            yield play.row(name, text, "ms", LimitGoal(STALL_MS, "ms"), note_of(play))


def come_back(play: Play, round_index: int, *, empty: bool) -> None:
    """Have a cluster, start one of its nodes again under load, and count."""
    folder = play.folder(f"cluster-{round_index}")
    with cluster(folder, shape()) as members:
        client = play.start("kvstore-network", play.directory, url=members.url)
        fill(client, COUNT)
        node = members.in_order()[VICTIM]
        node.kill()
        fill(client, CHANGED)
        if empty:
            shutil.rmtree(node.home / "target")
        found = watch(play, members, node.start, AFTER_S, CALM_S)
        check(members)
    play.outcome.samples.setdefault(OURS, []).append(Sample(found["writes"]["longest_ms"]))
    rounds = play.details.setdefault("rounds", [])
    assert isinstance(rounds, list)
    rounds.append(dict(found))


def fill(client: Process, count: int) -> None:
    """Set so many objects, the same ones each time, to new values."""
    client.call("fill", first=0, count=count, size=SIZE)


def check(members: Members) -> None:
    """Raise unless every target serves, and holds equally many objects."""
    members.wait_whole(WHOLE_TIMEOUT_S)
    counts = {target["objects"] for target in members.status()["targets"]}
    if len(counts) != 1:
        raise ContestantError(f"targets hold different numbers of objects: {sorted(counts)}")


def note_of(play: Play) -> str:
    """Return what the rounds say beside the figure."""
    rounds = play.details.get("rounds", [])
    assert isinstance(rounds, list)
    if not rounds:
        return ""
    calm = ", ".join(f"{longest_before(each):.0f}" for each in rounds)
    reads = max(each["reads"]["longest_ms"] for each in rounds)
    return (
        f"in {CALM_S:.0f} s before it: {calm} ms; longest read {reads:.0f} ms;"
        f" {COUNT:,} x {size_text(SIZE)}, {CHANGED:,} changed meanwhile"
    )


def longest_before(found: Watch) -> float:
    """Return the longest write that was called before the node started, and answered."""
    longest: float = found["writes"]["before_longest_ms"]
    return longest
