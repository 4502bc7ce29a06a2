"""What one seed is: a cluster, a load, and the faults that it suffers. Swarm testing: each seed
draws its own mix, so that what one fault hides another seed shows.

(Groce et al., Swarm Testing, ISSTA 2012.)
"""

from collections.abc import Iterator
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
AMOUNT_MAX = 1 << 16
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
    PEER = "connection to a successor cut"


POWER = {Kind.POWER, Kind.POWER_AT, Kind.BLACKOUT}
"""What durability `sync` is for: at `disk` unflushed updates may go, by promise."""


DUEL_SHARE = 0.5
DUEL_KINDS = (
    Kind.KILL,
    Kind.KILL_AT,
    Kind.POWER,
    Kind.OUTAGE,
    Kind.BLACKOUT,
    Kind.LEAVE,
    Kind.PAUSE,
    Kind.CLIENT_PAUSE,
    Kind.CONNECTION,
    Kind.ISOLATE,
    Kind.ONE_WAY,
    Kind.MGMTD_LINK,
    Kind.CLIENTS_CUT,
    Kind.SLOW_LINK,
    Kind.SLOW_DEVICE,
    Kind.STUCK_DEVICE,
    Kind.DRIFT,
    Kind.PEER,
)
"""What makes chains change, and messages late."""


@dataclass(frozen=True, slots=True)
class Step:
    """One fault of a scene: at most so long after the one before it."""

    after_s_max: float
    kinds: tuple[Kind, ...]
    role: int
    """Which node of those that the scene is about."""
    lasts_s_max: float
    amount_max: int = AMOUNT_MAX


Scene = tuple[Step, ...]
ENDS = (Kind.KILL, Kind.LEAVE, Kind.POWER)
STALLS = (Kind.STUCK_DEVICE, Kind.SLOW_DEVICE)
STUCK_HEAD: Scene = (
    Step(0.0, (Kind.STUCK_DEVICE,), 0, 0.6),
    Step(0.04, ENDS, 1, 0.2),
)
"""What others have shown is not applied here yet when they are gone."""
RETURN: Scene = (
    Step(0.0, (Kind.STUCK_DEVICE,), 0, 0.8),
    Step(0.03, (Kind.MGMTD_LINK, Kind.ISOLATE), 0, 0.3),
)
"""Who left the chain comes back before it has applied what it took in then."""
RECONNECTS: Scene = (
    Step(0.0, (Kind.SLOW_LINK,), 0, 0.8, 8000),
    *(Step(0.03, (Kind.PEER,), role, 0.0) for role in (0, 0, 1) * 6),
)
"""What was sent once more overtakes, and is overtaken."""
CATCH_UP: Scene = (
    Step(0.0, (Kind.KILL, Kind.LEAVE), 2, 0.06),
    Step(0.06, (Kind.STUCK_DEVICE,), 0, 0.6),
    Step(0.04, ENDS, 1, 0.3),
    Step(0.03, STALLS, 2, 0.4),
)
"""Who comes back is fed while the only one that serves has applied nothing for a while."""
FAILOVER: Scene = (
    Step(0.0, (Kind.CLIENTS_CUT, Kind.CLIENT_PAUSE), 0, 0.08),
    Step(0.05, (*ENDS, Kind.OUTAGE), 0, 0.1),
)
"""Clients that did not hear repeat to the next head, or to the next process."""
FENCE: Scene = (
    Step(0.0, (Kind.PAUSE, Kind.MGMTD_LINK), 0, 0.4),
    Step(0.1, (Kind.PAUSE, Kind.MGMTD_LINK, Kind.SLOW_LINK), 0, 0.3),
)
"""Who cannot be reached must not be believed."""
REFUSAL: Scene = (
    Step(0.0, (Kind.DEVICE_FULL,), 1, 0.06),
    *(Step(0.03, (Kind.PEER,), 0, 0.0) for _ in range(4)),
    Step(0.03, (*ENDS, Kind.CLIENTS_CUT), 0, 0.1),
    Step(0.03, ENDS, 0, 0.2),
)
"""A successor that had no room has room when it is asked again."""
SUCCESSION: Scene = (
    Step(0.0, (Kind.KILL, Kind.LEAVE), 2, 0.06),
    Step(0.06, (Kind.SLOW_LINK, Kind.STUCK_DEVICE), 0, 0.4),
    Step(0.04, ENDS, 1, 0.3),
    Step(0.01, (Kind.DEVICE_FULL,), 2, 0.4),
)
"""The next successor has no room for what the one before it had applied."""
SCENES = (STUCK_HEAD, RETURN, RECONNECTS, CATCH_UP, FAILOVER, FENCE)
CROWDED_SCENES = (REFUSAL, SUCCESSION, STUCK_HEAD, RECONNECTS)


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
    """With less free space updates are careful."""
    patience_ms: int
    """How long clients wait before they send again."""
    receive_us: int
    """How far behind its keys a value may come."""
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


def is_duel(seed: int) -> bool:
    """Say whether a seed is one short life of one chain whose few keys all clients want."""
    return Random(f"{seed} duel").random() < DUEL_SHARE


