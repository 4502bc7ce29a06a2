"""Recovery from what a crash leaves of recorded system calls; `make crash` does it for longer."""

import shutil
from pathlib import Path

import pytest
from crash.crash_program import Crash, NoDriverError, build, cmake, run

pytestmark = pytest.mark.skipif(
    cmake() is None or not any(map(shutil.which, ("cc", "gcc", "clang"))),
    reason="no C compiler, or no cmake",
)


@pytest.fixture(scope="module")
def program() -> Path:
    return build()


@pytest.mark.parametrize(("driver", "durability"), [("threads", "sync"), ("io_uring", "disk")])
def test_recovery_keeps_what_was_promised(program: Path, driver: str, durability: str) -> None:
    crash = Crash(driver=driver, durability=durability, seconds=3.0, operations=120, in_memory=True)

    try:
        good, said = run(program, crash)
    except NoDriverError:
        pytest.skip("io_uring is forbidden")

    assert good, said


@pytest.mark.parametrize("plant", ["journal", "slabs", "directory"])
def test_a_flush_that_is_left_out_is_noticed(program: Path, plant: str) -> None:
    good, said = run(program, Crash(plant=plant, seconds=60.0, operations=60, in_memory=True))

    assert good, said
