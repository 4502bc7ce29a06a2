"""Measure this store beside its peers and the machine's limits; a table, and a JSON file.

    python -m tools.bench                      every row, under fifteen minutes
    python -m tools.bench --quick              the same, smaller and rougher
    python -m tools.bench --only memory read   some rows

Missing peers are installed below build/bench, Debian's by apt-get where that is allowed; a peer
that cannot run is named with its reason, and the others go on.
"""

import argparse
import json
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from tools.bench.environment import Environment
from tools.bench.machine import describe
from tools.bench.process import ROOT
from tools.bench.result import Row
from tools.bench.rows.play import Bench
from tools.bench.rows.registry import GROUPS
from tools.bench.settings import Settings, full, quick
from tools.bench.table import print_rows

FORMAT_VERSION = 1
DEFAULT_DIRECTORY = ROOT / "build" / "bench"
DISK_SIZE = 8 << 30
WIDTH = 170


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a rough run of about four minutes")
    parser.add_argument("--only", nargs="+", choices=GROUPS, metavar="ROW", default=list(GROUPS))
    parser.add_argument(
        "--dir", type=Path, default=DEFAULT_DIRECTORY, help="where data is written meanwhile"
    )
    parser.add_argument("--json", type=Path, help="default: results.json in build/bench")
    parser.add_argument("--rounds", type=int, choices=range(1, 101), metavar="N")
    parser.epilog = f"rows: {', '.join(GROUPS)}"
    return parser.parse_args(arguments)


def measure(names: Sequence[str], settings: Settings, say: Callable[[str], None]) -> list[Row]:
    """Set up what these rows need, and measure them."""
    environment = Environment(DEFAULT_DIRECTORY, say)
    groups = [GROUPS[name] for name in GROUPS if name in names]
    environment.install(sorted({peer for group in groups for peer in group.peers}))
    bench = Bench(settings, environment, say)
    return [row for group in groups for row in group.measure(bench)]


def write_json(path: Path, rows: Sequence[Row], settings: Settings, seconds: float) -> None:
    """Write everything that was measured."""
    found = {
        "format_version": FORMAT_VERSION,
        "machine": describe(settings.directory),
        "settings": {name: str(value) for name, value in asdict(settings).items()},
        "seconds": seconds,
        "rows": [row.to_json() for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def console() -> Console:
    """Return where tables go; a file or a pipe is as wide as they need."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)


def end_in_order(number: int, frame: object) -> None:
    """Turn a signal into an exit that cleans up."""
    del frame
    raise SystemExit(128 + number)


def main() -> None:
    """Run the benchmark."""
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, end_in_order)
    progress = Console(stderr=True)
    arguments.dir.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(arguments.dir).free < DISK_SIZE:
        raise SystemExit(f"{arguments.dir} has less than {DISK_SIZE >> 30} GiB free: use --dir")
    began = time.monotonic()

    def say(text: str) -> None:
        progress.print(f"[dim]{time.monotonic() - began:5.0f} s  {text}")

    with tempfile.TemporaryDirectory(prefix="data-", dir=arguments.dir.resolve()) as directory:
        make = quick if arguments.quick else full
        settings = make(Path(directory), arguments.rounds)
        rows = measure(arguments.only, settings, say)
        seconds = time.monotonic() - began
        path = arguments.json or DEFAULT_DIRECTORY / "results.json"
        write_json(path, rows, settings, seconds)
    print_rows(rows, console())
    print(f"{seconds:.0f} s; all figures are in {path}")


if __name__ == "__main__":
    main()
