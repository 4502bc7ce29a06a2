"""What a run came to, and its JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tools.chaos.attack import DoneFault
from tools.chaos.series import Point
from tools.chaos.stalls import StallRow, Window
from tools.history.check import Verdict
from tools.history.timeline import draw

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that a report shows."""

    seed: int
    duration_s: float
    """What the schedule says."""
    worked_s: float
    """How long clients worked and faults were done: some take longer than the schedule knows."""
    origin: int
    faults: tuple[DoneFault, ...]
    verdict: Verdict
    stalls: tuple[StallRow, ...]
    series: tuple[Point, ...]
    problems: tuple[str, ...]
    """What went wrong beside the histories; empty: nothing."""
    replay: str
    """The command that does it again."""

    @property
    def good(self) -> bool:
        """Whether nothing went wrong."""
        return self.verdict.good and not self.problems

    def to_json(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {
            "format_version": FORMAT_VERSION,
            "good": self.good,
            "seed": self.seed,
            "duration_s": self.duration_s,
            "worked_s": self.worked_s,
            "operations": self.verdict.operations,
            "operations_unknown": self.verdict.unknown,
            "operations_failed": self.verdict.failed,
            "keys": self.verdict.keys,
            "faults": [
                {
                    "fault": str(done.fault),
                    "begun_s": self.seconds(done.begun),
                    "undone_s": self.seconds(done.undone),
                }
                for done in self.faults
            ],
            "stalls": [asdict(row) for row in self.stalls],
            "violations": [draw(violation, self.origin) for violation in self.verdict.violations],
            "undecided": list(self.verdict.undecided),
            "problems": list(self.problems),
            "replay": self.replay,
        }

    def seconds(self, time_us: int) -> float:
        """Return a time of the histories as seconds of the run."""
        return (time_us - self.origin) / 1e6


def windows_of(faults: Sequence[DoneFault]) -> list[Window]:
    """Return when faults were there, under names that tell kinds and roles but not numbers."""
    return [
        Window(f"{done.fault.kind} {role_of(done.fault.on)}", done.begun, done.undone)
        for done in faults
    ]


def role_of(name: str) -> str:
    """Return `node` for `node-2`; other names are their own roles."""
    role, _, number = name.rpartition("-")
    return role if role and number.isdigit() else name
