"""Memory that values are often read into or written from, made known to the store once.

Guarantees: the memory stays where it is until close(), or until its store closes.
"""

from contextlib import suppress
from types import TracebackType
from typing import Self

from kvstore.client.port import Port
from kvstore.errors import StoreClosedError
from kvstore.native.memory import Memory
from kvstore.types import Buffer


class Region:
    """A registered buffer; slices of it are the fastest values and buffers of a batch.

    `memory` is a writable memoryview of all of it, and region[a:b] one of a part. From Python 3.12
    on, a Region has the buffer protocol itself.
    """

    def __init__(self, port: Port, buffer: Buffer) -> None:
        """Register a writable buffer or an (address, length) pair; Store.register calls this."""
        self._port = port
        self._memory = Memory(buffer)
        self._closed = False
        port.register(self._memory)

    def __enter__(self) -> Self:
        """Return the region."""
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the region."""
        self.close()

    def __repr__(self) -> str:
        """Show address, size and state."""
        state = "closed" if self._closed else "open"
        return f"<Region of {self.size} bytes at {self.address:#x}, {state}>"

    def __len__(self) -> int:
        """Return the size in bytes."""
        return self.size

    def __getitem__(self, part: slice) -> memoryview:
        """Return a writable view of a part."""
        return self.memory[part]

    def __buffer__(self, flags: int) -> memoryview:
        """Return a view of everything."""
        return self.memory

    @property
    def address(self) -> int:
        """Where the memory begins."""
        return self._memory.address

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self._memory.size

    @property
    def memory(self) -> memoryview:
        """A writable view of everything."""
        if self._closed:
            raise ValueError("this Region is closed")
        return self._memory.view()

    def close(self) -> None:
        """Take the registration back, and let go of the buffer. May be called again."""
        if self._closed:
            return
        self._closed = True
        with suppress(StoreClosedError):  # a closed store knows no memory any more
            self._port.unregister(self._memory)
        self._memory.release()
