"""The set-up: a virtual environment with the peers, Debian's programs, the compiled limit.

Guarantees: what is there already is used; what cannot be had is a reason, never an error.
Leaves to others: to build this store.
"""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

PACKAGES = {
    "lmdb": ("lmdb",),
    "rocksdict": ("rocksdict",),
    "diskcache": ("diskcache",),
    "redis": ("redis", "hiredis"),
}
"""The distributions of each peer of PyPI; their modules bear the same names."""
PROGRAMS = {"fio": ("fio", "fio"), "redis": ("redis-server", "redis-server")}
"""The program of each peer of Debian, and its package."""
INSTALL_TIMEOUT_S = 300

Say = Callable[[str], None]


class Environment:
    """Which contestants can run here, and by which interpreter."""

    def __init__(self, directory: Path, say: Say) -> None:
        """Install what is missing below *directory*; *say* hears of what takes long."""
        self._directory = directory
        self._say = say
        self._python = directory / "venv" / "bin" / "python"
        self._problems: dict[str, str] = {}
        self.library = directory / "copy.so"

    def install(self, peers: Sequence[str]) -> None:
        """Make the peers available, each on its own."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for peer in peers:
            problem = self._install_program(peer) or self._install_packages(peer)
            if peer == "memcpy":
                problem = self._compile()
            if problem:
                self._problems[peer] = f"not available: {problem}"

    def problem(self, peer: str) -> str | None:
        """Return why a peer cannot run, or None."""
        return self._problems.get(peer)

    def python(self, kind: str) -> Path:
        """Return the interpreter for a kind of contestant."""
        return self._python if kind in PACKAGES else Path(sys.executable)

    def _install_packages(self, peer: str) -> str | None:
        wanted = PACKAGES.get(peer, ())
        if not wanted or (self._python.exists() and self._imports(wanted)):
            return None
        self._say(f"installing {', '.join(wanted)}")
        if not self._python.exists():
            venv.create(self._directory / "venv", with_pip=True)
        pip = [str(self._python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        if not succeeds([*pip, *wanted]) or not self._imports(wanted):
            return f"pip install {' '.join(wanted)} fails"
        return None

    def _imports(self, modules: Sequence[str]) -> bool:
        return succeeds([str(self._python), "-c", f"import {', '.join(modules)}"])

    def _install_program(self, peer: str) -> str | None:
        if peer not in PROGRAMS or shutil.which(PROGRAMS[peer][0]):
            return None
        program, package = PROGRAMS[peer]
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            return f"install {package}"
        self._say(f"installing {package}")
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
        if not succeeds(install) and not (succeeds(["apt-get", "update"]) and succeeds(install)):
            return f"apt-get install {package} fails"
        return None if shutil.which(program) else f"{program} is not on the path"

    def _compile(self) -> str | None:
        source = Path(__file__).with_name("copy.c")
        compiler = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
        if compiler is None:
            return "install a C compiler"
        command = [compiler, "-std=c11", "-O2", "-fPIC", "-shared", "-o", str(self.library)]
        return None if succeeds([*command, str(source)]) else f"{compiler} {source.name} fails"


def succeeds(command: Sequence[str]) -> bool:
    """Run a program that nobody needs to read, and return whether it succeeded."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=INSTALL_TIMEOUT_S,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
