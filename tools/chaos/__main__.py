"""Attack a cluster of real processes, and check what its clients saw.

    python -m tools.chaos --seed 7 --minutes 2            faults of all kinds, drawn from the seed
    python -m tools.chaos --seed 7 --faults kill,pause    of these kinds only
    python -m tools.chaos --runs 20                       fresh seeds, one after the other
    python -m tools.chaos --hours 2                       fresh seeds until so much time is over
    python -m tools.chaos --sanitize asan                 nodes and clients of a sanitizer's build
    python -m tools.chaos --schedule FILE                 as the file says, see tools.chaos.schedule
    python -m tools.chaos --totals                        what all runs until now came to

Each run leaves a table, report.json and report.html in a folder of its own below build/chaos, and a
line in totals.jsonl there, which --totals reads; what a failed run recorded stays beside them, with
schedule.toml, which does it again. The exit code is 1 when a run failed. Every process of the
cluster has links of its own where the machine allows it (root, or unprivileged user namespaces);
otherwise all are on loopback, and faults of links are left out. The harness touches nothing but
what it started.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tools.chaos import sandbox
from tools.chaos.disks import can_fail
from tools.chaos.drawing import draw_schedule, drawable
from tools.chaos.kinds import TRAITS, FaultKind
from tools.chaos.outcome import Outcome
from tools.chaos.page import page_of
from tools.chaos.report import show
from tools.chaos.run import Run
from tools.chaos.sanitizers import Sanitizer
from tools.chaos.schedule import Schedule, ScheduleError, read_schedule
from tools.chaos.totals import FILE, add_line, line_of, read_totals, show_totals

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "build" / "chaos"
SEEDS = 1 << 32
SHAPE = ("nodes", "replicas", "mgmtds")
WIDTH = 150
"""Of tables that go to a file or a pipe."""
RUNS_MAX = 10_000
FREE_SIZE_MIN = 8 << 30
"""Left on the file system before a run starts: it must not fill what others use."""
KEPT_OF_GOOD = ("report.json", "report.html", "schedule.toml")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    kinds = "\n".join(f"  {kind:<14}{TRAITS[kind].what}" for kind in FaultKind)
    parser = argparse.ArgumentParser(
        prog="python -m tools.chaos",
        description=__doc__,
        epilog=f"kinds of faults:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="a fresh one unless given")
    parser.add_argument("--minutes", type=float, default=1.0, help="of each run")
    parser.add_argument("--runs", type=int, default=1, choices=range(1, RUNS_MAX + 1), metavar="N")
    parser.add_argument("--hours", type=float, metavar="H", help="runs until so much time is over")
    parser.add_argument("--totals", action="store_true", help="show what all runs came to")
    parser.add_argument("--faults", default="", metavar="KIND,KIND", help="all unless given")
    parser.add_argument("--schedule", type=Path, metavar="FILE")
    parser.add_argument("--dir", type=Path, default=DIRECTORY, help="where runs are kept")
    parser.add_argument("--loopback", action="store_true", help="no links of their own")
    parser.add_argument("--keep", action="store_true", help="keep all, the large targets, too")
    parser.add_argument(
        "--sanitize", choices=list(Sanitizer), default="", help="nodes and clients of such a build"
    )
    for name in SHAPE:
        parser.add_argument(f"--{name}", type=int, metavar="N", help="drawn unless given")
    return parser.parse_args(arguments)


def schedule_for(options: argparse.Namespace, seed: int) -> Schedule:
    """Return what to do; raises ScheduleError."""
    schedule = given_schedule(options, seed)
    if not options.sanitize:
        return schedule
    return replace(schedule, cluster=replace(schedule.cluster, sanitize=options.sanitize))


def given_schedule(options: argparse.Namespace, seed: int) -> Schedule:
    """Return what the file says, or the seed; raises ScheduleError."""
    if options.schedule is not None:
        return read_schedule(options.schedule)
    given = {name: vars(options)[name] for name in SHAPE if vars(options)[name] is not None}
    try:
        kinds = drawable([name for name in options.faults.split(",") if name])
    except ValueError as error:
        raise ScheduleError(f"--faults: {error}; see --help") from error
    duration_s = options.minutes * 60
    links, disks = sandbox.inside(), sandbox.inside() and can_fail()
    return draw_schedule(seed, duration_s, given, kinds=kinds, links=links, disks=disks)


def run_one(console: Console, options: argparse.Namespace, seed: int) -> Outcome:
    """Do one run in a folder of its own."""
    schedule = schedule_for(options, seed)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    directory: Path = (options.dir / f"{stamp}-seed-{schedule.seed}").absolute()
    directory.mkdir(parents=True)
    if shutil.disk_usage(directory).free < FREE_SIZE_MIN:
        raise ScheduleError(f"{directory} has less than {FREE_SIZE_MIN >> 30} GiB left: use --dir")
    links = sandbox.inside() and not schedule.cluster.url
    console.print(f"seed {schedule.seed}, {len(schedule.faults)} faults: {directory}")

    def say(text: str) -> None:
        console.print(text, highlight=False)

    outcome = Run(schedule, directory, links=links, say=say).run()
    add_line(options.dir / FILE, line_of(outcome, stamp, schedule.cluster.sanitize))
    found = json.dumps(outcome.to_json(), indent=1) + "\n"
    (directory / "report.json").write_text(found, encoding="utf-8")
    (directory / "report.html").write_text(page_of(outcome), encoding="utf-8")
    show(console, outcome)
    if not options.keep:
        # Targets are large, and what they did is in the logs.
        for disk in directory.glob("*/disk"):
            shutil.rmtree(disk)
    if outcome.good and not options.keep:
        remove_all_but(directory, KEPT_OF_GOOD)
    return outcome


def elsewhere(path: Path | None) -> bool:
    """Whether a schedule is for a cluster of the operator's, which no sandbox could reach."""
    try:
        return path is not None and bool(read_schedule(path).cluster.url)
    except ScheduleError:
        return False  # said later, as any other


