"""What the system knows of other processes: CPU time, resident memory, connections.

Guarantees: a process or thread that is gone counts for nothing.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
ESTABLISHED = "01"
KIB = 1 << 10


def cpu_s(pids: Iterable[int], proc: Path = PROC) -> float:
    """Return the CPU time of all living threads of processes; the scheduler counts nanoseconds."""
    nanoseconds = 0
    for pid in pids:
        for path in (proc / str(pid) / "task").glob("*/schedstat"):
            with suppress(OSError):
                nanoseconds += int(path.read_text(encoding="ascii").split()[0])
    return nanoseconds / 1e9


def resident_size(pid: int, proc: Path = PROC) -> int:
    """Return the resident bytes of a process, 0 where there is none."""
    with suppress(OSError):
        for line in (proc / str(pid) / "status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * KIB
    return 0


def connection_count(port: int, proc: Path = PROC) -> int:
    """Return how many connections to a port of this machine are established."""
    count = 0
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            lines = (proc / "net" / name).read_text(encoding="ascii").splitlines()[1:]
            fields = [line.split() for line in lines]
            count += sum(
                int(local.rpartition(":")[2], 16) == port and state == ESTABLISHED
                for _, local, _, state, *_ in fields
            )
    return count


def living(pid: int, proc: Path = PROC) -> bool:
    """Return whether a process exists and has not ended."""
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"
