"""One run: a cluster, clients, faults, then quiet, last reads, and the verdict.

Guarantees: whatever happens, the processes that were started are gone when run() returns or raises,
and what was recorded until then is in the directory.
"""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tools.chaos.actions import ActionError, Actions, Commands
from tools.chaos.attack import Doer, DoneFault, Pause, attack
from tools.chaos.client import now_us
from tools.chaos.clients import Clients
from tools.chaos.cluster import Cluster
from tools.chaos.disks import DiskError
from tools.chaos.kinds import FaultKind
from tools.chaos.last_reads import LastReadError, read_all, remove_all
from tools.chaos.member import MemberError
from tools.chaos.network import Network, NetworkError
from tools.chaos.outcome import Outcome, windows_of
from tools.chaos.sanitizers import (
    SanitizedPython,
    Sanitizer,
    SanitizerError,
    build,
    reports_in,
)
from tools.chaos.schedule import Schedule, write_schedule
from tools.chaos.series import series_of
from tools.chaos.stalls import MACHINE, Stall, stall_rows, stalls_in
from tools.chaos.wall_clocks import WallClockError, WallClocks
from tools.chaos.wholeness import ClusterError, wait_until_theirs_is_whole
from tools.history.check import check
from tools.history.files import read_histories

Say = Callable[[str], None]
EXPECTED = (
    *(MemberError, LastReadError, ClusterError, WallClockError, DiskError),
    *(ActionError, NetworkError, SanitizerError),
)
"""What ends a run, and is what the report says of it."""


class Run:
    """One run in a directory of its own."""

    def __init__(self, schedule: Schedule, directory: Path, *, links: bool, say: Say) -> None:
        """Do nothing yet; *links*: whether members get links of their own."""
        self._schedule = prefixed(schedule)
        self._directory = directory
        self._links = links
        self._say = say
        self._problems: list[str] = []
        self._faults: list[DoneFault] = []
        self._pauses: list[Pause] = []
        self._worked_us = 0
        self._sanitized: SanitizedPython | None = None

    def run(self) -> Outcome:
        """Do it all; returns what came of it."""
        path = self._directory / "schedule.toml"
        write_schedule(path, self._schedule)
        origin = now_us()
        with ExitStack() as stack:
            try:
                origin = self._attack(path, stack)
            except EXPECTED as error:
                self._problems.append(str(error))
        self._problems += reports_in(self._directory)
        return self._outcome(origin, path)

    def _attack(self, path: Path, stack: ExitStack) -> int:
        schedule = self._schedule
        if schedule.cluster.sanitize:
            self._sanitized = build(Sanitizer(schedule.cluster.sanitize))
        cluster = self._cluster(stack)
        url = schedule.cluster.url if cluster is None else cluster.url
        prefix = () if cluster is None else cluster.client_prefix
        clients = Clients(
            path,
            with_deadline(url, schedule.work.timeout_s),
            schedule.work,
            self._directory / "clients",
            prefix,
            schedule.seed,
            self._sanitized,
        )
        stack.callback(clients.clean_up)
        clients.start()
        origin = now_us()
        doer: Doer = Commands() if cluster is None else Actions(cluster, clients)

        def watch() -> None:
            clients.check()
            if cluster is not None:
                cluster.check()

        attack(
            schedule.faults_in_order,
            schedule.duration_s,
            doer,
            watch=watch,
            say=self._say,
            done=self._faults,
            pauses=self._pauses,
        )
        self._worked_us = now_us() - origin
        if cluster is not None:
            self._wait_until_whole(lambda: cluster.wait_until_whole(watch))
        elif schedule.cluster.mgmtds:
            self._wait_until_whole(lambda: wait_until_theirs_is_whole(url, watch))
        clients.stop()
        read_all(url, schedule.work, self._directory / "clients" / "last.history")
        if cluster is None:
            remove_all(url, schedule.work)
        else:
            self._problems += cluster.compare_replicas() + cluster.damaged_values()
            cluster.stop()
        return origin

    def _wait_until_whole(self, wait: Callable[[], None]) -> None:
        """Wait; what never comes is one problem, and others may be found all the same."""
        try:
            wait()
        except ClusterError as error:
            self._problems.append(str(error))

    def _cluster(self, stack: ExitStack) -> Cluster | None:
        if self._schedule.cluster.url:
            return None
        network = None
        if self._links:
            network = Network()
            network.open()
            stack.callback(network.close)
        clocks = None
        if any(fault.kind is FaultKind.CLOCK for fault in self._schedule.faults):
            clocks = WallClocks(self._directory)
        cluster = Cluster(self._directory, self._schedule.cluster, network, clocks, self._sanitized)
        stack.callback(cluster.clean_up)
        cluster.start()
        self._say(f"{cluster.url} serves")
        return cluster

    def _machine_stalls(self) -> list[Stall]:
        return [Stall(MACHINE, False, pause.begun, pause.ended) for pause in self._pauses]

    def _outcome(self, origin: int, path: Path) -> Outcome:
        files = sorted(self._directory.rglob("*.history"))
        history = read_histories(files)
        times = [o.ended or o.called for o in history]
        windows = windows_of(self._faults)
        return Outcome(
            seed=self._schedule.seed,
            duration_s=self._schedule.duration_s,
            worked_s=self._worked_us / 1e6,
            origin=origin,
            faults=tuple(self._faults),
            verdict=check(history),
            stalls=tuple(stall_rows([*stalls_in(history), *self._machine_stalls()], windows)),
            series=tuple(series_of(history, origin, max([origin, *times]))),
            problems=tuple(self._problems),
            replay=f"{os.path.relpath('.venv/bin/python')} -m tools.chaos --schedule {path}",
        )


def prefixed(schedule: Schedule) -> Schedule:
    """Return the schedule with keys that nobody else has, where the cluster may hold others."""
    if not schedule.cluster.url:
        return schedule
    work = replace(schedule.work, prefix=f"chaos-{time.time_ns()}-")
    return replace(schedule, work=work)


def with_deadline(url: str, timeout_s: float) -> str:
    """Return the URL of a store whose batches end by then."""
    return f"{url}{'&' if '?' in url else '?'}timeout_s={timeout_s:g}"