def plan_of(seed: int) -> Plan:
    """Draw everything."""
    return _duel(seed) if is_duel(seed) else _broad(seed)


def _duel(seed: int) -> Plan:
    """Draw a life in which updates of the same keys meet every change of their chain."""
    random = Random(f"{seed} duel plan")
    replicas = random.choices([2, 3, 4], [40, 50, 10])[0]
    work_s = random.uniform(0.6, 1.2)
    operations = int(work_s * random.choice([300, 600, 1200]))
    batch_max = random.randint(1, 3)
    crowded = random.random() < 0.3
    keys = random.randint(5, 12) if crowded else random.randint(1, 4)
    if crowded:
        operations = min(operations, keys * ENTRIES_A_KEY * 2 // (batch_max + 1))
    heartbeat_ms = random.choice([20, 40])
    return Plan(
        seed=seed,
        nodes=replicas,
        targets_per_node=1,
        replicas=replicas,
        clients=random.randint(3, 10),
        keys=max(keys, operations * (batch_max + 1) // 2 // ENTRIES_A_KEY),
        batch_max=batch_max,
        updates_percent=random.choice([45, 70]),
        deletes_percent=random.choice([5, 20, 40]),
        value_size_max=120 * KIB if crowded else random.choice([64, 600, 6 * KIB]),
        operations=operations,
        durability=Durability.SYNC,
        capacity=MIB if crowded else 4 * MIB,
        margin=4 * MIB if crowded else random.choice([0, 0, 4 * MIB]),
        patience_ms=random.choice([10, 60, 300]),
        receive_us=random.choice([0, 3000, 30_000, 100_000]),
        memory_size=MIB,
        reorder=random.random() < 0.5,
        tear=random.random() < 0.5,
        terms=_terms_of(heartbeat_ms, heartbeat_ms * random.randint(3, 5)),
        primary_lease_s=1.0,
        work_s=work_s,
        faults=_duel_faults(random, work_s, replicas, crowded=crowded),
    )


def _duel_faults(random: Random, work_s: float, nodes: int, *, crowded: bool) -> tuple[Fault, ...]:
    """Draw faults that come one upon the other: in half of all duels those of a few scenes."""
    scenes = random.sample(CROWDED_SCENES if crowded else SCENES, random.choice([1, 1, 2]))
    kinds = [*DUEL_KINDS, Kind.DEVICE_FULL] if crowded else [*DUEL_KINDS]
    kinds = [kind for kind in kinds if random.random() < 0.5] or [Kind.KILL]
    weights = [random.choice([1, 3, 10]) for _ in kinds]
    staged = random.choice([0.0, 0.5, 1.0, 1.0])
    gap_s = random.choice([0.06, 0.15, 0.3])
    faults: list[Fault] = []
    at_s = random.uniform(0.05, 0.15)
    while at_s < work_s:
        if random.random() < staged:
            faults.extend(_scene(random, random.choice(scenes), len(faults), at_s, nodes))
        else:
            kind = random.choices(kinds, weights)[0]
            node = random.randrange(nodes)
            faults.append(_fault(random, len(faults), at_s, kind, node, nodes))
        at_s += random.expovariate(1 / gap_s)
    return tuple(sorted(faults, key=lambda fault: (fault.at_s, fault.number)))


def _scene(random: Random, scene: Scene, number: int, at_s: float, nodes: int) -> Iterator[Fault]:
    """Draw when each step of a scene is, what it is, to which node, and how long it lasts."""
    roles = random.sample(range(nodes), nodes)
    for count, step in enumerate(scene):
        at_s += random.random() * step.after_s_max
        fault = _fault(
            random, number + count, at_s, random.choice(step.kinds), roles[step.role % nodes], nodes
        )
        lasts_s = round(random.uniform(0.3, 1.0) * step.lasts_s_max, 6)
        yield replace(fault, lasts_s=lasts_s, amount=fault.amount % step.amount_max)


def _fault(random: Random, number: int, at_s: float, kind: Kind, node: int, nodes: int) -> Fault:
    return Fault(
        number=number,
        at_s=round(at_s, 6),
        kind=kind,
        node=node,
        other=random.randrange(nodes),
        lasts_s=round(random.choice([0.02, 0.06, 0.3, 0.8]) * random.random() + 0.001, 6),
        amount=random.randrange(AMOUNT_MAX),
    )


def _broad(seed: int) -> Plan:
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
        patience_ms=60,
        receive_us=0,
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
    return _terms_of(heartbeat_ms, heartbeat_ms * random.randint(3, 6))


def _terms_of(heartbeat_ms: int, lease_ms: int) -> LeaseTerms:
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
        fault = _fault(random, len(faults), at_s, kind, node, nodes)
        lasts_s = random.choice([0.02, 0.06, 0.3, longest_s]) * random.random() + 0.001
        faults.append(replace(fault, lasts_s=round(lasts_s, 6)))
        at_s += random.expovariate(1 / gap_s)
        if random.random() < 1 / STORM_FAULTS:
            at_s += random.expovariate(1 / CALM_S)
    return tuple(faults)
