"""Builds and runs the program `crash`: recovery from what a crash leaves of system calls."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MEMORY = Path("/dev/shm")
NO_DRIVER = 77
BUILD_S_MAX = 600
MARGIN_S = 900


class NoDriverError(Exception):
    """The system forbids the driver."""


@dataclass(frozen=True, slots=True)
class Crash:
    """One run: a load on one driver, and its crashes."""

    driver: str = "threads"
    durability: str = "sync"
    seconds: float = 5.0
    seed: int = 1
    operations: int = 400
    in_memory: bool = False
    """Lay the recorded store in memory, too: its calls are the same, and soon done."""
    plant: str = ""
    """Whose flushes are left out of the record; empty: nobody's."""


def cmake() -> str | None:
    """Return the command cmake: that of this Python's environment, or the machine's."""
    own = Path(sys.executable).parent / "cmake"
    return str(own) if own.is_file() else shutil.which("cmake")


def build() -> Path:
    """Build the program in build/release; return where it is."""
    command = cmake() or "cmake"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # ninja, too
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "release.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # others may be building there, too
        for step in (
            ["--preset", "release"],
            ["--build", "--preset", "release", "--target", "crash"],
        ):
            done = subprocess.run(
                [command, *step],
                cwd=ROOT,
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
                timeout=BUILD_S_MAX,
                check=False,
            )
            if done.returncode != 0:
                raise RuntimeError(f"{done.stdout}{done.stderr}")
    return ROOT / "build" / "release" / "crash"


def run(program: Path, crash: Crash) -> tuple[bool, str]:
    """Return whether all was as it must be, and what was said. Raises NoDriverError.

    The image of a violation is kept, and its place told.
    """
    memory = MEMORY if MEMORY.is_dir() else None
    store = Path(tempfile.mkdtemp(prefix="crash-store-", dir=memory if crash.in_memory else None))
    images = Path(tempfile.mkdtemp(prefix="crash-", dir=memory))
    command = [str(program), "--store", str(store / "store"), "--images", str(images / "image")]
    command += ["--driver", crash.driver, "--durability", crash.durability]
    command += ["--seconds", str(crash.seconds), "--seed", str(crash.seed)]
    command += ["--operations", str(crash.operations)]
    command += ["--plant", crash.plant] if crash.plant else []
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=crash.seconds + MARGIN_S,
        check=False,
    )
    shutil.rmtree(store)
    if done.returncode == 0 or crash.plant or done.returncode == NO_DRIVER:
        shutil.rmtree(images)
    if done.returncode == NO_DRIVER:
        raise NoDriverError(done.stdout)
    return done.returncode == 0, done.stdout
