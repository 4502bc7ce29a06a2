"""What the harness of faults knows of members: their clocks, and whether they make a whole."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGSTOP

import pytest

from tools.chaos.member import Member, MemberError
from tools.chaos.sanitizers import LIBRARIES, SanitizedPython, Sanitizer, joined, library
from tools.chaos.wall_clocks import WallClocks, compiler
from tools.chaos.wholeness import missing_of

WALL = "import time; print(time.time())"


def chain(*states: str, wanted: int = 3) -> dict[str, object]:
    targets = [{"target": number, "state": state} for number, state in enumerate(states, 1)]
    return {"id": 1, "wanted": wanted, "targets": targets}


def test_a_cluster_is_whole_when_every_target_of_every_chain_serves() -> None:
    whole = chain("serving", "serving", "serving")

    assert [] == missing_of({"problems": [], "chains": [whole]})
    assert ["there are no chains"] == missing_of({"problems": [], "chains": []})
    assert ["no"] == missing_of({"problems": ["no"], "chains": [whole]})
    assert ["chain 1 wants 3 targets, has target 1 serving, target 2 syncing"] == missing_of(
        {"problems": [], "chains": [chain("serving", "syncing")]}
    )


@pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
def test_a_wall_clock_jumps_for_one_process_only(tmp_path: Path) -> None:
    clocks = WallClocks(tmp_path)
    environment = {**os.environ, **clocks.environment("node-1")}

    def wall_s(given: dict[str, str] | None) -> float:
        command = [sys.executable, "-c", WALL]
        return float(subprocess.run(command, env=given, capture_output=True, check=True).stdout)

    assert abs(wall_s(environment) - wall_s(None)) < 600
    clocks.set("node-1", -86400.0)
    assert 85800 < wall_s(None) - wall_s(environment) < 87000


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs the libraries of gcc")
def test_a_wall_clock_can_be_read_by_what_is_loaded_before_it(tmp_path: Path) -> None:
    clocks = WallClocks(tmp_path)
    libraries = tuple(map(library, LIBRARIES[Sanitizer.ASAN]))
    python = SanitizedPython(Sanitizer.ASAN, sys.executable, (), libraries)
    given = joined(python.environment(tmp_path), clocks.environment("node-1"))
    clocks.set("node-1", 86400.0)

    ended = subprocess.run(
        [sys.executable, "-c", WALL], env={**os.environ, **given}, capture_output=True, check=True
    )

    assert 85800 < float(ended.stdout) - time.time() < 87000


def test_a_member_that_ends_by_itself_is_told(tmp_path: Path) -> None:
    member = Member("node-1", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path)
    member.start()
    while member.running:
        pass

    with pytest.raises(MemberError, match="node-1 ended by itself with code 3"):
        member.check()


def test_a_member_that_is_stopped_by_a_signal_is_cleaned_up(tmp_path: Path) -> None:
    member = Member("node-1", [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path)
    member.start()
    member.signal(SIGSTOP)

    member.clean_up()

    assert not member.running
    member.check()
