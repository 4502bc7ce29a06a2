"""Builds of the C core that watch themselves, for the nodes and the clients of a run.

    build/sanitize/asan/core/      objects, built anew where a source changed
    build/sanitize/asan/venv/      a Python that imports this build of kvstore, and no other

The interpreter is the usual one: the sanitizer's library is loaded before it, and what it says of
the interpreter itself is left out by the files beside this one, `asan.supp` and `tsan.supp`.
Whatever a sanitizer reports is in a file REPORT of the process's folder, and fails the run.
"""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "build" / "sanitize"
REPORT = "sanitizer"
LINES_SHOWN = 40
BASE_FLAGS = "-O1 -fno-omit-frame-pointer"
BUILD_TIMEOUT_S = 1200.0


class Sanitizer(StrEnum):
    """What is watched: memory and undefined behaviour, or threads."""

    ASAN = "asan"
    TSAN = "tsan"


FLAGS = {
    Sanitizer.ASAN: "-fsanitize=address,undefined -fno-sanitize-recover=all",
    Sanitizer.TSAN: "-fsanitize=thread",
}
LIBRARIES = {
    Sanitizer.ASAN: ("libasan.so", "libubsan.so"),
    Sanitizer.TSAN: ("libtsan.so",),
}
VARIABLES = {
    Sanitizer.ASAN: ("ASAN_OPTIONS", "UBSAN_OPTIONS"),
    Sanitizer.TSAN: ("TSAN_OPTIONS",),
}
OPTIONS = {
    # The interpreter gives back little at its end; the tests in C look for leaks of the core.
    Sanitizer.ASAN: "detect_leaks=0:abort_on_error=0",
    # A race is worth the rest of the run; the second lock of a cycle shows where the cycle is.
    Sanitizer.TSAN: "halt_on_error=0:second_deadlock_stack=1:history_size=4",
}


class SanitizerError(Exception):
    """The build failed, or the machine has no such sanitizer."""


@dataclass(frozen=True, slots=True)
class SanitizedPython:
    """How a process of such a build is started."""

    sanitizer: Sanitizer
    python: str
    prefix: tuple[str, ...]
    """What starts a command, in place of itself."""
    libraries: tuple[str, ...]

    def environment(self, home: Path) -> dict[str, str]:
        """Return what makes a process load the sanitizer, and write its reports below *home*."""
        supp = Path(__file__).with_name(f"{self.sanitizer}.supp")
        options = f"{OPTIONS[self.sanitizer]}:log_path={home / REPORT}:suppressions={supp}"
        given = dict.fromkeys(VARIABLES[self.sanitizer], options)
        return {**given, "LD_PRELOAD": " ".join(self.libraries)}


def build(sanitizer: Sanitizer) -> SanitizedPython:
    """Build the core as it is now; raises SanitizerError."""
    folder = DIRECTORY / sanitizer
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
    site = folder / "venv" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    # What the core does not need of its own: other packages, and the harness.
    others = f"{sysconfig.get_path('purelib')}\n{ROOT}\n"
    (site / "others.pth").write_text(others, encoding="utf-8")
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--no-build-isolation", "--no-deps", "--no-index", "--upgrade", "--target", str(site)),
        f"--config-settings=build-dir={folder / 'core'}",
        "--config-settings=cmake.build-type=Debug",
        f"--config-settings=cmake.define.CMAKE_C_FLAGS={BASE_FLAGS} {FLAGS[sanitizer]}",
        str(ROOT),
    )
    libraries = tuple(library(name) for name in LIBRARIES[sanitizer])
    # Where memory is at unlike places in each process, the watcher of threads has no room.
    prefix = ("setarch", "--addr-no-randomize") if sanitizer is Sanitizer.TSAN else ()
    return SanitizedPython(sanitizer, str(python), prefix, libraries)


def library(name: str) -> str:
    """Return the path of a library of the compiler."""
    compiler = os.environ.get("CC", "gcc")
    path = run(compiler, f"-print-file-name={name}").strip()
    if not Path(path).is_absolute():
        raise SanitizerError(f"{compiler} has no {name}")
    return str(Path(path).resolve())


def run(*command: str) -> str:
    """Run a command; returns its output. Raises SanitizerError."""
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SanitizerError(f"{command[0]}: {error}") from error
    if found.returncode != 0:
        raise SanitizerError(f"{' '.join(command)}: {found.stdout}{found.stderr}")
    return found.stdout


def joined(*environments: Mapping[str, str]) -> dict[str, str]:
    """Return several environments as one: what one of them has to be loaded first comes first."""
    result: dict[str, str] = {}
    for each in environments:
        both = " ".join(filter(None, (result.get("LD_PRELOAD"), each.get("LD_PRELOAD"))))
        result |= each
        if both:
            result["LD_PRELOAD"] = both
    return result


def reports_in(directory: Path) -> list[str]:
    """Return what sanitizers reported in a run's directory, each in short."""
    found = []
    for path in sorted(directory.rglob(f"{REPORT}.*")):
        lines = path.read_text(errors="replace").splitlines()
        found.append("\n".join([f"{path}:", *lines[:LINES_SHOWN]]))
    return found
