"""Wall clocks that can be set for one process: by a library loaded before libc, see clock.c."""

import shutil
import struct
import subprocess
from pathlib import Path

VARIABLE = "KVSTORE_CHAOS_CLOCK"
LIBRARY = "clock.so"
SOURCE = Path(__file__).with_name("clock.c")
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-shared")


class WallClockError(Exception):
    """The library does not compile."""


def compiler() -> str | None:
    """Return a C compiler of this machine."""
    return next(filter(shutil.which, ("cc", "gcc", "clang")), None)


class WallClocks:
    """The clocks of all members; each is a file with what is added to the time."""

    def __init__(self, directory: Path) -> None:
        """Compile the library."""
        self._directory = directory
        command = [compiler() or "cc", *FLAGS, "-o", str(directory / LIBRARY), str(SOURCE), "-ldl"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise WallClockError(f"clocks that can be set need a C compiler: {error}") from error

    def environment(self, name: str) -> dict[str, str]:
        """Return what gives a process a clock of its own, which is right at first."""
        self.set(name, 0.0)
        return {
            VARIABLE: str(self._directory / f"{name}.clock"),
            "LD_PRELOAD": str(self._directory / LIBRARY),
        }

    def set(self, name: str, ahead_s: float) -> None:
        """Make a clock jump; *ahead_s* may be negative."""
        path = self._directory / f"{name}.clock"
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:  # in place: the page is mapped
            file.write(struct.pack("<q", int(ahead_s * 1e9)))
