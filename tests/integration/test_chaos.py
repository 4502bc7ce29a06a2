"""Faults on real processes, in short: of nodes alone, of a cluster; and what a run leaves."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tools.chaos.kinds import FaultKind
from tools.chaos.schedule import ClusterShape, Fault, Schedule, Work, write_schedule

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300.0
ALONE = ClusterShape(nodes=2, replicas=1, mgmtds=0)
WORK = Work(keys=40, size_max=8192, pause_ms=30.0)
FAULTS = (
    Fault(FaultKind.KILL, "node-1", 1.0, 0.5),
    Fault(FaultKind.PAUSE, "node-2", 2.0, 0.5),
    Fault(FaultKind.KILL, "clients", 2.2, 0.5),
    Fault(FaultKind.STOP, "node-2", 3.5, 0.5),
    Fault(FaultKind.OUTAGE, "cluster", 5.0, 0.5),
)
CLUSTER = ClusterShape(nodes=3, replicas=3, mgmtds=1)
CLUSTER_FAULTS = (
    Fault(FaultKind.KILL, "node-1", 1.0, 1.0),
    Fault(FaultKind.KILL, "mgmtd-1", 4.0, 0.2),
    Fault(FaultKind.PAUSE, "node-2", 7.0, 2.5),
    Fault(FaultKind.KILL, "node-3", 12.0, 1.0),
    Fault(FaultKind.KILL, "mgmtd-1", 12.2, 0.2),
    Fault(FaultKind.STOP, "node-2", 16.0, 0.5),
    Fault(FaultKind.OUTAGE, "cluster", 19.0, 0.5),
)


def write(
    tmp_path: Path, shape: ClusterShape, faults: Sequence[Fault], duration_s: float
) -> list[str]:
    """Write a schedule; returns the command that does it."""
    path = tmp_path / "given.toml"
    write_schedule(path, Schedule(1, duration_s, shape, WORK, tuple(faults)))
    arguments = ["--loopback", "--schedule", str(path), "--dir", str(tmp_path / "runs")]
    return [sys.executable, "-m", "tools.chaos", *arguments]


def processes_about(folder: Path) -> list[str]:
    """Return the commands of processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def report_in(tmp_path: Path) -> dict[str, Any]:
    (path,) = (tmp_path / "runs").glob("*/report.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def totals_in(tmp_path: Path) -> dict[str, Any]:
    (line,) = (tmp_path / "runs" / "totals.jsonl").read_text().splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize(
    ("shape", "faults", "duration_s"),
    [
        pytest.param(ALONE, FAULTS, 8.0, id="nodes alone"),
        pytest.param(CLUSTER, CLUSTER_FAULTS, 22.0, id="a cluster"),
    ],
)
def test_nothing_is_lost_or_out_of_order_when_processes_are_killed(
    tmp_path: Path, shape: ClusterShape, faults: Sequence[Fault], duration_s: float
) -> None:
    command = write(tmp_path, shape, faults, duration_s)

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=TIMEOUT_S, check=False)

    assert 0 == ended.returncode, ended.stdout.decode() + ended.stderr.decode()
    report = report_in(tmp_path)
    assert report["good"]
    assert len(faults) == len(report["faults"])
    assert report["operations"] > 50
    assert [] == processes_about(tmp_path)


def test_a_cluster_of_the_operators_is_attacked_by_their_commands(tmp_path: Path) -> None:
    home = tmp_path / "theirs"
    up = [sys.executable, "-m", "kvstore", "up", "--dir", str(home), "--nodes", "3"]
    subprocess.run(up, cwd=ROOT, capture_output=True, check=True)
    try:
        found = json.loads((home / "cluster.json").read_text())
        shape = ClusterShape(url=found["url"])
        kill = f"kill -9 {found['nodes'][0]['pid']}"
        fault = Fault(FaultKind.COMMAND, "node 1", 1.0, 2.0, begin=kill, end=" ".join(up))
        command = write(tmp_path, shape, (fault,), 5.0)

        ended = subprocess.run(
            command, cwd=ROOT, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    finally:
        subprocess.run([*up[:3], "down", *up[4:6]], cwd=ROOT, capture_output=True, check=True)

    assert 0 == ended.returncode, ended.stdout.decode() + ended.stderr.decode()
    assert report_in(tmp_path)["good"]
    assert ["command node 1"] == list(totals_in(tmp_path)["faults"])


def test_what_is_interrupted_leaves_no_process(tmp_path: Path) -> None:
    command = write(tmp_path, ALONE, (Fault(FaultKind.PAUSE, "node-1", 0.5, 100.0),), 120.0)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=unbuffered())
    assert process.stdout is not None
    for line in process.stdout:
        if b"pause node-1" in line:
            break

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=TIMEOUT_S)

    assert 130 == process.returncode
    assert [] == processes_about(tmp_path)


def unbuffered() -> dict[str, str]:
    """Return an environment in which lines come at once."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
