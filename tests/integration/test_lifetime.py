"""How a store ends: closed, forgotten, forked, or with the interpreter."""

import gc
import subprocess
import sys
import threading

import pytest

import kvstore

MIB = 1 << 20


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in an interpreter of its own, that shows every warning."""
    return subprocess.run(
        [sys.executable, "-W", "default", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_is_set_survives_a_close(url: str) -> None:
    for i in range(5):
        with kvstore.connect_sync(url) as store:
            assert [b"%d" % j for j in range(i)] == store.batch_get([b"k%d" % j for j in range(i)])
            store.set(b"k%d" % i, b"%d" % i)


def test_close_is_idempotent_and_final(url: str) -> None:
    store = kvstore.connect_sync(url)
    region = store.register(bytearray(4096))

    store.close()
    store.close()

    for use in (lambda: store.get("k"), lambda: store.batch_get([]), store.stats, store.flush):
        with pytest.raises(kvstore.StoreClosedError, match="closed"):
            use()
    with pytest.raises(kvstore.StoreClosedError):
        list(store.list())
    region.close()


def test_close_waits_for_other_threads(url: str) -> None:
    store, started = kvstore.connect_sync(url), threading.Event()
    ended: list[Exception] = []

    def use() -> None:
        try:
            while True:
                store.batch_set(["a", "b"], [bytes(MIB), bytes(MIB)])
                started.set()
        except kvstore.StoreClosedError as error:
            ended.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    store.close()
    for thread in threads:
        thread.join()

    assert 4 == len(ended)


def test_a_forgotten_store_warns_and_closes(url: str) -> None:
    def forget() -> None:
        kvstore.connect_sync(url).set("k", b"value")
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed store: <kvstore.Store /"):
        forget()

    with kvstore.connect_sync(url) as again:
        assert b"value" == again.get("k")


def test_interpreter_exit_closes_a_forgotten_store(url: str) -> None:
    script = """
import sys, kvstore
store = kvstore.connect_sync(sys.argv[1])
store.set("k", b"value")
"""

    ended = run(script, url)

    assert 0 == ended.returncode, ended.stderr
    assert "ResourceWarning: unclosed store" in ended.stderr
    with kvstore.connect_sync(url) as again:
        assert b"value" == again.get("k")


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)", "loop.close()"])
def test_interpreter_exit_with_batches_in_flight(url: str, ending: str) -> None:
    script = f"""
import asyncio, sys, kvstore
async def start():
    store = await kvstore.connect(sys.argv[1])
    await store.set("k", b"value")
    for i in range(20):
        tasks.append(asyncio.ensure_future(store.batch_set([b"a", b"b"], [bytes({MIB})] * 2)))
    await asyncio.sleep(0)
tasks = []
loop = asyncio.new_event_loop()
loop.run_until_complete(start())
{ending}
"""

    ended = run(script, url)

    assert 0 == ended.returncode, ended.stderr
    assert "Traceback" not in ended.stderr
    with kvstore.connect_sync(url) as again:
        assert b"value" == again.get("k")
        assert again.get("a") in (None, bytes(MIB))


def test_a_daemon_thread_in_a_call_does_not_crash_the_exit(url: str) -> None:
    script = """
import sys, threading, kvstore
store = kvstore.connect_sync(sys.argv[1])
started = threading.Event()
def use():
    while True:
        store.batch_set([b"a", b"b"], [bytes(1 << 20)] * 2)
        started.set()
threading.Thread(target=use, daemon=True).start()
started.wait()
"""

    ended = run(script, url)

    assert 0 == ended.returncode, ended.stderr
    with kvstore.connect_sync(url) as again:
        assert bytes(MIB) == again.get("a")


def test_a_forked_child_is_refused_and_the_parent_goes_on(url: str) -> None:
    script = """
import os, sys, kvstore
store = kvstore.connect_sync(sys.argv[1])
region = store.register(bytearray(4096))
store.set("k", b"value")
child = os.fork()
if child == 0:
    try:
        store.get("k")
    except kvstore.ForkedError as error:
        print(error, flush=True)
    store.close()
    region.close()
    try:
        kvstore.connect_sync(sys.argv[1])
    except kvstore.StoreLockedError:
        print("locked by the parent", flush=True)
    with kvstore.connect_sync(sys.argv[1] + "-child") as own:
        own.set("k", b"own")
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert store.get("k") == b"value"
store.set("k", b"after")
store.close()
"""
    url = url.split("?", maxsplit=1)[0]

    ended = run(script, url)

    assert 0 == ended.returncode, ended.stderr
    assert "was opened in process" in ended.stdout
    assert "open the store again in the child" in ended.stdout
    assert "locked by the parent" in ended.stdout
    with kvstore.connect_sync(url) as again:
        assert b"after" == again.get("k")


def test_a_fork_amid_batches_in_flight(url: str) -> None:
    script = f"""
import asyncio, os, sys, kvstore
async def main():
    store = await kvstore.connect(sys.argv[1])
    keys = [b"%d" % i for i in range(32)]
    batch = asyncio.ensure_future(store.batch_set(keys, [bytes({MIB})] * 32))
    await asyncio.sleep(0)
    child = os.fork()
    if child == 0:
        try:
            await store.set("k", b"child")
        except kvstore.ForkedError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert set(await batch) == {{kvstore.SetStatus.OK}}
    assert [bytes({MIB})] * 32 == await store.batch_get(keys)
    await store.close()
asyncio.run(main())
"""

    ended = run(script, url)

    assert 0 == ended.returncode, ended.stderr


def test_a_killed_process_leaves_what_was_acknowledged(url: str) -> None:
    script = """
import os, signal, sys, kvstore
store = kvstore.connect_sync(sys.argv[1])
for i in range(100):
    store.set(b"%d" % i, b"%d" % i * 1000)
    print(i, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

    ended = run(script, url)

    assert -9 == ended.returncode
    acknowledged = [b"%d" % int(line) for line in ended.stdout.split()]
    assert 100 == len(acknowledged)
    with kvstore.connect_sync(url) as again:
        assert [key * 1000 for key in acknowledged] == again.batch_get(acknowledged)
