"""A system clock that jumps: objects expire by it, and nothing else depends on it or is lost."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from integration.scripts import check

CLOCK = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

long clock_offset_s;

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);

    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += clock_offset_s;
    return result;
}
"""
"""Stands before the C library's: the wall clock is off by clock_offset_s, the others are right."""

USE = """
import ctypes, kvstore, os, sys
HOUR_S, YEAR_S = 3600, 365 * 86400

def set_clock(offset_s):
    ctypes.c_long.in_dll(ctypes.CDLL(None), "clock_offset_s").value = offset_s

def opened():
    return kvstore.connect_sync(sys.argv[1])
"""


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children have a clock that they can set for themselves."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("there is no C compiler")
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(CLOCK, encoding="ascii")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))


@pytest.mark.usefixtures("clock")
def test_an_object_expires_by_the_clock(url: str) -> None:
    script = """
with opened() as store:
    store.batch_set(["hour", "other"], [b"1", bytes(5000)], ttl_s=HOUR_S)
    store.set("for ever", b"2")
    assert all(store.batch_exists(["hour", "other", "for ever"]))

    set_clock(HOUR_S + 1)

    assert [None, None, b"2"] == store.batch_get(["hour", "other", "for ever"])
    assert store.stat("hour") is None
    assert not store.delete("other")
    assert store.match_prefix(["for ever", "hour"]) == 1
    assert store.set("hour", b"3", if_absent=True) == kvstore.SetStatus.OK
    assert {b"for ever", b"hour"} == {entry.key for entry in store.list()}
with opened() as store:
    assert [b"3", None, b"2"] == store.batch_get(["hour", "other", "for ever"])
"""

    check(USE + script, url)


@pytest.mark.usefixtures("clock")
def test_a_clock_set_back_in_an_open_store_loses_nothing(url: str) -> None:
    script = """
keys = ["plain", "hour", "pinned"]
with opened() as store:
    store.batch_set(keys, [b"1", b"2", b"3"])
    store.set("hour", b"2", ttl_s=HOUR_S)
    store.pin(["pinned"])

    set_clock(-10 * YEAR_S)

    assert [b"1", b"2", b"3"] == store.batch_get(keys)
    store.set("plain", b"newer")
    assert store.set("short", b"4", ttl_s=HOUR_S) == kvstore.SetStatus.OK
    store.flush()
    store.checkpoint()
    store.compact()
    assert [b"newer", b"2", b"3", b"4"] == store.batch_get([*keys, "short"])
with opened() as store:
    assert [b"newer", b"2", b"3", b"4"] == store.batch_get([*keys, "short"])
    assert store.verify().bad == ()
"""

    check(USE + script, url)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("ending", ["store.close()", "os.kill(os.getpid(), 9)"])
def test_a_clock_set_back_between_two_openings_loses_nothing(url: str, ending: str) -> None:
    first = f"""
if os.fork() == 0:
    store = opened()
    for i in range(50):
        store.set("k", b"%d" % i)
        store.set(b"%d" % i, b"%d" % i * 1000)
    {ending}
    os._exit(0)
os.wait()
"""
    second = """
set_clock(-10 * YEAR_S)
with opened() as store:
    assert store.get("k") == b"49"
    assert [b"%d" % i * 1000 for i in range(50)] == store.batch_get([b"%d" % i for i in range(50)])
    store.set("k", b"newest")
set_clock(-20 * YEAR_S)
with opened() as store:
    assert store.get("k") == b"newest"
"""

    check(USE + first, url)
    check(USE + second, url)
