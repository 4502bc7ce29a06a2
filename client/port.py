"""What Session, Store and AsyncStore need of an open store, and the two kinds that there are.

Store, AsyncStore ──► Session ──► Port ◄── NativeStore   in this process    (StoreOptions)
                                       ◄── ServedStore   served by nodes    (ClientOptions)
"""

from typing import Protocol

from kvstore.client.served_store import ServedStore
from kvstore.native.memory import Memory
from kvstore.native.queue import NativeQueue
from kvstore.native.request import Request
from kvstore.native.store import NativeStore
from kvstore.options import ClientOptions, StoreOptions
from kvstore.types import BadObject, ListedObject, SlabRow, Stats


class Port(Protocol):
    """An open store; safe from any thread, every call raises once it is closed."""

    @property
    def answers_at_once(self) -> bool:
        """Whether looking a key up, and stats(), take no longer than a call."""

    @property
    def forked(self) -> bool:
        """Whether this is the child of a fork, to which the store does not belong."""

    def check_open(self) -> None:
        """Raise StoreClosedError or ForkedError unless calls are taken."""

    def refuse(self) -> None:
        """Take no new calls; those in progress go on."""

    def close(self, timeout_s: float) -> None:
        """Wait for calls in progress, and end."""

    def abandon(self) -> None:
        """In the child of a fork: give up what was inherited."""

    def run(self, request: Request) -> None:
        """Execute on this thread; every item has its status afterwards."""

    def open_queue(self) -> NativeQueue:
        """Return a new queue of completions, to be closed before the store."""

    def submit(self, queue: NativeQueue, request: Request) -> None:
        """Execute in the background; request and buffers are the core's until the tag is reaped."""

    def cancel(self, request: Request) -> None:
        """Ask for an early end of a request that was submitted and is not reaped yet."""

    def explain(self) -> str:
        """Return why the last connection failed; empty when none has."""

    def register(self, memory: Memory) -> None:
        """Hold memory in which values will often lie."""

    def unregister(self, memory: Memory) -> None:
        """Take register() back."""

    def list(self, cursor: int, prefix: bytes) -> tuple[int, tuple[ListedObject, ...]]:
        """Return the next cursor and one page of objects; cursors begin at 0 and end with END."""

    def verify(self, cursor: int, size: int) -> tuple[int, int, int, tuple[BadObject, ...]]:
        """Check about *size* bytes; the next cursor, objects, bytes, and the bad ones."""

    def flush(self) -> None:
        """Make everything acknowledged so far survive loss of power."""

    def compact(self, timeout_s: float) -> int:
        """Empty sparse slabs; returns how many were freed."""

    def checkpoint(self, timeout_s: float) -> None:
        """Write a checkpoint, so that the next open replays little."""

    def slabs(self) -> tuple[SlabRow, ...]:
        """Return one row for each slab class in use."""

    def stats(self) -> Stats:
        """Return every gauge and counter."""


def open_port(options: StoreOptions | ClientOptions) -> Port:
    """Open the store that the options are of."""
    if isinstance(options, ClientOptions):
        return ServedStore(options)
    return NativeStore(options)
