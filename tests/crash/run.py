"""Crash consistency at the file system's level, for a while: run.py [--seconds S] [--seed N].

First flushes are left out of the record, and each must be missed; then drivers and durabilities
take turns, each with a new load. 1 where anything was not as it must be.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crash.crash_program import Crash, NoDriverError, build, run

PLANTS = ("journal", "slabs", "directory")
KINDS = tuple(
    Crash(driver=driver, durability=durability)
    for driver in ("threads", "io_uring")
    for durability in ("sync", "disk")
)
SECONDS_EACH_MAX = 60.0
PLANT_SECONDS_MAX = 60.0


def tell(crash: Crash, program: Path) -> bool:
    """Run one, and say what came of it; True: as it must be."""
    try:
        good, said = run(program, crash)
    except NoDriverError:
        print(f"{crash.driver}: forbidden here", flush=True)
        return True
    what = f"without flushes of {crash.plant}" if crash.plant else f"seed {crash.seed}"
    print(f"{what}: {'as it must be' if good else 'WRONG'}\n{said.strip()}", flush=True)
    return good


def main() -> int:
    """Run until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    print(f"crash: seed {given.seed}", flush=True)
    program = build()
    end_s = time.monotonic() + given.seconds
    good = True
    for plant in PLANTS:
        good &= tell(Crash(plant=plant, seconds=PLANT_SECONDS_MAX, seed=given.seed), program)
    each_s = max(1.0, min(SECONDS_EACH_MAX, given.seconds / len(KINDS)))
    turn = 0
    while good and (turn < len(KINDS) or time.monotonic() < end_s):
        kind = KINDS[turn % len(KINDS)]
        good = tell(replace(kind, seconds=each_s, seed=given.seed + turn), program)
        turn += 1
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
