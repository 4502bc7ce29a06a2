"""What readers and writers notice when kill -9 ends the primary mgmtd, and how soon there is one.

Two mgmtd, with their metadata in an etcd. Requests after the kill are compared with those of the
same process before it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial

from kvstore.addresses import Address
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.errors import KVStoreError
from tools.bench import servers
from tools.bench.cluster.members import Member, Members, Shape, cluster
from tools.bench.failures import ContestantError
from tools.bench.result import OURS, CostGoal, LimitGoal, Row, Sample
from tools.bench.rounds import Outcome
from tools.bench.rows.cluster_failures import CAPACITY, MEMORY, NODES, Watch, watch
from tools.bench.rows.play import Bench, Play

BEFORE = "before it"
PRIMARY_LEASE_S = 1
TAKEOVER_MS = (PRIMARY_LEASE_S + 1) * 1e3
RARE_AT_MOST = 1.5
LONGEST_AT_MOST = 1.0
CALM_S, AFTER_S = 20.0, 4.0
"""After it: as long as a primary's lease and the nodes' leases, and then some."""
ASK_TIMEOUT_S = 20.0
KINDS = ("reads", "writes")


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the rows."""
    found: list[tuple[Watch, float]] = []
    with bench.play("cluster-mgmtd") as play:
        for round_index in range(bench.settings.rounds):
            with play.attempt(OURS):
                found.append(watch_takeover(play, round_index))
        problems = play.outcome.problems
        watches = [] if problems else [each for each, _ in found]
        requests = sum(each[kind]["count"] for each in watches for kind in KINDS)
        note = f"{requests:,} requests, none failed" if watches else ""
        text = "kill -9 of mgmtd's primary"
        play.outcome = Outcome(compared(watches, rare_before, rare_after), problems)
        goal = CostGoal(RARE_AT_MOST, BEFORE)
        yield play.row("cluster-mgmtd", f"p99.9 of requests after {text}", "ms", goal, note)
        play.outcome = Outcome(compared(watches, longest_before, longest_after), problems)
        goal = CostGoal(LONGEST_AT_MOST, BEFORE)
        note = f"before it: the longest in {CALM_S:.0f} s, after it in {AFTER_S:.0f} s"
        yield play.row("cluster-mgmtd-longest", f"longest request after {text}", "ms", goal, note)
        samples = {OURS: [Sample(each) for _, each in found]} if watches else {}
        play.outcome = Outcome(samples, problems)
        limit = LimitGoal(TAKEOVER_MS, "ms")
        yield play.row("cluster-mgmtd-takeover", f"new primary after {text}", "ms", limit)


def watch_takeover(play: Play, round_index: int) -> tuple[Watch, float]:
    """Have a cluster, kill its primary; what requests took, and when there was a new one, in ms."""
    problem = play.bench.environment.problem("etcd")
    if problem:
        raise ContestantError(problem)
    folder = play.folder(f"round-{round_index}")
    with servers.etcd(folder) as etcd:
        shape = Shape(
            nodes=NODES,
            replicas=NODES,
            mgmtd=2,
            metadata=f"etcd://{servers.LOOPBACK}:{etcd.port}/bench",
            mgmtd_options={"primary-lease-s": PRIMARY_LEASE_S},
            options={"memory": MEMORY, "capacity": CAPACITY},
        )
        with cluster(folder, shape) as members:
            took_ms: list[float] = []
            event = partial(kill_primary, members, primary_of(members), took_ms)
            found = watch(play, members, event, AFTER_S, CALM_S)
    return found, took_ms[0]


def primary_of(members: Members) -> Member:
    """Return the mgmtd that is primary."""
    primary = members.status()["primary"]
    for member in members.mgmtd:
        if member.address == primary:
            return member
    raise ContestantError(f"no mgmtd is at {primary}")


def kill_primary(members: Members, primary: Member, took_ms: list[float]) -> None:
    """Kill the primary, and wait until another one answers."""
    before = time.monotonic()
    primary.kill()
    try:
        asyncio.run(asked([Address.parse(member.address) for member in members.mgmtd]))
    except KVStoreError as error:
        raise ContestantError(f"no new primary: {error}") from error
    took_ms.append((time.monotonic() - before) * 1e3)


async def asked(addresses: list[Address]) -> None:
    """Ask whoever is primary for the status."""
    async with MgmtdClient(addresses, name="bench") as mgmtd:
        await mgmtd.admin("status", timeout_s=ASK_TIMEOUT_S)


def compared(
    watches: list[Watch], before: Callable[[Watch], float], after: Callable[[Watch], float]
) -> dict[str, list[Sample]]:
    """Return the samples of both sides."""
    if not watches:
        return {}
    return {
        OURS: [Sample(after(each)) for each in watches],
        BEFORE: [Sample(before(each)) for each in watches],
    }


def rare_before(found: Watch) -> float:
    """Return what one request in a thousand exceeds, of the kind that waits longer."""
    return max(float(found[kind]["before_rare_ms"]) for kind in KINDS)


def rare_after(found: Watch) -> float:
    """Return the same, after the event."""
    return max(float(found[kind]["after_rare_ms"]) for kind in KINDS)


def longest_before(found: Watch) -> float:
    """Return the longest request in all windows before the event."""
    return max(float(max(found[kind]["windows_ms"])) for kind in KINDS)


def longest_after(found: Watch) -> float:
    """Return the longest request that was not over at the event."""
    return max(float(found[kind]["longest_ms"]) for kind in KINDS)
