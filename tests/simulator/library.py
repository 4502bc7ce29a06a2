"""The C half of the simulator, as Python calls it."""

import fcntl
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import cffi  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent.parent
BUILT = ROOT / "build" / "release" / "libsimulator.so"

Foreign = Any
"""What cffi makes: the one place of the simulator where types end."""


@cache
def interface() -> cffi.FFI:
    """Return the declarations."""
    ffi = cffi.FFI()
    ffi.cdef((ROOT / "native" / "kvcore.cdef.h").read_text(encoding="utf-8"))
    ffi.cdef((ROOT / "tests" / "simulator" / "simulator.cdef.h").read_text(encoding="utf-8"))
    return ffi


@cache
def library() -> Foreign:
    """Return the library; SIMULATOR names another one than the build's, as of a mutant."""
    return interface().dlopen(os.environ.get("SIMULATOR", str(BUILT)))


def build() -> None:
    """Build it, or what has changed of it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "release.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # others may be building it, too
        for command in (
            ["cmake", "--preset", "release"],
            ["cmake", "--build", "--preset", "release", "--target", "simulator"],
        ):
            subprocess.run(
                command, cwd=ROOT, env={**os.environ, "PATH": path}, check=True, stdout=DEVNULL
            )
