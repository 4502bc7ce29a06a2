"""Completions of one event loop (kv_queue): tags of finished requests, behind a descriptor.

Leaves to others: to reap every request before close(), and to use a queue under a lock of their own
when more than one thread reaps.
"""

from kvstore._native import ffi, lib

REAP_COUNT = 256
"""Tags taken by one call."""


class NativeQueue:
    """A kv_queue; `descriptor` becomes readable when requests are done, and stays the core's."""

    def __init__(self, queue: object, descriptor: int) -> None:
        """Own the queue that kv_queue_open made."""
        self.pointer = queue
        self.descriptor = descriptor
        self._tags = ffi.new("uint64_t[]", REAP_COUNT)

    def reap(self) -> list[int]:
        """Return the tags of up to REAP_COUNT finished requests; none stands for none left."""
        count = lib.kv_queue_reap(self.pointer, self._tags, REAP_COUNT)
        assert 0 <= count <= REAP_COUNT
        tags: list[int] = ffi.unpack(self._tags, count)
        return tags

    def close(self) -> None:
        """Free the queue and close its descriptor."""
        assert self.pointer is not None
        lib.kv_queue_close(self.pointer)
        self.pointer = None
