"""What readers and writers notice of a node that is killed, or cut from everybody else."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tools.bench.cluster.links import Links, links, possible
from tools.bench.cluster.members import Member, Members, Shape, cluster
from tools.bench.cluster.place import Place
from tools.bench.failures import ContestantError
from tools.bench.process import Process, process
from tools.bench.result import OURS, LimitGoal, Row, Sample
from tools.bench.rows.play import Bench, Play
from tools.bench.settings import KIB, MIB

VICTIMS = ("head", "middle", "tail")
STALL_MS = 500.0
LEASE_MS = 1500
CUT_MS = LEASE_MS + 1000.0
MEMORY = 96 * MIB
CAPACITY = 1 << 30
KEYS, SIZE, PAUSE_S = 16, 4 * KIB, 0.01
LEAD_S = 0.3
"""Between the order to begin and the beginning."""
CALM_S = 1.5
"""Before the event."""
AFTER_KILL_S, AFTER_CUT_S = 2.5, 6.0
NODES = 3

Watch = Mapping[str, Any]
"""What a watching process answers."""


def after_kill(bench: Bench) -> Iterator[Row]:
    """Yield the longest stall of any key when kill -9 ends a node, by its place in the chain."""
    for i, victim in enumerate(VICTIMS):
        with bench.play(name := f"cluster-stall-{victim}") as play:
            for round_index in range(bench.settings.rounds):
                with play.attempt(OURS):
                    watch_kill(play, i, round_index)
            text = f"longest stall of a key, reads or writes, kill -9 of the {victim} of 3"
            yield stall_row(play, name, text, STALL_MS)


def watch_kill(play: Play, victim: int, round_index: int) -> None:
    """Have a cluster, kill one of its nodes, and count."""
    with cluster(play.directory / f"cluster-{round_index}", shape()) as members:
        found = watch(play, members, members.in_order()[victim].kill, AFTER_KILL_S)
    count(play, found)


def after_cut(bench: Bench) -> Iterator[Row]:
    """Yield the same for a node that nobody reaches."""
    how = "link cut" if possible() else "SIGSTOP, no namespaces here"
    for i, victim in enumerate(VICTIMS):
        with bench.play(name := f"cluster-cut-{victim}") as play:
            for round_index in range(bench.settings.rounds):
                with play.attempt(OURS):
                    (watch_cut if possible() else watch_stopped)(play, i, round_index)
            text = f"longest stall of a key, the {victim} of 3 unreachable ({how})"
            yield stall_row(play, name, text, CUT_MS)


def watch_cut(play: Play, victim: int, round_index: int) -> None:
    """Have a cluster in namespaces, cut one of its nodes, and count."""
    with links() as linked:
        places = places_of(linked)
        folder = play.directory / f"cluster-{round_index}"
        with cluster(folder, shape(places)) as members:
            node = members.in_order()[victim]
            found = watch(play, members, lambda: linked.cut(node.name), AFTER_CUT_S)
    count(play, found)


def watch_stopped(play: Play, victim: int, round_index: int) -> None:
    """Have a cluster, stop one of its nodes, and count."""
    with cluster(play.directory / f"cluster-{round_index}", shape()) as members:
        node: Member = members.in_order()[victim]
        found = watch(play, members, lambda: node.signal(signal.SIGSTOP), AFTER_CUT_S)
    count(play, found)


def places_of(linked: Links) -> dict[str, Place]:
    """Give every member a link."""
    names = ["mgmtd-1", *(f"node-{number}" for number in range(1, NODES + 1)), "clients"]
    return {name: linked.join(name) for name in names}


def shape(places: Mapping[str, Place] | None = None) -> Shape:
    """Return the cluster of these rows."""
    return Shape(
        nodes=NODES,
        replicas=NODES,
        mgmtd_options={"lease-ms": LEASE_MS},
        options={"memory": MEMORY, "capacity": CAPACITY},
        places=places or {},
    )


def watch(
    play: Play,
    members: Members,
    event: Callable[[], None],
    after_s: float,
    calm_s: float = CALM_S,
) -> Watch:
    """Have a process read and write, have something happen meanwhile, and return its answer."""
    client = connected(play, members)
    start_at = time.monotonic() + LEAD_S
    event_at = start_at + calm_s
    client.send(
        "watch",
        keys=KEYS,
        size=SIZE,
        pause_s=PAUSE_S,
        start_at=start_at,
        event_at=event_at,
        end_at=event_at + after_s,
    )
    time.sleep(max(0.0, event_at - time.monotonic()))
    event()
    found = client.receive()
    if found["failed"]:
        raise ContestantError(f"{found['failed']} requests failed: {found['failures'][0]}")
    return found


def connected(play: Play, members: Members) -> Process:
    """Start a process that watches."""
    command = play.bench.environment.command("kvstore-watched")
    started = play.stack.enter_context(
        process([*members.clients.command, *command], play.directory / "log")
    )
    started.call("open", directory=str(play.directory), options={"url": members.url})
    return started


def count(play: Play, found: Watch) -> None:
    """Keep what a round found."""
    stalls = {kind: found[kind]["stall_ms"] for kind in ("reads", "writes")}
    play.outcome.samples.setdefault(OURS, []).append(Sample(max(stalls.values())))
    rounds = play.details.setdefault("rounds", [])
    assert isinstance(rounds, list)
    rounds.append(dict(found))


def stall_row(play: Play, name: str, text: str, at_most_ms: float) -> Row:
    """Return the row; a request that failed in any round fails it."""
    if OURS in play.outcome.problems:
        play.outcome.samples.clear()
    rounds = play.details.get("rounds", [])
    assert isinstance(rounds, list)
    note = ""
    if rounds:
        worst = {
            kind: max(each[kind]["stall_ms"] for each in rounds) for kind in ("reads", "writes")
        }
        calm = max(each[kind]["calm_stall_ms"] for each in rounds for kind in worst)
        requests = sum(each[kind]["count"] for each in rounds for kind in worst)
        note = (
            f"worst: reads {worst['reads']:.0f}, writes {worst['writes']:.0f} ms;"
            f" without it {calm:.0f} ms; {requests:,} requests, none failed"
        )
    return play.row(name, text, "ms", LimitGoal(at_most_ms, "ms"), note)
