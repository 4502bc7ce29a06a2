"""Simulates whole clusters, seed by seed, and checks what they promise.

    python -m simulator [--seeds N] [--first S] [--seconds T] [--hours H]
    python -m simulator --seed S [--talk] [--keep NUMBERS]     one seed again; some of its faults
    python -m simulator --seed S --minimize                    the few faults that it takes

It prints the first seed before it begins; SEED in the environment is the same as --seed. A failure
ends it with status 1 and prints the command that does it again. Limits of 0 are none; --first 0
draws it from the clock.
"""

import argparse
import gc
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from simulator.cluster import Cluster, Result
from simulator.library import build
from simulator.plan import Fault, Plan, plan_of

SEEDS_DEFAULT = 60
COLLECT_SEEDS = 8
ATTEMPT_WITHIN_S = 300
FAULTS_PRINTED = 12


@dataclass(slots=True)
class Summary:
    """What came of many seeds."""

    begun_s: float = field(default_factory=time.monotonic)
    cpu_s: float = field(default_factory=time.process_time)
    seeds: int = 0
    time_s: float = 0.0
    latency_max_ms: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        """Take a seed in."""
        self.seeds += 1
        self.time_s += result.time_s
        self.latency_max_ms = max(self.latency_max_ms, result.latency_max_ms)
        self.counts += result.counts
        self.faults += result.faults

    def lines(self) -> list[str]:
        """Return it as text."""
        real_s = max(1e-9, time.monotonic() - self.begun_s)
        cpu_s = max(1e-9, time.process_time() - self.cpu_s)
        hours, operations = self.time_s / 3600, self.counts["operations"]
        rows = [
            ("seeds", f"{self.seeds:,}"),
            ("simulated hours", f"{hours:.3f}"),
            ("simulated hours a minute", f"{hours * 60 / real_s:.3f}"),
            ("  of one core", f"{hours * 60 / cpu_s:.3f}"),
            ("operations a second", f"{operations / real_s:,.0f}"),
            ("  of one core", f"{operations / cpu_s:,.0f}"),
            ("longest undisturbed", f"{self.latency_max_ms:.0f} ms"),
            *((name.replace("_", " "), f"{count:,}") for name, count in self.counts.items()),
            ("faults", f"{self.faults.total():,}"),
            *((f"  {name}", f"{count:,}") for name, count in sorted(self.faults.items())),
        ]
        return [f"{name:32} {value}" for name, value in rows]


def live(plan: Plan, *, talks: bool = False) -> Result:
    """Simulate one cluster."""
    return Cluster(plan, talks).run()


def replay(arguments: argparse.Namespace, seed: int) -> int:
    """Do one seed again."""
    plan = plan_of(seed)
    if arguments.keep is not None:
        kept = {int(number) for number in arguments.keep.split(",") if number}
        plan = plan.with_faults(tuple(fault for fault in plan.faults if fault.number in kept))
    result = live(plan, talks=arguments.talk)
    print(f"trace {result.trace:016x}")
    if result.failure:
        print(f"seed {seed} at {result.time_s:.6f} s: {result.failure}")
        return 1
    return 0


def fails(seed: int, faults: tuple[Fault, ...]) -> bool:
    """Say whether a seed fails with these faults alone; an assertion of the core counts, too."""
    kept = ",".join(str(fault.number) for fault in faults)
    command = [sys.executable, "-m", "simulator", "--seed", str(seed), "--keep", kept]
    environment = {key: value for key, value in os.environ.items() if key != "SEED"}
    done = subprocess.run(
        command, env=environment, capture_output=True, timeout=ATTEMPT_WITHIN_S, check=False
    )
    return done.returncode != 0


def minimize(seed: int) -> int:
    """Print the few faults that a failing seed takes (Zeller's delta debugging)."""
    faults = plan_of(seed).faults
    if not fails(seed, faults):
        print(f"seed {seed} does not fail")
        return 1
    parts = 2
    while len(faults) >= 1:
        size = max(1, -(-len(faults) // parts))
        for first in range(0, len(faults), size):
            rest = faults[:first] + faults[first + size :]
            if fails(seed, rest):
                faults, parts = rest, max(2, parts - 1)
                print(f"{len(faults)} faults are enough", flush=True)
                break
        else:
            if size == 1:
                break
            parts = min(len(faults), 2 * parts)
    kept = ",".join(str(fault.number) for fault in faults)
    for fault in faults[:FAULTS_PRINTED]:
        print(fault)
    print(f"python -m simulator --seed {seed} --keep '{kept}' --talk")
    return 0


def simulate(arguments: argparse.Namespace) -> int:
    """Do seed after seed."""
    first = arguments.first or int(time.time())
    limit_s = arguments.seconds + arguments.hours * 3600
    print(f"seed {first}", flush=True)
    summary = Summary()
    seed = first
    gc.disable()  # it stops for long while a world lives, and finds little
    while arguments.seeds == 0 or seed < first + arguments.seeds:
        if limit_s and time.monotonic() - summary.begun_s >= limit_s:
            break
        result = live(plan_of(seed))
        summary.add(result)
        if result.failure:
            print(f"seed {seed} at {result.time_s:.6f} s: {result.failure}")
            print(f"make simulate SEED={seed}")
            return 1
        if seed % COLLECT_SEEDS == 0:
            gc.collect()
        seed += 1
    print("\n".join(summary.lines()))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return what understands the arguments."""
    options = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--seeds", type=int, default=SEEDS_DEFAULT)
    options.add_argument("--first", type=int, default=1)
    options.add_argument("--seconds", type=float, default=0.0)
    options.add_argument("--hours", type=float, default=0.0)
    options.add_argument("--seed", type=int)
    options.add_argument("--keep", help="numbers of faults, with commas")
    options.add_argument("--talk", action="store_true")
    options.add_argument("--minimize", action="store_true")
    return options


def main() -> int:
    """Do what is asked for."""
    arguments = parser().parse_args()
    if "SIMULATOR" not in os.environ:
        build()
    named = os.environ.get("SEED")
    seed = arguments.seed if arguments.seed is not None else int(named) if named else None
    if seed is None:
        return simulate(arguments)
    print(f"seed {seed}", flush=True)
    return minimize(seed) if arguments.minimize else replay(arguments, seed)


if __name__ == "__main__":
    sys.exit(main())
