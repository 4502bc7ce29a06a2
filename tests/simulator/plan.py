"""What one seed is: a cluster, a load, and the faults that it suffers. Swarm testing: each seed
draws its own mix, so that what one fault hides another seed shows.

(Groce et al., Swarm Testing, ISSTA 2012.)
"""

from dataclasses import dataclass, replace
from enum import StrEnum, unique
from random import Random

from kvstore.cluster.leases import LeaseTerms
from kvstore.cluster.states import Durability

DRIFT_PPM_MAX = 10_000
"""How much faster or slower than true time a clock runs: mgmtd allows for twice as much."""
ENTRIES_A_KEY = 200
"""On average: what is looked at most has several times as many."""
STORM_FAULTS = 12
CALM_S = 3.0
"""On average: how many faults come without a pause, and how long that is."""
LONGEST_LEASES = 1.6
"""How long a fault lasts at most: long enough for leases to run out."""
TIGHT_KEYS = 40
"""Of a chain, in a target of 1 MiB: sometimes it has no room for an update."""
KIB = 1 << 10
MIB = 1 << 20


@unique
class Kind(StrEnum):
    """A fault."""

    KILL = "kill"
    POWER = "power cut"
    KILL_AT = "kill at a device event"
    POWER_AT = "power cut at a device event"
    OUTAGE = "all nodes killed"
    BLACKOUT = "power cut of all nodes"
    LEAVE = "planned restart"
    PAUSE = "pause"
    CLIENT_PAUSE = "client pause"
    CONNECTION = "connection cut"
    ISOLATE = "node cut off"
    ONE_WAY = "one-way cut"
    MGMTD_LINK = "node cut off from mgmtd"
    CLIENTS_CUT = "node cut off from clients"
    SLOW_LINK = "slow link"
    SLOW_DEVICE = "slow device"
    STUCK_DEVICE = "stuck device"
    WRITE_ERROR = "device write error"
    READ_ERROR = "device read error"
    FLUSH_ERROR = "device flush error"
    DEVICE_FULL = "device full"
    ROT = "bit rot"
    DRIFT = "clock rate"
    WALL_JUMP = "wall clock jump"
    MGMTD_KILL = "mgmtd killed"
    MGMTD_PAUSE = "mgmtd paused"
    STORE_DOWN = "metadata store down"
    STORE_LOSES = "metadata answers lost"


