"""Draws a schedule from a seed: which faults, on whom, when, for how long.

Each seed draws its own mix of kinds, so that rare combinations come up. Faults stay within what the
cluster promises to survive: clients may have to wait, but nothing that was acknowledged may be
lost, whatever is killed and cut, in any number at the same time. Nothing is ever erased.
"""

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tools.chaos.kinds import DRAWN, TRAITS, FaultKind
from tools.chaos.outcome import role_of
from tools.chaos.schedule import ClusterShape, Fault, Schedule, Work

CALM_S = 3.0
"""Before the first fault, and after the last one."""
GAP_S = (0.5, 4.0)
RECOVERY_S = (8.0, 15.0)
"""After what stopped all of a role, so that it is seen how long that alone takes, ..."""
RECOVERY_SHARE = 0.5
"""... where the next fault is not to come upon those that recover."""
LENGTH_S = (0.2, 6.0)
ROLL_S = 25.0
"""How long a rolling restart may take."""
DISK_MIB = 768
"""More than the capacity of a node: it is the fault that fills it."""
CLOCK_JUMPS_S = (-86400.0, -3600.0, -5.0, 5.0, 3600.0, 86400.0)
ALONE = (FaultKind.ROLL, FaultKind.DISK, FaultKind.FLIP)
"""Faults during which there is no other: all copies but one have to be whole."""
POWERS = (FaultKind.POWER, FaultKind.BLACKOUT)
"""Faults by which an acknowledged update is lost everywhere, where durability is less than sync."""
OWN_DISKS = (FaultKind.FULL, FaultKind.DISK, *POWERS)
OVERLAP_SHARE = 0.3
"""How often the next fault begins before the last one was undone."""
KINDS_MIN = 3


def draw_schedule(
    seed: int,
    duration_s: float,
    given: Mapping[str, int],
    *,
    kinds: Sequence[FaultKind],
    links: bool,
    disks: bool,
) -> Schedule:
    """Return the schedule of a seed.

    What is *given* of the cluster is not drawn; kinds that need links, or disks that can fail, are
    left out where there are none. Raises ScheduleError when the rest makes no sense.
    """
    source = random.Random(f"chaos {seed}")
    cluster = draw_cluster(source, given)
    work = draw_work(source)
    usable = [
        kind
        for kind in kinds
        if (links or not TRAITS[kind].links)
        and (disks or not TRAITS[kind].root)
        and (kind not in POWERS or not disks or cluster.durability == "sync")
    ]
    mix = (
        usable
        if len(usable) <= KINDS_MIN
        else source.sample(usable, source.randint(KINDS_MIN, len(usable)))
    )
    faults = list(draw_faults(source, duration_s, cluster, mix)) if mix else []
    if links and any(fault.kind in OWN_DISKS for fault in faults):
        cluster = replace(cluster, disk_mib=DISK_MIB)
    schedule = Schedule(seed, duration_s, cluster, work, tuple(faults))
    schedule.check()
    return schedule


def draw_cluster(source: random.Random, given: Mapping[str, int]) -> ClusterShape:
    """Return a cluster."""
    nodes = given.get("nodes", source.choice((3, 3, 3, 4, 5)))
    replicas = given.get("replicas", source.choice((2, 3, 3, 3)))
    several = source.random() < 0.5 and shutil.which("etcd") is not None
    mgmtds = given.get("mgmtds", 2 if several else 1)
    return ClusterShape(
        nodes=nodes,
        replicas=replicas,
        mgmtds=mgmtds,
        targets_per_node=source.choice((1, 2)),
        # Durability "memory" promises nothing when all replicas are killed, as some faults do.
        durability=source.choice(("disk", "sync")),
    )


def draw_work(source: random.Random) -> Work:
    """Return what clients do: few keys that all fight for, or many; small values, or large."""
    return Work(
        keys=source.choice((10, 50, 200, 1000)),
        batch_count_max=source.choice((4, 16, 64)),
        size_max=source.choice((4096, 65536, 65536, 1 << 20)),
        pause_ms=source.choice((20.0, 50.0, 100.0)),
    )


def draw_faults(
    source: random.Random, duration_s: float, cluster: ClusterShape, mix: Sequence[FaultKind]
) -> list[Fault]:
    """Return faults until the time is over."""
    faults: list[Fault] = []
    at_s = CALM_S
    while True:
        kind = source.choice(mix)
        for_s = ROLL_S if kind is FaultKind.ROLL else round(source.uniform(*LENGTH_S), 2)
        if at_s + for_s > duration_s - CALM_S:
            return faults
        fault = draw_fault(source, kind, round(at_s, 2), for_s, cluster)
        if not any(same_place(fault, other) for other in faults):
            faults.append(fault)
        alone = kind in ALONE or source.random() >= OVERLAP_SHARE
        gap_s = RECOVERY_S if TRAITS[kind].whole and source.random() < RECOVERY_SHARE else GAP_S
        at_s += (for_s if alone else 0.0) + source.uniform(*gap_s)


def draw_fault(
    source: random.Random, kind: FaultKind, at_s: float, for_s: float, cluster: ClusterShape
) -> Fault:
    """Return a fault of a kind on somebody."""
    traits = TRAITS[kind]
    names = members_of(cluster)
    blank = Fault(kind, "cluster", at_s, for_s)
    if not traits.roles:
        return blank
    if traits.pair:
        on, to = source.sample([name for role in names.values() for name in role], 2)
        return replace(blank, on=on, to=to)
    if kind is FaultKind.CLOCK:
        blank = replace(blank, by_s=source.choice(CLOCK_JUMPS_S))
    roles = [role for role in traits.roles if names[role]]
    return replace(blank, on=source.choice(names[source.choice(roles)]))


def members_of(cluster: ClusterShape) -> dict[str, list[str]]:
    """Return the names of all that can be attacked, by role; clients share a link and a fate."""
    return {
        "node": [f"node-{number}" for number in range(1, cluster.nodes + 1)],
        "mgmtd": [f"mgmtd-{number}" for number in range(1, cluster.mgmtds + 1)],
        "etcd": ["etcd-1"] if cluster.mgmtds > 1 else [],
        "client": ["clients"],
    }


def same_place(fault: Fault, other: Fault) -> bool:
    """Whether two faults are on the same member at the same time: one of them would be undone."""
    together = (
        fault.at_s <= other.at_s + other.for_s + GAP_S[0]
        and other.at_s <= fault.at_s + fault.for_s + GAP_S[0]
    )
    alone = fault.kind in ALONE or other.kind in ALONE
    return together and (alone or same_members(fault, other))


def same_members(fault: Fault, other: Fault) -> bool:
    """Whether two faults are on the same member, or one of them is on all of the other's role."""
    whole, others = TRAITS[fault.kind].whole, TRAITS[other.kind].whole
    return (
        (fault.on == other.on and not whole)
        or role_of(fault.on) in others
        or role_of(other.on) in whole
        or not set(whole).isdisjoint(others)
    )


def drawable(names: Sequence[str]) -> list[FaultKind]:
    """Return the kinds of these names; all that can be drawn when there are none."""
    return [FaultKind(name) for name in names] or list(DRAWN)
