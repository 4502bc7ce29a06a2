"""Runs of the harness of faults add up; and what a sanitizer says is found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.chaos import patience
from tools.chaos.__main__ import parse_arguments, say_totals, seeds_of
from tools.chaos.attack import DoneFault
from tools.chaos.kinds import FaultKind
from tools.chaos.outcome import Outcome
from tools.chaos.patience import Deadline
from tools.chaos.sanitizers import (
    LIBRARIES,
    SanitizedPython,
    Sanitizer,
    joined,
    library,
    reports_in,
)
from tools.chaos.schedule import Fault
from tools.chaos.stalls import CALM, StallRow
from tools.chaos.totals import FILE, SEVERAL, add_line, line_of, names_in_order, read_totals
from tools.history.check import check

SECOND = 1_000_000
PAIR = "cut node + kill node"


def row(name: str, write_ms: float) -> StallRow:
    return StallRow(name, 1, 2, write_ms / 2, write_ms, 1.0, "a", "b")


def outcome(seed: int, *rows: StallRow, problems: tuple[str, ...] = ()) -> Outcome:
    faults = (
        DoneFault(Fault(FaultKind.KILL, "node-2", 1.0, 2.0), SECOND, 3 * SECOND),
        DoneFault(Fault(FaultKind.KILL, "node-1", 4.0, 2.0), 4 * SECOND, 5 * SECOND),
    )
    return Outcome(seed, 60.0, 60.0, 0, faults, check([]), rows, (), problems, "do it again")


def test_runs_add_up_and_the_longest_stall_stays(tmp_path: Path) -> None:
    path = tmp_path / "totals.jsonl"
    for seed, write_ms in ((1, 500.0), (2, 700.0), (3, 600.0)):
        rows = (row("kill node", write_ms), row(CALM, 1.0), row(PAIR, write_ms * 2))
        add_line(path, line_of(outcome(seed, *rows), "now", ""))

    totals = read_totals(path)

    assert (3, 180.0, 6) == (totals.runs, totals.work_s, totals.faults)
    killed, several = totals.kinds["kill node"], totals.kinds[SEVERAL]
    assert (6, 9.0, 700.0, 350.0, 2) == (
        killed.faults,
        killed.fault_s,
        killed.write_ms,
        killed.read_ms,
        killed.write_seed,
    )
    assert 1400.0 == several.write_ms
    assert ["kill node", SEVERAL, CALM] == names_in_order(totals)
    assert [] == totals.bad_seeds


def test_a_run_that_failed_is_never_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "totals.jsonl"
    add_line(path, line_of(outcome(7, problems=("node-1 ended",)), "now", ""))
    add_line(path, line_of(outcome(8), "now", ""))

    assert [7] == read_totals(path).bad_seeds


def test_times_of_a_sanitizers_build_count_as_runs_but_not_as_stalls(tmp_path: Path) -> None:
    path = tmp_path / "totals.jsonl"
    add_line(path, line_of(outcome(1, row("kill node", 9000.0)), "now", "tsan"))

    totals = read_totals(path)

    assert {"tsan": 60.0} == totals.sanitized_s
    assert (2, 0.0) == (totals.kinds["kill node"].faults, totals.kinds["kill node"].write_ms)


def test_runs_go_on_until_the_hours_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock_s = iter(range(0, 100_000, 1500))
    monkeypatch.setattr("tools.chaos.__main__.time.monotonic", lambda: float(next(clock_s)))

    hours = list(seeds_of(parse_arguments(["--hours", "1", "--seed", "5"])))

    assert [5, 6] == hours
    assert [5, 6, 7] == list(seeds_of(parse_arguments(["--runs", "3", "--seed", "5"])))


def test_totals_of_a_failed_run_are_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = parse_arguments(["--totals", "--dir", str(tmp_path)])
    add_line(tmp_path / FILE, line_of(outcome(8, row("kill node", 1.0)), "now", ""))

    assert 0 == say_totals(options)

    add_line(tmp_path / FILE, line_of(outcome(7, problems=("node-1 ended",)), "now", ""))
    assert 1 == say_totals(options)
    assert "seeds 7" in capsys.readouterr().out


def test_no_runs_are_no_totals(tmp_path: Path) -> None:
    assert 0 == read_totals(tmp_path / "nothing").runs


def test_deadlines_are_longer_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(patience, "slowness", lambda: 4.0)
    monkeypatch.setattr("tools.chaos.patience.time.monotonic", lambda: now_s)
    deadline = Deadline(10.0)

    now_s = 39.0
    assert not deadline.over

    now_s = 41.0
    assert deadline.over


def test_libraries_to_load_first_are_joined_in_order() -> None:
    assert {"A": "1", "LD_PRELOAD": "libasan.so clock.so"} == joined(
        {"LD_PRELOAD": "libasan.so"}, {"A": "1", "LD_PRELOAD": "clock.so"}, {}
    )


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs the libraries of gcc")
def test_what_a_sanitizer_reports_is_found(tmp_path: Path) -> None:
    home = tmp_path / "node-1"
    home.mkdir()
    libraries = tuple(map(library, LIBRARIES[Sanitizer.ASAN]))
    python = SanitizedPython(Sanitizer.ASAN, sys.executable, (), libraries)
    command = [python.python, "-c", "import ctypes; ctypes.string_at(0)"]
    assert [] == reports_in(tmp_path)

    environment = {**os.environ, **python.environment(home)}
    subprocess.run(command, env=environment, capture_output=True, check=False)

    (report,) = reports_in(tmp_path)
    assert "AddressSanitizer: SEGV" in report
