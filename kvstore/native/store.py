"""One open store of the C core (kv_store): every call enters C once, with the GIL released.

Guarantees: safe from any thread; close() waits for calls in progress; after close(), or in a forked
child, each call raises and the freed kv_store is never touched.
Leaves to others: what a status of a key means, event loops, and not to close with a queue open.
"""

import errno

from kvstore._native import ffi, lib
from kvstore.native.calls import Calls
from kvstore.native.failures import call_failure, open_failure
from kvstore.native.fork import open_stores
from kvstore.native.listing import parse_bad_objects, parse_listing
from kvstore.native.memory import Memory
from kvstore.native.queue import NativeQueue
from kvstore.native.request import Request
from kvstore.native.statistics import SLAB_ROW, parse_slabs, stats_of
from kvstore.native.values import milliseconds, text_of
from kvstore.options import StoreOptions
from kvstore.types import BadObject, ListedObject, SlabRow, Stats

PAGE_SIZE = 256 << 10
"""Bytes for the keys that one step of a listing, or the bad ones of a verification, finds."""
PAGE_SIZE_MAX = 8 << 20
"""The same where that is too small: room for the longest keys in the largest step of the core."""
SLAB_ROWS_MAX = 1024
DESCRIPTION_SIZE = 512


def native_options(options: StoreOptions) -> tuple[object, object]:
    """Return a kv_store_options *, and the directory's name that it points at."""
    directory = ffi.new("char[]", options.directory.encode("utf-8", "surrogateescape"))
    native = ffi.new("kv_store_options *")
    native.directory = directory
    native.capacity = options.capacity
    native.objects_max = options.objects_max
    native.memory = options.memory
    native.durability = options.durability
    native.eviction = options.eviction
    native.driver = options.driver
    native.open_mode = options.mode
    native.workers = options.workers
    native.depth = options.depth
    native.ttl_ms = milliseconds(options.ttl_s)
    native.timeout_ms = milliseconds(options.timeout_s)
    native.scrub_bytes_per_s = options.scrub_bytes_per_s
    return native, directory


def open_native(options: StoreOptions) -> object:
    """Return a new kv_store *, or raise what the core said."""
    native, _directory = native_options(options)
    store = ffi.new("kv_store **")
    message = ffi.new("char[]", lib.KV_MESSAGE_SIZE)
    code = lib.kv_store_open(native, store, message)
    if code < 0:
        raise open_failure(code, options.directory, text_of(message))
    return store[0]


