"""Faults in the order of their times: done, and undone when theirs is over, while clients work.

Guarantees: when attack() returns or raises, every fault that was done has been undone, also when
it is interrupted.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tools.chaos.client import now_us
from tools.chaos.schedule import Fault

STEP_S = 0.02
STEP_LONG_S = 1.0
PAUSE_US_MIN = 5_000
"""A shorter oversleep is none."""


class Doer(Protocol):
    """Who does faults."""

    def do(self, fault: Fault) -> None:
        """Do one."""

    def undo(self, fault: Fault) -> None:
        """Undo one."""


@dataclass(frozen=True, slots=True)
class DoneFault:
    """A fault, and when it was there; times of the histories."""

    fault: Fault
    begun: int
    undone: int


@dataclass(frozen=True, slots=True)
class Pause:
    """A time in which the harness wanted to run and could not: the machine was busy."""

    begun: int
    ended: int


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do next."""

    at_s: float
    undoing: bool
    index: int


def steps_of(faults: Sequence[Fault]) -> list[Step]:
    """Return what to do, by time; of two at once, the undoing first."""
    steps = [Step(fault.at_s, False, index) for index, fault in enumerate(faults)]
    steps += [Step(f.at_s + f.for_s, True, index) for index, f in enumerate(faults)]
    return sorted(steps, key=lambda step: (step.at_s, not step.undoing, step.index))


def attack(
    faults: Sequence[Fault],
    duration_s: float,
    doer: Doer,
    *,
    watch: Callable[[], None],
    say: Callable[[str], None],
    done: list[DoneFault],
    pauses: list[Pause],
) -> None:
    """Do all faults in *duration_s* and what they take, and add to *done* what was done.

    *watch* is called often, and raises to end it. Pauses of the machine are added to *pauses*.
    """
    start = time.monotonic()
    begun: dict[int, int] = {}

    def wait_until(at_s: float) -> None:
        while (left := start + at_s - time.monotonic()) > 0:
            watch()
            pauses.extend(sleep(min(left, STEP_S)))

    try:
        for step in steps_of(faults):
            wait_until(step.at_s)
            fault = faults[step.index]
            begun_s = time.monotonic()
            if not step.undoing:
                say(f"{begun_s - start:7.2f} s  {fault}")
                begun[step.index] = now_us()
                doer.do(fault)
            else:
                since = begun.pop(step.index)
                doer.undo(fault)
                done.append(DoneFault(fault, since, now_us()))
                say(f"{begun_s - start:7.2f} s  {fault}: over")
            # What takes long puts off what comes after it: each fault lasts as long as it should.
            took_s = time.monotonic() - begun_s
            start += took_s if took_s > STEP_LONG_S else 0.0
        wait_until(duration_s)
    finally:
        for index in begun:
            doer.undo(faults[index])


def sleep(duration_s: float) -> list[Pause]:
    """Sleep; returns the time by which it was longer, if that is much."""
    due = now_us() + int(duration_s * 1e6)
    time.sleep(duration_s)
    late = now_us()
    return [Pause(due, late)] if late - due >= PAUSE_US_MIN else []
