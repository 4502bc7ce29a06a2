"""What the figures were measured on: without it a figure is a rumour."""

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path


def describe(directory: Path) -> dict[str, object]:
    """Return processor, memory, kernel, file system and time."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": first_match(r"model name\s*:\s*(.+)", "/proc/cpuinfo"),
        "processors": os.cpu_count(),
        "memory": first_match(r"MemTotal:\s*(.+)", "/proc/meminfo"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": file_system(directory),
        "huge_pages": first_match(r"\[(\w+)\]", "/sys/kernel/mm/transparent_hugepage/enabled"),
        "load_average": os.getloadavg()[0],
    }


def first_match(pattern: str, path: str) -> str | None:
    """Return the first group of the first match in a file, None where there is none."""
    try:
        found = re.search(pattern, Path(path).read_text(encoding="utf-8"))
    except OSError:
        return None
    return found[1] if found else None


def file_system(directory: Path) -> str | None:
    """Return the type of the mount that *directory* is on."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    mounts = [line.split()[1:3] for line in lines]
    path = str(directory.resolve())
    holding = [mount for mount in mounts if f"{path}/".startswith(mount[0].rstrip("/") + "/")]
    return max(holding, key=lambda mount: len(mount[0]))[1] if holding else None
