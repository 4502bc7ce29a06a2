"""What all runs came to, over days: a file with one line of JSON a run, and the table of them all.

    {"stamp": "20260131-101500", "seed": 7, "sanitize": "", "good": true, "work_s": 120.0, ...}

Guarantees: a run is one line, added at once when it is over, so that runs which go on at the same
time, or after each other, add up. A file of any number of lines reads as the same totals in any
order.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tools.chaos.outcome import Outcome, role_of
from tools.chaos.stalls import CALM, TOGETHER

FILE = "totals.jsonl"
SEVERAL = "several at once"
"""The row of stalls during which there were faults of several kinds."""


@dataclass(slots=True)
class KindTotal:
    """What one kind of fault did in all runs."""

    faults: int = 0
    fault_s: float = 0.0
    """How long it was there, all together."""
    keys: int = 0
    read_ms: float = 0.0
    write_ms: float = 0.0
    machine_ms: float = 0.0
    write_seed: int = 0
    """Of the run with the longest stall of a write."""


@dataclass(slots=True)
class Totals:
    """All runs together."""

    runs: int = 0
    work_s: float = 0.0
    """Time in which clients worked and faults were done."""
    operations: int = 0
    unknown: int = 0
    failed: int = 0
    bad_seeds: list[int] = field(default_factory=list)
    sanitized_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    kinds: dict[str, KindTotal] = field(default_factory=lambda: defaultdict(KindTotal))

    @property
    def faults(self) -> int:
        """How many faults there were."""
        return sum(kind.faults for kind in self.kinds.values())


def line_of(outcome: Outcome, stamp: str, sanitize: str) -> dict[str, object]:
    """Return what the file keeps of a run."""
    faults: dict[str, dict[str, float]] = {}
    for done in outcome.faults:
        row = faults.setdefault(
            f"{done.fault.kind} {role_of(done.fault.on)}", {"count": 0, "seconds": 0.0}
        )
        row["count"] += 1
        row["seconds"] += (done.undone - done.begun) / 1e6
    return {
        "stamp": stamp,
        "seed": outcome.seed,
        "sanitize": sanitize,
        "good": outcome.good,
        "work_s": outcome.worked_s,
        "operations": outcome.verdict.operations,
        "unknown": outcome.verdict.unknown,
        "failed": outcome.verdict.failed,
        "violations": len(outcome.verdict.violations),
        "problems": list(outcome.problems),
        "faults": faults,
        "stalls": [
            {
                "name": row.name,
                "keys": row.keys,
                "read_ms": row.read_ms,
                "write_ms": row.write_ms,
                "machine_ms": row.machine_ms,
            }
            for row in outcome.stalls
        ],
    }


def add_line(path: Path, line: Mapping[str, object]) -> None:
    """Add a run to a file, in one write."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (json.dumps(line) + "\n").encode())
    finally:
        os.close(file)


def read_totals(path: Path) -> Totals:
    """Return what a file holds; empty where there is none."""
    if not path.exists():
        return Totals()
    lines = path.read_text(encoding="utf-8").splitlines()
    return totals_of(json.loads(line) for line in lines if line)


def totals_of(lines: Iterable[Mapping[str, Any]]) -> Totals:
    """Return the totals of runs."""
    totals = Totals()
    for line in lines:
        totals.runs += 1
        totals.work_s += line["work_s"]
        totals.operations += line["operations"]
        totals.unknown += line["unknown"]
        totals.failed += line["failed"]
        if not line["good"]:
            totals.bad_seeds.append(line["seed"])
        if line["sanitize"]:
            totals.sanitized_s[line["sanitize"]] += line["work_s"]
        for name, row in line["faults"].items():
            totals.kinds[name].faults += row["count"]
            totals.kinds[name].fault_s += row["seconds"]
        for row in line["stalls"]:
            add_stalls(totals.kinds[row_name(row["name"])], row, line)
    return totals


def add_stalls(kind: KindTotal, row: Mapping[str, Any], line: Mapping[str, Any]) -> None:
    """Add a run's row of stalls to a kind; those of sanitizers' builds tell nothing of times."""
    if line["sanitize"]:
        return
    kind.keys += row["keys"]
    kind.read_ms = max(kind.read_ms, row["read_ms"])
    kind.machine_ms = max(kind.machine_ms, row["machine_ms"])
    if row["write_ms"] > kind.write_ms:
        kind.write_ms, kind.write_seed = row["write_ms"], line["seed"]


def row_name(name: str) -> str:
    """Return in which row of the table stalls are: there are too many mixes of kinds."""
    return SEVERAL if TOGETHER in name else name


def names_in_order(totals: Totals) -> Sequence[str]:
    """Return the rows of the table: kinds by name, then what is none."""
    last = (SEVERAL, CALM)
    return sorted(totals.kinds, key=lambda name: (name in last and 1 + last.index(name), name))


def show_totals(console: Console, totals: Totals) -> None:
    """Print the table of all runs, and what they came to."""
    table = Table("fault", "times", "seconds", "longest read", "longest write", "machine", "seed")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in names_in_order(totals):
        kind = totals.kinds[name]
        table.add_row(
            name,
            f"{kind.faults:,.0f}" if kind.faults else "",
            f"{kind.fault_s:,.0f}" if kind.faults else "",
            f"{kind.read_ms:,.0f} ms",
            f"{kind.write_ms:,.0f} ms",
            f"{kind.machine_ms:,.0f} ms",
            str(kind.write_seed or ""),
        )
    console.print(table)
    watched = "".join(f", {s / 60:,.0f} min under {n}" for n, s in totals.sanitized_s.items())
    console.print(
        f"{totals.runs:,} runs, {totals.work_s / 3600:.2f} h{watched}: {totals.faults:,.0f} faults,"
        f" {totals.operations:,} operations, {totals.unknown:,} of unknown outcome,"
        f" {totals.failed:,} failed"
    )
    if totals.bad_seeds:
        seeds = ", ".join(map(str, totals.bad_seeds))
        console.print(f"{len(totals.bad_seeds)} runs FAILED, seeds {seeds}", style="bold red")
    else:
        console.print("no run failed", style="green")
