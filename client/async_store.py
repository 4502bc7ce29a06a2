"""The store of asyncio: a batch is handed to the C core, and its await ends by an eventfd.

Guarantees: many batches in flight at a time, on any running event loop, without a thread for each.
When an await ends, also by cancellation, the core no longer touches the caller's buffers.
What calls mean is in kvstore.client.operations.
"""

from collections.abc import AsyncIterator, Callable
from functools import partial
from types import TracebackType
from typing import Self

from kvstore.client import operations
from kvstore.client.failures import explain
from kvstore.client.operations import Steps, T
from kvstore.client.region import Region
from kvstore.client.session import UPKEEP_TIMEOUT_S, Session, close_with
from kvstore.client.threads import run_to_end
from kvstore.client.walks import checked_prefix, list_pages, verify_steps
from kvstore.errors import KVTimeoutError, StoreUnavailableError
from kvstore.native.request import Operation, Request
from kvstore.options import ClientOptions, StoreOptions
from kvstore.types import (
    Buffer,
    Buffers,
    Key,
    Keys,
    ListedObject,
    ObjectStat,
    SetStatus,
    SlabRow,
    Stats,
    Verification,
)


class AsyncStore:
    """A store whose calls are awaited; kvstore.connect opens one."""

    def __init__(self, options: StoreOptions | ClientOptions) -> None:
        """Open or make the store, or connect to it."""
        self._options = options
        self._session = Session(options)
        self._finalizer = close_with(self, self._session)

    async def __aenter__(self) -> Self:
        """Return the store."""
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        await self.close()

    def __repr__(self) -> str:
        """Show the directory or the URL."""
        return f"<kvstore.AsyncStore {self._options.name}>"

    # Batches.

    async def batch_set(
        self,
        keys: Keys,
        values: Buffers,
        *,
        ttl_s: float | None = None,
        if_absent: bool = False,
    ) -> list[SetStatus]:
        """Set every key to its value, and return what became of each, in order.

        With *if_absent*, a key that exists keeps its value and answers EXISTS.
        """
        return await self._perform(
            operations.batch_set(keys, values, ttl_s=ttl_s, if_absent=if_absent)
        )

    async def batch_get(self, keys: Keys) -> list[bytes | None]:
        """Return the value of every key; None where there is none, or where it cannot be read."""
        return await self._perform(operations.batch_get(keys, self._session.size_hint))

    async def batch_get_into(self, keys: Keys, buffers: Buffers) -> list[int]:
        """Read every key into its buffer, and return how many bytes each has got.

        -1: no such key; -2: the buffer is too small; -3: the value cannot be read. The content of a
        buffer is undefined unless its result is 0 or more.
        """
        return await self._perform_one(Request.get_into(keys, buffers), operations.written)

    async def batch_exists(self, keys: Keys) -> list[bool]:
        """Return whether each key exists."""
        return await self._perform(operations.for_each(Operation.EXISTS, keys))

    async def batch_stat(self, keys: Keys) -> list[ObjectStat | None]:
        """Return what is known of each key without reading values; None where there is none."""
        return await self._perform(operations.batch_stat(keys))

    async def match_prefix(self, keys: Keys) -> int:
        """Return how many leading keys exist."""
        return await self._perform(operations.match_prefix(keys))

    async def batch_delete(self, keys: Keys) -> list[bool]:
        """Delete every key; True where it existed."""
        return await self._perform(operations.for_each(Operation.DELETE, keys))

    async def pin(self, keys: Keys) -> list[bool]:
        """Keep keys from being evicted; True where the key exists."""
        return await self._perform(operations.for_each(Operation.PIN, keys))

    async def unpin(self, keys: Keys) -> list[bool]:
        """Take pin() back; True where the key exists."""
        return await self._perform(operations.for_each(Operation.UNPIN, keys))

    # One key.

    async def set(
        self, key: Key, value: Buffer, *, ttl_s: float | None = None, if_absent: bool = False
    ) -> SetStatus:
        """Set one key; OK, or EXISTS with *if_absent*. A failure raises, see kvstore.errors."""
        return await self._perform(operations.set_one(key, value, ttl_s=ttl_s, if_absent=if_absent))

    async def get(self, key: Key) -> bytes | None:
        """Return the value of one key, or None. A failure raises."""
        return await self._perform(operations.get_one(key, self._session.size_hint))

    async def get_into(self, key: Key, buffer: Buffer) -> int:
        """Read one key into a buffer; bytes written, or -1: no such key. A failure raises."""
        request = Request.get_into((key,), (buffer,))
        return await self._perform_one(request, operations.written_to_one)

    async def exists(self, key: Key) -> bool:
        """Return whether one key exists. A failure raises."""
        return await self._perform(operations.succeeds_on_one(Operation.EXISTS, key))

    async def stat(self, key: Key) -> ObjectStat | None:
        """Return what is known of one key, or None. A failure raises."""
        return await self._perform(operations.stat_one(key))

    async def delete(self, key: Key) -> bool:
        """Delete one key; whether it existed. A failure raises."""
        return await self._perform(operations.succeeds_on_one(Operation.DELETE, key))

    # The store.

    def register(self, buffer: Buffer) -> Region:
        """Make memory known to the device, for values that lie there often.

        A store that nodes serve needs no more than memory, and holds it all the same.
        """
        return Region(self._session.port, buffer)

    async def stats(self) -> Stats:
        """Return gauges and counters."""
        port = self._session.port
        return port.stats() if port.answers_at_once else await run_to_end(port.stats)

    async def slabs(self) -> tuple[SlabRow, ...]:
        """Return one row for each slab class in use."""
        return await run_to_end(self._session.port.slabs)

    async def flush(self) -> None:
        """Make everything acknowledged so far survive loss of power."""
        await run_to_end(self._session.port.flush)

    async def checkpoint(self, timeout_s: float = UPKEEP_TIMEOUT_S) -> None:
        """Write a checkpoint, so that the next open replays little."""
        await run_to_end(partial(self._session.port.checkpoint, timeout_s))

    async def compact(self, timeout_s: float = UPKEEP_TIMEOUT_S) -> int:
        """Empty sparse slabs; returns how many were freed."""
        return await run_to_end(partial(self._session.port.compact, timeout_s))

    async def verify(
        self, on_progress: Callable[[Verification], None] | None = None
    ) -> Verification:
        """Read every stored value and check it; *on_progress* hears of each step."""
        found = Verification(0, 0, ())
        steps = verify_steps(self._session.port)
        while (step := await run_to_end(partial(next, steps, None))) is not None:
            found = step
            if on_progress is not None:
                on_progress(found)
        return found

    async def close(self) -> None:
        """Wait for batches in flight, close the store. May be called again."""
        await run_to_end(self._session.close)
        self._finalizer.detach()

    async def _perform_one(self, request: Request, conclude: Callable[[Request], T]) -> T:
        """Execute the one request of a call, and let go of the caller's buffers."""
        columns, port = request.columns, self._session.port
        try:
            port.check_open()
            if columns.count > 0:
                await self._execute(request)
            return conclude(request)
        except (StoreUnavailableError, KVTimeoutError) as error:
            explain(error, port.explain())
            raise
        finally:
            columns.release()

    async def _perform(self, steps: Steps[T]) -> T:
        port = self._session.port
        port.check_open()
        try:
            while True:
                await self._execute(next(steps))
        except StopIteration as done:
            result: T = done.value
            return result
        except (StoreUnavailableError, KVTimeoutError) as error:
            explain(error, port.explain())
            raise
        finally:
            steps.close()

    async def _execute(self, request: Request) -> None:
        port = self._session.port
        if request.immediate and port.answers_at_once:
            port.run(request)
        else:
            await self._session.completions().perform(request)

    async def list(self, prefix: Key = b"") -> AsyncIterator[ListedObject]:
        """Yield every object whose key begins with *prefix*, in no particular order.

        An object that exists all the time is yielded once; one that comes or goes may be.
        """
        pages = list_pages(self._session.port, checked_prefix(prefix))
        while (page := await run_to_end(partial(next, pages, None))) is not None:
            for entry in page:
                yield entry