POWER = {Kind.POWER, Kind.POWER_AT, Kind.BLACKOUT}
"""What durability `sync` is for: at `disk` unflushed updates may go, by promise."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a schedule; what a kind does not need it does not look at."""

    number: int
    at_s: float
    kind: Kind
    node: int
    other: int
    lasts_s: float
    amount: int

    def __str__(self) -> str:
        """Show it as a line of a schedule."""
        return (
            f"{self.number:4} at {self.at_s:8.3f} s  {self.kind.value}, node {self.node},"
            f" other {self.other}, {self.lasts_s * 1000:.0f} ms, {self.amount}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One seed's world."""

    seed: int
    nodes: int
    targets_per_node: int
    replicas: int
    clients: int
    keys: int
    batch_max: int
    updates_percent: int
    deletes_percent: int
    value_size_max: int
    operations: int
    durability: Durability
    capacity: int
    margin: int
    memory_size: int
    reorder: bool
    tear: bool
    terms: LeaseTerms
    primary_lease_s: float
    work_s: float
    faults: tuple[Fault, ...]

    @property
    def chains(self) -> int:
        """How many there are."""
        return self.nodes * self.targets_per_node // self.replicas

    def with_faults(self, faults: tuple[Fault, ...]) -> "Plan":
        """Return the same world with other faults."""
        return replace(self, faults=faults)


def plan_of(seed: int) -> Plan:
    """Draw everything."""
    random = Random(f"{seed} plan")
    replicas = random.choices([1, 2, 3, 4], [4, 40, 46, 10])[0]
    targets_per_node = random.choices([1, 2], [60, 40])[0]
    counts = [n for n in range(replicas, 7) if n * targets_per_node % replicas == 0]
    nodes = random.choice(counts[:3])
    chains = nodes * targets_per_node // replicas
    terms = _terms(random)
    work_s = random.uniform(4.0, 11.0) * min(2.0, max(0.3, terms.lease_ms / 1000))
    operations = int(work_s * random.choice([100, 300, 700, 1000]))
    durability = random.choice([Durability.DISK, Durability.SYNC])
    tight = random.random() < 0.2
    batch_max = random.randint(1, 4)
    keys = max(2, random.choice([4, 8, 16, 40]) // chains)
    keys = max(keys, operations * (batch_max + 1) // 2 // (chains * ENTRIES_A_KEY))
    return Plan(
        seed=seed,
        nodes=nodes,
        targets_per_node=targets_per_node,
        replicas=replicas,
        clients=random.randint(5, 12),
        keys=keys,
        batch_max=batch_max,
        updates_percent=random.choice([20, 45, 45, 70]),
        deletes_percent=random.choice([5, 20, 40]),
        value_size_max=random.choice([64, 600, 6 * KIB, 40 * KIB]),
        operations=operations,
        durability=durability,
        capacity=(1 + keys // TIGHT_KEYS) * MIB if tight else 4 * MIB,
        margin=4 * MIB if tight else random.choice([0, 0, 4 * MIB]),
        memory_size=random.choice([MIB, 4 * MIB]),
        reorder=random.random() < 0.5,
        tear=random.random() < 0.5,
        terms=terms,
        primary_lease_s=random.choices([0.3, 0.8, 2.0], [1, 3, 3])[0],
        work_s=work_s,
        faults=_faults(random, work_s, nodes, durability, terms.lease_ms / 1000),
    )


def _terms(random: Random) -> LeaseTerms:
    heartbeat_ms = random.choices([40, 100, 250, 450, 700], [1, 1, 2, 3, 3])[0]
    if random.random() < 0.15:
        return LeaseTerms()
    lease_ms = heartbeat_ms * random.randint(3, 6)
    return LeaseTerms(
        heartbeat_ms=heartbeat_ms,
        lease_ms=lease_ms,
        drift_ms_max=max(3, lease_ms * 2 * DRIFT_PPM_MAX // 900_000),
    )


def _faults(
    random: Random, work_s: float, nodes: int, durability: Durability, lease_s: float
) -> tuple[Fault, ...]:
    """Draw which kinds there are, how often, and when: storms, and calms in which it recovers."""
    if random.random() < 0.03:
        return ()  # a cluster in which nothing happens must work, too
    kinds = [kind for kind in Kind if durability is Durability.SYNC or kind not in POWER]
    kinds = [kind for kind in kinds if random.random() < 0.45] or [Kind.KILL]
    weights = [random.choice([1, 1, 3, 10]) for _ in kinds]
    gap_s = random.choice([0.03, 0.08, 0.2, 0.5])
    longest_s = max(0.8, LONGEST_LEASES * lease_s)
    faults: list[Fault] = []
    at_s = random.uniform(0.02, 0.3)
    while at_s < work_s:
        kind = random.choices(kinds, weights)[0]
        node = random.randrange(nodes)
        faults.append(
            Fault(
                number=len(faults),
                at_s=round(at_s, 6),
                kind=kind,
                node=node,
                other=random.randrange(nodes),
                lasts_s=round(
                    random.choice([0.02, 0.06, 0.3, longest_s]) * random.random() + 0.001, 6
                ),
                amount=random.randrange(1 << 16),
            )
        )
        at_s += random.expovariate(1 / gap_s)
        if random.random() < 1 / STORM_FAULTS:
            at_s += random.expovariate(1 / CALM_S)
    return tuple(faults)
