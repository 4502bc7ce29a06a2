"""A place that vanishes with the harness: namespaces of its own for processes, mounts and links.

The harness starts itself once more as the first process of new namespaces. When that process ends,
however it ends, the kernel kills what it started, and with the last of them go mounts and links:
nothing can be left behind. Needs Linux and either root or unprivileged user namespaces.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

INSIDE = "KVSTORE_CHAOS_SANDBOX"
"""In the environment of the harness within."""
UNSHARE = (
    *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *("--propagation", "private"),
)
ROOTLESS = ("--user", "--map-root-user")
PROBE_TIMEOUT_S = 10.0


def inside() -> bool:
    """Whether this process is in a sandbox of its own."""
    return INSIDE in os.environ


def way_in() -> tuple[str, ...] | None:
    """Return the command that makes a sandbox; None where the machine allows none."""
    for command in (UNSHARE, (*UNSHARE, *ROOTLESS)):
        probe = [*command, "ip", "link", "add", "probe", "type", "bridge"]
        try:
            found = subprocess.run(probe, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
        except (FileNotFoundError, subprocess.TimeoutExpired):
            return None
        if found.returncode == 0:
            return command
    return None


def run_inside(module: str, arguments: Sequence[str]) -> int | None:
    """Run *module* again in a sandbox; its exit code, or None where there can be no sandbox.

    SIGINT and SIGTERM are passed on; when this process is killed, so is everything in the sandbox.
    """
    command = way_in()
    if command is None:
        return None
    again = ["setpriv", "--pdeathsig", "KILL", *command, sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(again, env={**os.environ, INSIDE: "1"}, process_group=0)

    def pass_on(number: int, frame: FrameType | None) -> None:
        # unshare itself ignores it; only the group has the process within, too.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    return process.wait()


def prepare() -> None:
    """Make room for named network namespaces: the folder of the machine stays as it is."""
    folder = Path("/run/netns")
    if not folder.is_dir():
        subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
        folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
