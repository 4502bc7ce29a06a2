"""How long to wait for what must come: longer on a machine that is busy, and for slow builds.

Only waiting is scaled: what is a violation is one on any machine. Deadlines count a second for as
much of it as a process of a quiet machine would have had.
"""

import os
import time

SLOWNESS_MAX = 10.0
"""However busy the machine is, what takes longer than this many times its deadline is a failure."""


def slowness() -> float:
    """Return how many times longer things take than on a quiet machine, as its load says."""
    return min(SLOWNESS_MAX, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


class Deadline:
    """A time until which something has to come."""

    def __init__(self, duration_s: float) -> None:
        """Start; *duration_s* is what it may take on a quiet machine."""
        self.duration_s = duration_s
        self._left_s = duration_s
        self._looked_s = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether it took too long; to be asked often."""
        now_s = time.monotonic()
        self._left_s -= (now_s - self._looked_s) / slowness()
        self._looked_s = now_s
        return self._left_s < 0
