"""How each kind of fault is done and undone.

Guarantees: undo() after do() leaves the member running and its links whole, whatever else happened
to it meanwhile; faults on other members are not touched.
"""

import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tools.chaos.clients import Clients
from tools.chaos.cluster import CLIENTS, Cluster
from tools.chaos.configs import DISK
from tools.chaos.damage import flip_bits
from tools.chaos.kinds import FaultKind
from tools.chaos.member import Member
from tools.chaos.schedule import Fault

COMMAND_TIMEOUT_S = 120.0
SLOW_DELAY_MS = 30.0
SLOW_RATE_MBIT = 20.0
RATE_MBIT = 4.0
FLIPS_MAX = 500
"""Bits turned on a target at once."""


class ActionError(Exception):
    """A fault could not be done or undone."""


@dataclass(frozen=True, slots=True)
class Action:
    """Both ways of one fault."""

    do: Callable[[Fault], None]
    undo: Callable[[Fault], None]


class Actions:
    """Does faults to a cluster that the harness started."""

    def __init__(self, cluster: Cluster, clients: Clients) -> None:
        """Do nothing yet."""
        self._cluster = cluster
        self._clients = clients
        self._kinds = {
            FaultKind.KILL: Action(self._kill, self._start),
            FaultKind.STOP: Action(self._stop, self._start),
            FaultKind.PAUSE: Action(self._pause, self._resume),
            FaultKind.POWER: Action(self._power, self._power_back),
            FaultKind.CUT: Action(self._cut, self._heal),
            FaultKind.CUT_IN: Action(self._cut, self._heal),
            FaultKind.CUT_OUT: Action(self._cut, self._heal),
            FaultKind.PART: Action(self._cut, self._heal),
            FaultKind.PART_ONE_WAY: Action(self._cut, self._heal),
            FaultKind.SLOW: Action(self._slow, self._quicken),
            FaultKind.RATE: Action(self._limit, self._quicken),
            FaultKind.FULL: Action(self._fill, self._empty),
            FaultKind.DISK: Action(self._break_disk, self._replace_disk),
            FaultKind.FLIP: Action(self._flip, self._wait_until_healed),
            FaultKind.CLOCK: Action(self._jump, self._jump_back),
            FaultKind.OUTAGE: Action(self._outage, self._outage_over),
            FaultKind.BLACKOUT: Action(self._black_out, self._blackout_over),
            FaultKind.NO_MGMTD: Action(self._kill_managers, self._start_managers),
            FaultKind.ROLL: Action(self._roll, nothing),
        }

    def do(self, fault: Fault) -> None:
        """Do it."""
        self._kinds[fault.kind].do(fault)

    def undo(self, fault: Fault) -> None:
        """Undo it."""
        self._kinds[fault.kind].undo(fault)

    def _member(self, fault: Fault) -> Member:
        return self._cluster.members[fault.on]

    # Processes.

    def _kill(self, fault: Fault) -> None:
        if fault.on == CLIENTS:
            self._clients.kill_one()
        else:
            self._member(fault).kill()

    def _start(self, fault: Fault) -> None:
        if fault.on == CLIENTS:
            self._clients.start_one()
        else:
            self._cluster.restart(self._member(fault))

    def _stop(self, fault: Fault) -> None:
        self._member(fault).stop()

    def _pause(self, fault: Fault) -> None:
        self._member(fault).signal(signal.SIGSTOP)

    def _resume(self, fault: Fault) -> None:
        self._member(fault).signal(signal.SIGCONT)

    def _outage(self, fault: Fault) -> None:
        kill_all(self._cluster.nodes)

    def _outage_over(self, fault: Fault) -> None:
        for member in self._cluster.nodes:
            self._cluster.restart(member)

    def _kill_managers(self, fault: Fault) -> None:
        kill_all(self._cluster.managers)

    def _start_managers(self, fault: Fault) -> None:
        for member in self._cluster.managers:
            self._cluster.restart(member)

    def _roll(self, fault: Fault) -> None:
        for member in self._cluster.nodes:
            member.stop()
            self._cluster.restart(member)
            self._cluster.wait_until_whole(self._cluster.check)

    # Links.

    def _ways(self, fault: Fault) -> list[tuple[str, str]]:
        """Return from whom to whom packets are lost."""
        assert self._cluster.network is not None
        if fault.kind is FaultKind.PART:
            return [(fault.on, fault.to), (fault.to, fault.on)]
        if fault.kind is FaultKind.PART_ONE_WAY:
            return [(fault.on, fault.to)]
        others = self._cluster.network.others(fault.on)
        inward = [(other, fault.on) for other in others]
        outward = [(fault.on, other) for other in others]
        if fault.kind is FaultKind.CUT_IN:
            return inward
        return outward if fault.kind is FaultKind.CUT_OUT else inward + outward

    def _cut(self, fault: Fault) -> None:
        assert self._cluster.network is not None
        for sender, receiver in self._ways(fault):
            self._cluster.network.cut(sender, receiver)

    def _heal(self, fault: Fault) -> None:
        assert self._cluster.network is not None
        for sender, receiver in self._ways(fault):
            self._cluster.network.heal(sender, receiver)

    def _power(self, fault: Fault) -> None:
        self._cut(fault)  # nobody hears the sockets close
        self._cluster.cut_power(fault.on)
        self._member(fault).kill()

    def _power_back(self, fault: Fault) -> None:
        self._cluster.give_power(fault.on)
        self._heal(fault)
        self._start(fault)

    def _black_out(self, fault: Fault) -> None:
        names = [member.name for member in self._cluster.nodes]
        for name in names:
            self._cut(replace(fault, on=name))
        for name in names:
            self._cluster.cut_power(name)
        kill_all(self._cluster.nodes)

    def _blackout_over(self, fault: Fault) -> None:
        for member in self._cluster.nodes:
            self._power_back(replace(fault, on=member.name))

    def _slow(self, fault: Fault) -> None:
        assert self._cluster.network is not None
        self._cluster.network.slow(fault.on, SLOW_DELAY_MS, SLOW_RATE_MBIT)

    def _limit(self, fault: Fault) -> None:
        assert self._cluster.network is not None
        self._cluster.network.limit(fault.on, RATE_MBIT)

    def _quicken(self, fault: Fault) -> None:
        assert self._cluster.network is not None
        self._cluster.network.quicken(fault.on)

    # Disks.

    def _fill(self, fault: Fault) -> None:
        self._cluster.disks[fault.on].fill()

    def _empty(self, fault: Fault) -> None:
        self._cluster.disks[fault.on].empty()

    def _break_disk(self, fault: Fault) -> None:
        # What it holds is gone for good: somebody else must have it.
        self._cluster.wait_until_whole(self._cluster.check)
        self._cluster.disks[fault.on].fail()

    def _replace_disk(self, fault: Fault) -> None:
        self._member(fault).kill()
        self._cluster.disks[fault.on].replace()
        self._start(fault)
        self._cluster.wait_until_whole(self._cluster.check)

    def _flip(self, fault: Fault) -> None:
        # A value that is damaged everywhere is lost: the other copies have to be whole.
        self._cluster.wait_until_whole(self._cluster.check)
        flip_bits(self._member(fault).home / DISK, FLIPS_MAX)

    def _wait_until_healed(self, fault: Fault) -> None:
        self._cluster.wait_until_healed()

    # Clocks.

    def _jump(self, fault: Fault) -> None:
        assert self._cluster.wall_clocks is not None
        self._cluster.wall_clocks.set(fault.on, fault.by_s)

    def _jump_back(self, fault: Fault) -> None:
        assert self._cluster.wall_clocks is not None
        self._cluster.wall_clocks.set(fault.on, 0.0)


class Commands:
    """Does the faults of an operator's schedule: whatever its commands do."""

    def do(self, fault: Fault) -> None:
        """Run its command."""
        self._run(fault, fault.begin)

    def undo(self, fault: Fault) -> None:
        """Run the command that undoes it, if there is one."""
        if fault.end:
            self._run(fault, fault.end)

    @staticmethod
    def _run(fault: Fault, command: str) -> None:
        try:
            subprocess.run(command, shell=True, check=True, timeout=COMMAND_TIMEOUT_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise ActionError(f"{fault}: {error}") from error


def kill_all(members: Sequence[Member]) -> None:
    """kill -9, all at once."""
    for member in members:
        member.signal(signal.SIGKILL)
    for member in members:
        member.kill()


def nothing(fault: Fault) -> None:
    """Undo what undid itself."""
