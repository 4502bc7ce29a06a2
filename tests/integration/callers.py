"""Both faces of the API behind one interface: calls that block, and calls of an event loop."""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import kvstore

DEADLINE_S = 60.0


class BlockingCaller:
    """Calls a Store on the caller's thread."""

    def __init__(self, url: str) -> None:
        self.store = kvstore.connect_sync(url)

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the store."""
        return getattr(self.store, name)(*arguments, **options)

    def close(self) -> None:
        """Close the store."""
        self.store.close()


class AsyncCaller:
    """Calls an AsyncStore on an event loop of its own."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.store: kvstore.AsyncStore = self.wait(self.open(url))

    async def open(self, url: str) -> kvstore.AsyncStore:
        """Open the store on the loop."""
        return await kvstore.connect(url)

    def wait(self, awaitable: Any) -> Any:
        """Return what an awaitable comes to."""
        return asyncio.run_coroutine_threadsafe(awaitable, self.loop).result(DEADLINE_S)

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the store."""
        return self.wait(getattr(self.store, name)(*arguments, **options))

    def close(self) -> None:
        """Close the store, end the loop."""
        self.wait(self.store.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE_S)
        self.loop.close()


Caller = BlockingCaller | AsyncCaller
CALLERS: dict[str, type[BlockingCaller] | type[AsyncCaller]] = {
    "blocking": BlockingCaller,
    "asyncio": AsyncCaller,
}


def opened(api: str, port: int, timeout_s: float) -> Caller:
    """Open a store at a port of loopback, with few connections."""
    return CALLERS[api](f"kv://127.0.0.1:{port}/default?timeout_s={timeout_s}&connections=4")


def read_into(caller: Caller, keys: Sequence[bytes], size: int) -> tuple[list[int], list[bytes]]:
    """Get keys into buffers of one size; what each came to, and the values."""
    buffers = [bytearray(size) for _ in keys]
    written = caller.call("batch_get_into", keys, buffers)
    values = [bytes(buffer[: max(0, n)]) for buffer, n in zip(buffers, written, strict=True)]
    return written, values


def timed(caller: Caller, name: str, *arguments: Any, **options: Any) -> tuple[Any, float]:
    """Call a method; what it returned or raised, and how long it took."""
    start = time.monotonic()
    result: Any
    try:
        result = caller.call(name, *arguments, **options)
    except kvstore.KVStoreError as error:
        result = error
    return result, time.monotonic() - start
