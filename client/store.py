"""The blocking store: each call executes on the caller's thread, with the GIL released.

Guarantees: safe from any number of threads. What calls mean is in kvstore.client.operations.
"""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from kvstore.client import operations
from kvstore.client.failures import explain
from kvstore.client.operations import Steps, T, hinted, value_if_it_fits, written, written_to_one
from kvstore.client.region import Region
from kvstore.client.session import UPKEEP_TIMEOUT_S, Session, close_with
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


class Store:
    """A store whose calls block; kvstore.connect_sync opens one."""

    def __init__(self, options: StoreOptions | ClientOptions) -> None:
        """Open or make the store, or connect to it."""
        self._options = options
        self._session = Session(options)
        self._finalizer = close_with(self, self._session)

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    def __repr__(self) -> str:
        """Show the directory or the URL."""
        return f"<kvstore.Store {self._options.name}>"

    # Batches.

    def batch_set(
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
        return self._perform(operations.batch_set(keys, values, ttl_s=ttl_s, if_absent=if_absent))

    def batch_get(self, keys: Keys) -> list[bytes | None]:
        """Return the value of every key; None where there is none, or where it cannot be read."""
        return self._perform(operations.batch_get(keys, self._session.size_hint))

    def batch_get_into(self, keys: Keys, buffers: Buffers) -> list[int]:
        """Read every key into its buffer, and return how many bytes each has got.

        -1: no such key; -2: the buffer is too small; -3: the value cannot be read. The content of a
        buffer is undefined unless its result is 0 or more.
        """
        return self._execute(Request.get_into(keys, buffers), written)

    def batch_exists(self, keys: Keys) -> list[bool]:
        """Return whether each key exists."""
        return self._perform(operations.for_each(Operation.EXISTS, keys))

    def batch_stat(self, keys: Keys) -> list[ObjectStat | None]:
        """Return what is known of each key without reading values; None where there is none."""
        return self._perform(operations.batch_stat(keys))

    def match_prefix(self, keys: Keys) -> int:
        """Return how many leading keys exist."""
        return self._perform(operations.match_prefix(keys))

    def batch_delete(self, keys: Keys) -> list[bool]:
        """Delete every key; True where it existed."""
        return self._perform(operations.for_each(Operation.DELETE, keys))

    def pin(self, keys: Keys) -> list[bool]:
        """Keep keys from being evicted; True where the key exists."""
        return self._perform(operations.for_each(Operation.PIN, keys))

    def unpin(self, keys: Keys) -> list[bool]:
        """Take pin() back; True where the key exists."""
        return self._perform(operations.for_each(Operation.UNPIN, keys))

    # One key.

    def set(
        self, key: Key, value: Buffer, *, ttl_s: float | None = None, if_absent: bool = False
    ) -> SetStatus:
        """Set one key; OK, or EXISTS with *if_absent*. A failure raises, see kvstore.errors."""
        return self._perform(operations.set_one(key, value, ttl_s=ttl_s, if_absent=if_absent))

    def get(self, key: Key) -> bytes | None:
        """Return the value of one key, or None. A failure raises."""
        hint = self._session.size_hint
        if hint is not None:
            found = self._execute(hinted((key,), hint), value_if_it_fits)
            if not isinstance(found, int):
                hint.note(len(found) if found else 0)
                return found
            hint.note(found)
        return self._perform(operations.get_one(key, hint))

    def get_into(self, key: Key, buffer: Buffer) -> int:
        """Read one key into a buffer; bytes written, or -1: no such key. A failure raises."""
        return self._execute(Request.get_into((key,), (buffer,)), written_to_one)

    def exists(self, key: Key) -> bool:
        """Return whether one key exists. A failure raises."""
        return self._perform(operations.succeeds_on_one(Operation.EXISTS, key))

    def stat(self, key: Key) -> ObjectStat | None:
        """Return what is known of one key, or None. A failure raises."""
        return self._perform(operations.stat_one(key))

    def delete(self, key: Key) -> bool:
        """Delete one key; whether it existed. A failure raises."""
        return self._perform(operations.succeeds_on_one(Operation.DELETE, key))

    # The store.

    def register(self, buffer: Buffer) -> Region:
        """Make memory known to the device, for values that lie there often.

        A store that nodes serve needs no more than memory, and holds it all the same.
        """
        return Region(self._session.port, buffer)

    def stats(self) -> Stats:
        """Return gauges and counters."""
        return self._session.port.stats()

    def slabs(self) -> tuple[SlabRow, ...]:
        """Return one row for each slab class in use."""
        return self._session.port.slabs()

    def flush(self) -> None:
        """Make everything acknowledged so far survive loss of power."""
        self._session.port.flush()

    def checkpoint(self, timeout_s: float = UPKEEP_TIMEOUT_S) -> None:
        """Write a checkpoint, so that the next open replays little."""
        self._session.port.checkpoint(timeout_s)

    def compact(self, timeout_s: float = UPKEEP_TIMEOUT_S) -> int:
        """Empty sparse slabs; returns how many were freed."""
        return self._session.port.compact(timeout_s)

    def verify(self, on_progress: Callable[[Verification], None] | None = None) -> Verification:
        """Read every stored value and check it; *on_progress* hears of each step."""
        found = Verification(0, 0, ())
        for found in verify_steps(self._session.port):
            if on_progress is not None:
                on_progress(found)
        return found

    def close(self) -> None:
        """Wait for calls in progress, close the store. May be called again."""
        self._session.close()
        self._finalizer.detach()

    def _execute(self, request: Request, conclude: Callable[[Request], T]) -> T:
        """Execute the one request of a call, and let go of the caller's buffers."""
        columns, port = request.columns, self._session.port
        try:
            if columns.count > 0:
                port.run(request)
            else:
                port.check_open()
            return conclude(request)
        except (StoreUnavailableError, KVTimeoutError) as error:
            explain(error, port.explain())
            raise
        finally:
            columns.release()

    def _perform(self, steps: Steps[T]) -> T:
        port = self._session.port
        port.check_open()
        try:
            while True:
                port.run(next(steps))
        except StopIteration as done:
            result: T = done.value
            return result
        except (StoreUnavailableError, KVTimeoutError) as error:
            explain(error, port.explain())
            raise
        finally:
            steps.close()

    def list(self, prefix: Key = b"") -> Iterator[ListedObject]:
        """Yield every object whose key begins with *prefix*, in no particular order.

        An object that exists all the time is yielded once; one that comes or goes may be.
        """
        for page in list_pages(self._session.port, checked_prefix(prefix)):
            yield from page
