"""Resident memory of a node beyond its DRAM tier, with many objects and many connections."""

from collections.abc import Iterator

from tools.bench.accounting import connection_count, resident_size
from tools.bench.result import OURS, LimitGoal, Row, Sample
from tools.bench.rows.ends import start_nodes
from tools.bench.rows.footprint import KEY_SIZE, VALUE_SIZE
from tools.bench.rows.many_clients import CONNECTIONS, start
from tools.bench.rows.play import Bench, Play
from tools.bench.settings import KIB, MIB

MEMORY = 96 * MIB
BASE = 64 * MIB
OBJECT_SIZE = 64
CONNECTION_SIZE = 64 * KIB
CLIENTS_MAX = CONNECTIONS


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the row: one round, since the figure does not depend on time."""
    objects = bench.settings.footprint_objects
    with bench.play("node-memory") as play:
        connections, note = CONNECTIONS, ""
        with play.attempt(OURS):
            beyond, connections, note = fill(play, objects)
            play.outcome.samples[OURS] = [Sample(beyond / MIB)]
        limit = allowed(objects, connections) / MIB
        yield play.row(
            "node-memory",
            f"a node beyond its DRAM tier, {objects:,} objects, {connections} connections",
            "MiB",
            LimitGoal(round(limit, 1), "MiB"),
            note,
        )


def allowed(objects: int, connections: int) -> int:
    """Return the bytes that a node may take beyond its DRAM tier."""
    return BASE + objects * (OBJECT_SIZE + KEY_SIZE) + connections * CONNECTION_SIZE


def fill(play: Play, objects: int) -> tuple[int, int, str]:
    """Fill a node, connect, and look: bytes beyond the DRAM tier, connections, a note."""
    cluster = start_nodes(play, MEMORY, "disk")
    (pid,) = cluster.pids
    (port,) = cluster.ports
    empty = resident_size(pid)
    filler = play.start("kvstore-network", play.directory, url=cluster.url)
    filler.call("fill", first=0, count=objects, size=VALUE_SIZE)
    full = resident_size(pid)
    each = max(1, connection_count(port))
    start(play, cluster, min(CLIENTS_MAX, -(-CONNECTIONS // each)), 0)
    connections = connection_count(port)
    last = resident_size(pid)
    note = f"resident: {empty // MIB} MiB empty, {full // MIB} full, {last // MIB} connected"
    return last - MEMORY, connections, note
