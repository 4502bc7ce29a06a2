"""What is done to a cluster, and when: a schedule, drawn from a seed or written in a TOML file.

    seed = 7                    # of the clients' work
    duration_s = 60.0           # of the work; faults are undone within it

    [cluster]                   # one that the harness starts, ...
    nodes = 3
    replicas = 3
    # url = "kv://10.0.0.1:7300/chaos"      # ... or one of the operator's, here by its mgmtd;
    # mgmtds = 0                            # unless the URL names nodes that are on their own

    [work]                      # see tools.chaos.work
    blocking_clients = 2
    keys = 200

    [[faults]]
    kind = "kill"               # see tools.chaos.kinds
    on = "node-2"
    at_s = 5.0
    for_s = 3.0                 # until it is undone

    [[faults]]
    kind = "part-one-way"       # of a pair: from `on` to `to`
    on = "node-1"
    to = "mgmtd-1"
    at_s = 20.0
    for_s = 2.0

    [[faults]]                  # for a cluster of the operator's: commands, run by the shell
    kind = "command"
    on = "rack 4"               # what the report calls it
    at_s = 40.0
    for_s = 10.0
    begin = "ssh admin@node7 sudo systemctl kill -s KILL kvstore"
    end = "ssh admin@node7 sudo systemctl start kvstore"

Guarantees: what is read makes sense as a whole; what is written is read as the same schedule.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from tools.chaos.kinds import TRAITS, FaultKind
from tools.chaos.sanitizers import Sanitizer

FAULTS_MAX = 10_000
DURATION_S_MAX = 24 * 3600.0
T = TypeVar("T")


class ScheduleError(Exception):
    """A schedule makes no sense; says where and why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is done, and undone."""

    kind: FaultKind
    on: str
    at_s: float
    for_s: float
    to: str = ""
    by_s: float = 0.0
    """How far a clock jumps."""
    begin: str = ""
    end: str = ""

    def __str__(self) -> str:
        """Return it as the table shows it."""
        to = f" → {self.to}" if self.to else ""
        by = f" by {self.by_s:+,.0f} s" if self.by_s else ""
        return f"{self.kind} {self.on}{to}{by}"


@dataclass(frozen=True, slots=True)
class ClusterShape:
    """What the harness starts, or where the operator's cluster is."""

    nodes: int = 3
    replicas: int = 3
    mgmtds: int = 1
    targets_per_node: int = 2
    memory: str = "96MiB"
    capacity: str = "256MiB"
    durability: str = "disk"
    disk_mib: int = 0
    """Size of a disk of each node's own, in memory; 0: all share the disk of the folder."""
    url: str = ""
    clocks: bool = True
    """Whether each member has a monotonic clock of its own, as machines have."""
    sanitize: str = ""
    """Of which sanitizer's build nodes and clients are: `asan`, `tsan`, or the usual one."""


