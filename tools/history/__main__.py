"""Check recorded histories: is there an order of all operations that explains every answer?

python -m tools.history DIRECTORY|FILE...   exit code 1 when there is none for some key
python -m tools.history --self-test         plant faults, expect every one to be found
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tools.history.check import Verdict, check
from tools.history.files import HistoryError, read_histories
from tools.history.plant import FAULTS, right_history, wrong_history
from tools.history.timeline import draw

SELF_TEST_SEEDS = 20
SELF_TEST_COUNT = 400
SUFFIX = ".history"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.history",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", type=Path, nargs="*", help=f"files, or folders of *{SUFFIX}")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args(arguments)
    if bool(options.paths) == options.self_test:
        parser.error("name files, or ask for --self-test")
    return options


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return the history files at these places."""
    found = []
    for path in paths:
        found += sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not found:
        raise HistoryError(f"no file *{SUFFIX} in {', '.join(map(str, paths))}")
    return found


def report(verdict: Verdict, seconds: float) -> str:
    """Return what a check found, for people."""
    lines = [
        f"{verdict.operations:,} operations on {verdict.keys:,} keys, {verdict.unknown:,} of "
        f"unknown outcome, {verdict.failed:,} failed; checked in {seconds:.1f} s"
    ]
    lines += [draw(violation) for violation in verdict.violations]
    lines += [f"key {key}: undecided, too many orders are possible" for key in verdict.undecided]
    lines.append("linearizable" if verdict.good else "NOT linearizable, see above")
    return "\n".join(lines)


def self_test() -> int:
    """Plant every fault into histories of many seeds; 1 when one is not found."""
    missed = 0
    for seed in range(SELF_TEST_SEEDS):
        if not check(right_history(seed, SELF_TEST_COUNT)).good:
            print(f"seed {seed}: a right history is refused")
            missed += 1
        for fault in FAULTS:
            if not check(wrong_history(fault, seed, SELF_TEST_COUNT)).violations:
                print(f"seed {seed}: {fault} is not found")
                missed += 1
    print(f"{SELF_TEST_SEEDS} seeds, {len(FAULTS)} faults each: {missed} wrong verdicts")
    return 1 if missed else 0


def main() -> int:
    """Check, or test the checker."""
    options = parse_arguments()
    if options.self_test:
        return self_test()
    start = time.monotonic()
    try:
        verdict = check(read_histories(files_of(options.paths)))
    except (HistoryError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(report(verdict, time.monotonic() - start))
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
