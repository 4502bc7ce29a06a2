"""Ends with batches in flight: of the interpreter, of the store, of the await. Nothing is torn."""

import asyncio
import gc
import threading

import pytest
from integration.scripts import run

import kvstore
from kvstore import SetStatus

MIB = 1 << 20
COUNT = 24
KEYS = [b"%d" % i for i in range(COUNT)]

FLY = f"""
import asyncio, os, sys, threading, kvstore
async def fly():
    store = await kvstore.connect(sys.argv[1])
    await store.set("k", b"value")
    global batches
    batches = [asyncio.ensure_future(store.batch_set([b"%d" % i], [b"%c" % (65 + i) * {MIB}]))
               for i in range({COUNT})]
    await asyncio.sleep(0)
    return store
"""


def check_whole(url: str) -> None:
    """What was acknowledged is there, and what was in flight is there as a whole or not at all."""
    with kvstore.connect_sync(url) as store:
        assert b"value" == store.get("k")
        for i, value in enumerate(store.batch_get(KEYS)):
            assert value in (None, b"%c" % (65 + i) * MIB)
        assert () == store.verify().bad


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("sys.exit(3)", 3),
        ("raise RuntimeError('mine')", 1),
        ("raise KeyboardInterrupt", -2),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), 15)", -15),
        ("os.abort()", -6),
    ],
)
def test_the_interpreter_ends_within_a_coroutine(url: str, ending: str, code: int) -> None:
    script = f"""
async def main():
    store = await fly()
    {ending}
asyncio.run(main())
"""

    ended = run(FLY + script, url)

    assert code == ended.returncode, ended.stderr
    check_whole(url)


def test_the_interpreter_ends_while_a_thread_runs_a_loop(url: str) -> None:
    script = """
def serve():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(fly())
    started.set()
    loop.run_forever()
started = threading.Event()
threading.Thread(target=serve, daemon=True).start()
started.wait()
"""

    ended = run(FLY + script, url)

    assert 0 == ended.returncode, ended.stderr
    check_whole(url)


@pytest.mark.parametrize("daemon", [True, False])
def test_the_interpreter_ends_while_threads_are_in_a_batch(url: str, daemon: bool) -> None:
    script = f"""
import sys, threading, kvstore
store = kvstore.connect_sync(sys.argv[1])
store.set("k", b"value")
started = threading.Semaphore(0)
def use(i):
    for turn in range(20):
        store.batch_set([b"%d" % i], [b"%c" % (65 + i) * {MIB}])
        started.release()
for i in range(4):
    threading.Thread(target=use, args=(i,), daemon={daemon}).start()
for i in range(4):
    started.acquire()
"""

    ended = run(script, url)

    assert 0 == ended.returncode, ended.stderr
    assert "Traceback" not in ended.stderr or daemon
    check_whole(url)


async def in_flight(store: kvstore.AsyncStore) -> list[asyncio.Task[list[SetStatus]]]:
    """Set k, and have a batch for each key in flight."""
    await store.set("k", b"value")
    batches = [
        asyncio.create_task(store.batch_set([key], [b"%c" % (65 + i) * MIB]))
        for i, key in enumerate(KEYS)
    ]
    await asyncio.sleep(0)
    return batches


async def test_another_thread_closes_with_batches_in_flight(url: str) -> None:
    store = await kvstore.connect(url)
    batches = await in_flight(store)

    closing = threading.Thread(target=lambda: asyncio.run(store.close()))
    closing.start()
    results = await asyncio.gather(*batches, return_exceptions=True)
    await asyncio.to_thread(closing.join)  # closing may need this loop

    assert [[SetStatus.OK]] * COUNT == results
    with pytest.raises(kvstore.StoreClosedError):
        await store.get("k")
    check_whole(url)


async def test_a_store_is_forgotten_with_batches_in_flight(url: str) -> None:
    async def forget() -> list[asyncio.Task[list[SetStatus]]]:
        return await in_flight(await kvstore.connect(url))

    async def land(batches: list[asyncio.Task[list[SetStatus]]]) -> list[list[SetStatus]]:
        results = await asyncio.gather(*batches)
        gc.collect()
        return results

    batches = await forget()
    with pytest.warns(ResourceWarning, match="unclosed store: <kvstore.AsyncStore"):
        results = await land(batches)

    assert [[SetStatus.OK]] * COUNT == results
    check_whole(url)


# Cancellation.


@pytest.mark.parametrize("driver", ["auto", "threads"])
async def test_a_cancelled_get_never_touches_its_buffers_again(url: str, driver: str) -> None:
    url = f"{url}&driver={driver}"
    async with kvstore.connect(url) as store:
        await store.batch_set(KEYS, [bytes([i]) * MIB for i in range(COUNT)])

    buffers = [bytearray(MIB) for _ in KEYS]
    canary = b"canary" * (MIB // 6)
    async with kvstore.connect(url) as store:  # nothing is in memory, so the device reads
        for turns, (key, buffer) in enumerate(zip(KEYS, buffers, strict=True)):
            get = asyncio.create_task(store.batch_get_into([key, *KEYS[:4]], [buffer] * 5))
            for _ in range(turns % 6):
                await asyncio.sleep(0)
            get.cancel()
            await asyncio.wait([get])
            buffer[: len(canary)] = canary
        await store.flush()

    assert all(buffer[: len(canary)] == canary for buffer in buffers)


async def test_a_cancelled_set_stores_what_it_was_given_or_nothing(url: str) -> None:
    async with kvstore.connect(url) as store:
        for i, key in enumerate(KEYS):
            value = bytearray([i]) * MIB
            batch = asyncio.create_task(store.batch_set([key, b"common"], [value, value]))
            for _ in range(i % 6):
                await asyncio.sleep(0)
            batch.cancel()
            await asyncio.wait([batch])
            value[:] = b"canary" + bytes(MIB - 6)

    with kvstore.connect_sync(url) as again:
        for i, found in enumerate(again.batch_get(KEYS)):
            assert found in (None, bytes([i]) * MIB)
        common = again.get("common")
        assert common is None or common == common[:1] * MIB