def remove_all_but(directory: Path, kept: Sequence[str]) -> None:
    """Remove what was recorded."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in kept:
            path.unlink()


def console_for_people() -> Console:
    """Return where tables go."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def seeds_of(options: argparse.Namespace) -> Iterator[int]:
    """Yield the seed of each run, until there were enough."""
    end_s = time.monotonic() + (options.hours or 0.0) * 3600
    for index in range(RUNS_MAX if options.hours is not None else options.runs):
        if options.hours is not None and time.monotonic() > end_s:
            return
        yield random.randrange(SEEDS) if options.seed is None else options.seed + index


def say_totals(options: argparse.Namespace) -> int:
    """Show what all runs came to; 1 when one failed."""
    totals = read_totals(options.dir / FILE)
    show_totals(console_for_people(), totals)
    return 1 if totals.bad_seeds else 0


def main() -> int:
    """Do all runs."""
    options = parse_arguments()
    if options.totals:
        return say_totals(options)
    if not sandbox.inside() and not options.loopback and not elsewhere(options.schedule):
        code = sandbox.run_inside("tools.chaos", sys.argv[1:])
        if code is not None:
            return code
    if sandbox.inside():
        sandbox.prepare()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    console = console_for_people()
    if not sandbox.inside() and not elsewhere(options.schedule):
        console.print("all on loopback: faults of links are left out", style="yellow")
    failed = []
    for seed in seeds_of(options):
        try:
            outcome = run_one(console, options, seed)
        except ScheduleError as error:
            console.print(str(error), style="red")
            return 2
        except KeyboardInterrupt:
            console.print("interrupted", style="yellow")
            return 130
        failed += [] if outcome.good else [outcome.replay]
    if options.hours is not None:
        show_totals(console, read_totals(options.dir / FILE))
    for replay in failed:
        console.print(f"failed: {replay}", style="red", soft_wrap=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