class NativeStore:
    """An open store; opening may take seconds after a crash."""

    answers_at_once = True
    """Whether looking a key up, and stats(), take no longer than a call."""

    def __init__(self, options: StoreOptions) -> None:
        """Open or make the store; see kvstore.errors for what this raises."""
        self.options = options
        self._calls = Calls(options.directory)
        self._registered: dict[int, Memory] = {}
        self._store = open_native(options)
        open_stores().add(self)

    def __repr__(self) -> str:
        """Show the directory and whether the store takes calls."""
        state = "forked" if self.forked else "closed" if self._calls.refusing else "open"
        return f"<NativeStore {self.options.directory} {state}>"

    @property
    def forked(self) -> bool:
        """Whether this is the child of a fork, to which the store does not belong."""
        return self._calls.forked

    def check_open(self) -> None:
        """Raise StoreClosedError or ForkedError unless calls are taken."""
        self._calls.check()

    def refuse(self) -> None:
        """Take no new calls; those in progress go on."""
        self._calls.refuse()

    def close(self, timeout_s: float) -> None:
        """Wait for calls in progress, write what is open, let go of the directory.

        Raises what the last write raised; the store is closed all the same.
        """
        self._calls.refuse()
        self._calls.wait()
        if self._store is None:
            return
        store, self._store = self._store, None
        open_stores().discard(self)
        code = lib.kv_store_close(store, milliseconds(timeout_s))
        self._registered.clear()
        self._check(code, "close the store")

    def abandon(self) -> None:
        """In the child of a fork: give up the inherited descriptors."""
        self._calls.forked = True
        store, self._store = self._store, None
        if store is not None:
            lib.kv_store_abandon(store)

    # Batches.

    def run(self, request: Request) -> None:
        """Execute on this thread; every item has its status afterwards."""
        with self._calls:
            code = lib.kv_store_run(self._store, request.pointer)
        if code < 0:
            self._check(code, "run a batch")

    def flush(self) -> None:
        """Make everything acknowledged so far survive loss of power."""
        flush = ffi.new("kv_request *")
        flush.operation = lib.KV_OP_FLUSH
        with self._calls:
            self._check(lib.kv_store_run(self._store, flush), "flush")

    def open_queue(self) -> NativeQueue:
        """Return a new queue of completions, to be closed before the store."""
        queue = ffi.new("kv_queue **")
        descriptor = ffi.new("int *")
        with self._calls:
            code = lib.kv_queue_open(queue, descriptor)
            self._check(code, "open a queue of completions")
        return NativeQueue(queue[0], descriptor[0])

    def submit(self, queue: NativeQueue, request: Request) -> None:
        """Execute in the background; request and buffers are the core's until the tag is reaped."""
        with self._calls:
            code = lib.kv_store_submit(self._store, queue.pointer, request.pointer)
            self._check(code, "submit a batch")

    def cancel(self, request: Request) -> None:
        """Ask for an early end of a request that was submitted and is not reaped yet.

        It works while the store refuses calls, since closing is when it is needed most.
        """
        self._calls.check_not_forked()
        assert self._store is not None, "a store closes after its queues"
        lib.kv_store_cancel(self._store, request.pointer)

    def explain(self) -> str:
        """Return why the last connection failed: there are none."""
        return ""

    # Memory.

    def register(self, memory: Memory) -> None:
        """Tell the core that values will often lie here.

        The store holds the memory until unregister() or its own end: pages that the device knows
        must not become somebody else's.
        """
        with self._calls:
            code = lib.kv_store_register(self._store, memory.address, memory.size)
            self._check(code, "register memory")
            self._registered[memory.address] = memory

    def unregister(self, memory: Memory) -> None:
        """Take register() back."""
        with self._calls:
            code = lib.kv_store_unregister(self._store, memory.address)
            self._check(code, "unregister memory")
            del self._registered[memory.address]

    # The whole store.

    def list(self, cursor: int, prefix: bytes) -> tuple[int, tuple[ListedObject, ...]]:
        """Return the next cursor and one page of objects; cursors go from 0 to END."""
        position = ffi.new("uint64_t *", cursor)
        used = -errno.ENOBUFS
        with self._calls:
            for size in (PAGE_SIZE, PAGE_SIZE_MAX):
                if used == -errno.ENOBUFS:
                    page = ffi.new("char[]", size)
                    used = lib.kv_store_list(self._store, position, prefix, len(prefix), page, size)
            self._check(used, "list keys")
        return position[0], parse_listing(ffi.buffer(page, used)[:])

    def verify(self, cursor: int, size: int) -> tuple[int, int, int, tuple[BadObject, ...]]:
        """Read and check about *size* bytes of values.

        Returns the next cursor, how many objects and bytes were read, and the bad ones.
        """
        position = ffi.new("uint64_t *", cursor)
        count = ffi.new("uint64_t[2]")
        used = -errno.ENOBUFS
        with self._calls:
            for page_size in (PAGE_SIZE, PAGE_SIZE_MAX):
                if used == -errno.ENOBUFS:
                    bad = ffi.new("char[]", page_size)
                    used = lib.kv_store_verify(
                        self._store, position, size, bad, page_size, count, count + 1
                    )
            self._check(used, "verify values")
        return position[0], count[0], count[1], parse_bad_objects(ffi.buffer(bad, used)[:])

    def compact(self, timeout_s: float) -> int:
        """Empty sparse slabs; returns how many were freed."""
        with self._calls:
            code = lib.kv_store_compact(self._store, milliseconds(timeout_s))
            return self._check(code, "compact slabs")

    def checkpoint(self, timeout_s: float) -> None:
        """Write a checkpoint, so that the next open replays little."""
        with self._calls:
            code = lib.kv_store_checkpoint(self._store, milliseconds(timeout_s))
            self._check(code, "write a checkpoint")

    def slabs(self) -> tuple[SlabRow, ...]:
        """Return one row for each slab class in use."""
        rows = ffi.new("kv_slab_row[]", SLAB_ROWS_MAX)
        with self._calls:
            count = lib.kv_store_slabs(self._store, rows, SLAB_ROWS_MAX)
            self._check(count, "describe slabs")
        return parse_slabs(ffi.buffer(rows)[: count * SLAB_ROW.size])

    def stats(self) -> Stats:
        """Return every gauge and counter."""
        statistics = ffi.new("kv_store_statistics *")
        text = ffi.new("char[]", DESCRIPTION_SIZE)
        with self._calls:
            lib.kv_store_statistics_read(self._store, statistics)
            self._check(lib.kv_store_describe(self._store, text, DESCRIPTION_SIZE), "describe")
        return stats_of(text_of(text), ffi.buffer(statistics)[:])

    def _check(self, code: int, call: str) -> int:
        if code < 0:
            raise call_failure(code, call, self.options.directory)
        return code