@dataclass(frozen=True, slots=True)
class Work:
    """What clients do."""

    blocking_clients: int = 2
    async_clients: int = 2
    tasks: int = 4
    """Of each asynchronous client, all at work at once."""
    keys: int = 200
    batch_count_max: int = 16
    size_max: int = 65536
    pause_ms: float = 20.0
    """Between two batches of one task, on average."""
    timeout_s: float = 20.0
    """Deadline of a batch; what is not answered by then has an unknown outcome."""
    prefix: str = ""
    """Of all keys; each run on a cluster of the operator's has one of its own."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """All of a run."""

    seed: int
    duration_s: float
    cluster: ClusterShape = field(default_factory=ClusterShape)
    work: Work = field(default_factory=Work)
    faults: tuple[Fault, ...] = ()

    def check(self) -> None:
        """Raise ScheduleError when it makes no sense."""
        if not 0 < self.duration_s <= DURATION_S_MAX:
            raise ScheduleError(f"duration_s = {self.duration_s} is not within a day")
        if self.cluster.mgmtds and self.cluster.replicas > self.cluster.nodes:
            raise ScheduleError(
                f"{self.cluster.nodes} nodes make no chain of {self.cluster.replicas} replicas"
            )
        if len(self.faults) > FAULTS_MAX:
            raise ScheduleError(f"{len(self.faults)} faults, {FAULTS_MAX} is the limit")
        if self.cluster.sanitize not in ("", *Sanitizer):
            raise ScheduleError(f"sanitize = {self.cluster.sanitize!r}: asan and tsan there are")
        for fault in self.faults:
            if fault.at_s < 0 or fault.for_s < 0:
                raise ScheduleError(f"{fault}: at_s and for_s are not negative")
            if fault.at_s + fault.for_s > self.duration_s:
                raise ScheduleError(
                    f"{fault}: ends at {fault.at_s + fault.for_s} s, after the duration_s"
                )
            if TRAITS[fault.kind].pair != bool(fault.to):
                raise ScheduleError(f"{fault}: `to` is for faults of a pair, and for these only")
            if (fault.kind is FaultKind.COMMAND) != bool(fault.begin):
                raise ScheduleError(f"{fault}: `begin` is for commands, and for these only")
            if (fault.kind is FaultKind.CLOCK) != bool(fault.by_s):
                raise ScheduleError(f"{fault}: `by_s` is for clocks, and for these only")
            on_disk = fault.kind in (FaultKind.FULL, FaultKind.DISK, FaultKind.BLACKOUT)
            if on_disk and not self.cluster.disk_mib:
                raise ScheduleError(f"{fault}: takes a disk of its own: give [cluster] disk_mib")
            if self.cluster.url and fault.kind is not FaultKind.COMMAND:
                raise ScheduleError(f"{fault}: a cluster of the operator's takes commands only")

    @property
    def faults_in_order(self) -> list[Fault]:
        """Return the faults by their time."""
        return sorted(self.faults, key=lambda fault: fault.at_s)


def read_schedule(path: Path) -> Schedule:
    """Return what a file says; raises ScheduleError."""
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
        schedule = schedule_of(found)
        schedule.check()
    except (OSError, ValueError, TypeError, KeyError, ScheduleError) as error:
        raise ScheduleError(f"{path}: {error}") from error
    return schedule


def schedule_of(found: Mapping[str, Any]) -> Schedule:
    """Return the schedule of a TOML document."""
    known = {each.name for each in fields(Schedule)}
    refuse_others(found, known, "")
    faults = found.get("faults", [])
    return Schedule(
        seed=int(found.get("seed", 0)),
        duration_s=float(found["duration_s"]),
        cluster=record_of(ClusterShape, found.get("cluster", {}), "[cluster] "),
        work=record_of(Work, found.get("work", {}), "[work] "),
        faults=tuple(
            record_of(Fault, {**fault, "kind": FaultKind(fault["kind"])}, "[[faults]] ")
            for fault in faults
        ),
    )


def record_of(kind: type[T], found: Mapping[str, Any], where: str) -> T:
    """Return a record whose fields are named so, and of their types."""
    known: dict[str, Any] = {each.name: each.type for each in fields(kind)}  # type: ignore[arg-type]
    refuse_others(found, set(known), where)
    values = dict(found)
    for name, value in found.items():
        if known[name] is float and isinstance(value, int):
            values[name] = float(value)
        elif not isinstance(value, known[name]):
            raise ScheduleError(f"{where}{name}: expected {known[name].__name__}, got {value!r}")
    return kind(**values)


def refuse_others(found: Mapping[str, Any], known: set[str], where: str) -> None:
    """Raise for a key that there is not."""
    for name in found:
        if name not in known:
            raise ScheduleError(f"{where}{name}: no such key; there are {', '.join(sorted(known))}")


def write_schedule(path: Path, schedule: Schedule) -> None:
    """Write a file that reads as the same schedule."""
    lines = [f"seed = {schedule.seed}", f"duration_s = {schedule.duration_s}"]
    for name in ("cluster", "work"):
        lines += ["", f"[{name}]", *rows(asdict(getattr(schedule, name)))]
    for fault in schedule.faults:
        lines += ["", "[[faults]]", *rows(given_of(fault))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def given_of(fault: Fault) -> dict[str, object]:
    """Return what a fault says beside the defaults."""
    defaults = {each.name: each.default for each in fields(fault)}
    return {name: value for name, value in asdict(fault).items() if value != defaults[name]}


def rows(values: Mapping[str, object]) -> list[str]:
    """Return lines of TOML: JSON's texts, numbers and booleans are TOML's, too."""
    return [f"{name} = {json.dumps(value)}" for name, value in values.items()]
