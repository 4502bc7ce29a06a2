"""What a node that comes back has to move: it was away while one object in a hundred changed.

Counted at the node that comes back: every byte that it received from other nodes and sent to them
from its start until it serves again, so headers, comparisons and lists of keys are in it. Nobody
else uses the cluster meanwhile.
"""

import time
from collections.abc import Iterator
from urllib.request import urlopen

from tools.bench.cluster.members import Member, Members, Shape, cluster
from tools.bench.failures import ContestantError
from tools.bench.process import Process
from tools.bench.result import OURS, LimitGoal, Row, Sample
from tools.bench.rows.cluster_failures import MEMORY, NODES
from tools.bench.rows.play import Bench, Play
from tools.bench.settings import KIB, MIB, size_text

SIZE = 16 * KIB
CHANGED = 100
"""One object of so many."""
AT_MOST = 2.0
VICTIM = 1
"""The middle of the chain."""
SPACE_FACTOR = 2
FILL_COUNT = 5_000
"""Objects that one command sets: it has to end in time."""
WHOLE_TIMEOUT_S = 300.0
METRICS_TIMEOUT_S = 10.0
COUNTERS = ("kvstore_received_bytes_total", "kvstore_sent_bytes_total")


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the row: one round, since bytes do not depend on time."""
    count = bench.settings.resync_objects
    with bench.play("cluster-resync") as play:
        note = ""
        with play.attempt(OURS):
            share, note = come_back(play, count)
            play.outcome.samples[OURS] = [Sample(share)]
        text = f"resync of {count:,} x {size_text(SIZE)}, of which {100 / CHANGED:g} % changed"
        yield play.row("cluster-resync", f"{text}: moved", "%", LimitGoal(AT_MOST, "%"), note)


def come_back(play: Play, count: int) -> tuple[float, str]:
    """Fill a cluster, change some of it without one node, and have that come back."""
    stored = count * SIZE
    options = {"memory": MEMORY, "capacity": stored * SPACE_FACTOR + 256 * MIB}
    shape = Shape(nodes=NODES, replicas=NODES, options=options)
    with cluster(play.folder("cluster"), shape) as members:
        client = play.start("kvstore-network", play.directory, url=members.url)
        fill(client, count)
        node = members.in_order()[VICTIM]
        node.kill()
        fill(client, count // CHANGED)
        before = time.monotonic()
        node.start()
        node.wait()
        members.wait_whole(WHOLE_TIMEOUT_S)
        seconds = time.monotonic() - before
        received, sent = counted(node)
        check(members)
    moved = received + sent
    note = (
        f"{moved / MIB:.1f} MiB of {stored / MIB:,.0f}: {received / MIB:.1f} received,"
        f" {sent / MIB:.1f} sent; served again {seconds:.0f} s after its start"
    )
    return 100 * moved / stored, note


def fill(client: Process, count: int) -> None:
    """Set so many objects, the same ones each time, to new values."""
    for first in range(0, count, FILL_COUNT):
        client.call("fill", first=first, count=min(FILL_COUNT, count - first), size=SIZE)


def counted(node: Member) -> tuple[int, int]:
    """Return how many bytes a node has received and sent since its start."""
    url = f"http://{node.metrics}/metrics"
    with urlopen(url, timeout=METRICS_TIMEOUT_S) as response:
        lines = [line.split() for line in response.read().decode().splitlines()]
    found = {line[0]: int(float(line[1])) for line in lines if line and line[0] in COUNTERS}
    if len(found) != len(COUNTERS):
        raise ContestantError(f"{url} does not say {' and '.join(COUNTERS)}")
    return found[COUNTERS[0]], found[COUNTERS[1]]


def check(members: Members) -> None:
    """Raise where targets do not hold equally many objects."""
    counts = {target["objects"] for target in members.status()["targets"]}
    if len(counts) != 1:
        raise ContestantError(f"targets hold different numbers of objects: {sorted(counts)}")
