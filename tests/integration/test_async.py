"""Asyncio: many batches in flight, cancellation, and any kind of event loop."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

import kvstore
from kvstore import SetStatus

MIB = 1 << 20


async def test_every_method_answers_like_the_blocking_one(
    any_async_store: kvstore.AsyncStore,
) -> None:
    store = any_async_store

    assert [SetStatus.OK] * 2 == await store.batch_set(["a", "b"], [b"1", b"22"])
    assert SetStatus.OK is await store.set("c", b"333", ttl_s=60)
    assert SetStatus.EXISTS is await store.set("c", b"", if_absent=True)
    assert [b"1", None, b"22"] == await store.batch_get(["a", "x", "b"])
    assert b"333" == await store.get("c")
    assert await store.get("x") is None
    buffer = bytearray(3)
    assert [3, -1] == await store.batch_get_into(["c", "x"], [buffer, bytearray(1)])
    assert 1 == await store.get_into("a", buffer)
    assert b"133" == buffer
    assert [True, False] == await store.batch_exists(["a", "x"])
    assert await store.exists("a")
    assert 2 == await store.match_prefix(["a", "b", "x"])
    assert [True, False] == await store.pin(["a", "x"])
    stat = await store.stat("a")
    assert stat is not None
    assert stat.pinned
    assert [None, stat] == await store.batch_stat(["x", "a"])
    assert [True] == await store.unpin(["a"])
    assert {b"a", b"b", b"c"} == {entry.key async for entry in store.list()}
    assert [True, False] == await store.batch_delete(["a", "x"])
    assert await store.delete("b")
    assert 1 == (await store.verify()).objects
    await store.flush()
    await store.checkpoint()
    await store.compact()
    assert 0 < sum(row.live_size for row in await store.slabs())
    assert 1 == (await store.stats()).objects
    with store.register(bytearray(4096)) as region:
        assert 3 == await store.get_into("c", region[0:10])


async def test_connect_is_awaitable(any_url: str) -> None:
    store = await kvstore.connect(any_url)
    await store.set("k", b"value")
    await store.close()
    await store.close()

    async with kvstore.connect(any_url) as again:
        assert b"value" == await again.get("k")
    with pytest.raises(kvstore.StoreClosedError):
        await again.get("k")


async def test_many_batches_are_in_flight_together(any_async_store: kvstore.AsyncStore) -> None:
    async def batch(index: int) -> list[bytes | None]:
        keys = [f"{index}/{i}" for i in range(16)]
        await any_async_store.batch_set(keys, [key.encode() * 100 for key in keys])
        return await any_async_store.batch_get(keys)

    results = await asyncio.gather(*(batch(index) for index in range(200)))

    for index, values in enumerate(results):
        assert [f"{index}/{i}".encode() * 100 for i in range(16)] == values
    assert 0 == (await any_async_store.stats()).in_flight


async def test_a_cancelled_batch_lets_go_of_its_buffers(
    any_async_store: kvstore.AsyncStore,
) -> None:
    values = [bytearray(bytes([i])) * MIB for i in range(32)]
    keys = [b"%d" % i for i in range(32)]
    batch = asyncio.create_task(any_async_store.batch_set(keys, values))
    await asyncio.sleep(0)

    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch

    for value in values:
        value.append(1)
    for i, stored in enumerate(await any_async_store.batch_get(keys)):
        assert stored in (None, bytes([i]) * MIB)
    assert 0 == (await any_async_store.stats()).in_flight


async def test_cancelling_twice_still_waits(any_async_store: kvstore.AsyncStore) -> None:
    value = bytearray(8 * MIB)
    batch = asyncio.create_task(any_async_store.batch_set(["a", "b"], [value, value]))
    await asyncio.sleep(0)

    batch.cancel()
    await asyncio.sleep(0)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch

    value.append(1)


async def test_a_timeout_cancels_and_the_store_goes_on(any_async_store: kvstore.AsyncStore) -> None:
    value = bytearray(16 * MIB)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await any_async_store.batch_set(["a", "b", "c"], [value] * 3)

    value.append(1)
    assert SetStatus.OK is await any_async_store.set("k", b"value")


async def test_a_failing_group_cancels_its_batches(any_async_store: kvstore.AsyncStore) -> None:
    values = [bytearray(4 * MIB) for _ in range(8)]

    async def fail() -> None:
        raise RuntimeError("mine")

    async def set_all() -> None:
        async with asyncio.TaskGroup() as group:
            for i, value in enumerate(values):
                group.create_task(any_async_store.set(b"%d" % i, value))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup):
        await set_all()

    for value in values:
        value.append(1)


async def test_close_waits_for_batches_in_flight(any_url: str) -> None:
    store = await kvstore.connect(any_url)
    batch = asyncio.create_task(store.batch_set(["a", "b"], [bytes(MIB)] * 2))
    await asyncio.sleep(0)

    await store.close()

    assert [SetStatus.OK] * 2 == await batch
    with pytest.raises(kvstore.StoreClosedError, match="closed"):
        await store.batch_set(["a"], [b"1"])
    with pytest.raises(kvstore.StoreClosedError):
        await store.batch_set([], [])


async def test_two_close_at_once(any_url: str) -> None:
    store = await kvstore.connect(any_url)

    await asyncio.gather(store.close(), store.close())

    async with kvstore.connect(any_url) as again:
        assert not await again.exists("k")


async def test_cancelling_connect_leaves_nothing_open(any_url: str) -> None:
    opening = asyncio.ensure_future(kvstore.connect(any_url).__aenter__())
    await asyncio.sleep(0)

    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening

    async with kvstore.connect(any_url) as store:
        await store.set("k", b"value")


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_one_loop_after_the_other(
    any_url: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def use(store: kvstore.AsyncStore, key: str) -> bytes | None:
        await store.batch_set([key], [key.encode()])
        return await store.get(key)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        store = runner.run(opened(any_url))
        assert b"a" == runner.run(use(store, "a"))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert b"b" == runner.run(use(store, "b"))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(store.close())


async def opened(url: str) -> kvstore.AsyncStore:
    return await kvstore.connect(url)


def test_loops_in_two_threads_share_a_store(any_url: str) -> None:
    store = asyncio.run(opened(any_url))
    failures: list[BaseException] = []

    async def use(name: str) -> None:
        for i in range(50):
            key = f"{name}/{i}"
            await store.set(key, key.encode())
            assert key.encode() == await store.get(key)

    def run(name: str) -> None:
        try:
            asyncio.run(use(name))
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(store.close())

    assert [] == failures


def test_a_loop_closed_with_a_batch_in_flight(tmp_path: Path) -> None:
    store = asyncio.run(opened(f"file://{tmp_path}/s?memory=96MiB"))
    value = bytearray(32 * MIB)
    loop = asyncio.new_event_loop()
    batch = loop.create_task(store.batch_set(["a", "b"], [value, value]))
    loop.run_until_complete(asyncio.sleep(0))

    loop.close()
    with pytest.raises(BufferError):
        value.append(1)
    asyncio.run(store.close())

    assert not batch.done()
    batch._log_destroy_pending = False  # type: ignore[attr-defined]
    del batch
    with kvstore.connect_sync(f"file://{tmp_path}/s", mode="existing") as again:
        assert again.get("a") in (None, bytes(32 * MIB))
