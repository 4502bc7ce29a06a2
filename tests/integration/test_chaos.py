"""The harness of faults on real processes: a short run of nodes alone; what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def write(tmp_path: Path, faults: Sequence[Fault], duration_s: float) -> Path:
    path = tmp_path / "given.toml"
    write_schedule(path, Schedule(1, duration_s, ALONE, WORK, tuple(faults)))
    return path


def command(tmp_path: Path, schedule: Path) -> list[str]:
    arguments = ["--loopback", "--schedule", str(schedule), "--dir", str(tmp_path / "runs")]
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


def test_nodes_alone_lose_nothing_when_they_are_killed(tmp_path: Path) -> None:
    schedule = write(tmp_path, FAULTS, 8.0)

    ended = subprocess.run(
        command(tmp_path, schedule), cwd=ROOT, capture_output=True, timeout=TIMEOUT_S, check=False
    )

    assert 0 == ended.returncode, ended.stdout.decode() + ended.stderr.decode()
    report = report_in(tmp_path)
    assert report["good"]
    assert len(FAULTS) == len(report["faults"])
    assert report["operations"] > 200
    assert [] == processes_about(tmp_path)


def test_what_is_interrupted_leaves_no_process(tmp_path: Path) -> None:
    schedule = write(tmp_path, (Fault(FaultKind.PAUSE, "node-1", 0.5, 100.0),), 120.0)
    process = subprocess.Popen(
        command(tmp_path, schedule), cwd=ROOT, stdout=subprocess.PIPE, env=unbuffered()
    )
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
