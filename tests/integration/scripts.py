"""Scripts in an interpreter of their own, and what can be taken from them before they begin."""

import subprocess
import sys

NOBODY = 65534
TIMEOUT_S = 120

DROP_RIGHTS = f"""
import os, kvstore
kvstore.connect_sync  # everything is imported while this process may still read it
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
"""
"""For tests run as root, which may do everything."""

FORBID_IO_URING = """
import ctypes, errno, struct
LOAD_NUMBER, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
FAIL, ALLOW = 0x00050000, 0x7fff0000
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
IO_URING_SETUP = 425

def forbid_io_uring(error):
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in (
        (LOAD_NUMBER, 0, 0, 0),
        (JUMP_EQUAL, 0, 1, IO_URING_SETUP),
        (RETURN, 0, 0, FAIL | error),
        (RETURN, 0, 0, ALLOW),
    ))
    memory = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    assert 0 == libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero)
    assert 0 == libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), program, zero, zero)
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script that shows every warning."""
    return subprocess.run(
        [sys.executable, "-W", "default", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def check(script: str, *arguments: str) -> str:
    """Run a script that must end well; returns what it printed."""
    ended = run(script, *arguments)
    assert 0 == ended.returncode, f"{ended.returncode}: {ended.stderr}"
    return ended.stdout
