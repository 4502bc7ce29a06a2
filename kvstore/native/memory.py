"""Memory of the caller's: its address and size, held so that it stays where it is."""

from kvstore._native import ffi
from kvstore.types import Buffer


class Memory:
    """An exported writable buffer, or an (address, length) pair taken on trust."""

    __slots__ = ("_export", "address", "size")

    def __init__(self, buffer: Buffer) -> None:
        """Hold the buffer; raises TypeError, ValueError or BufferError when it is none."""
        self._export = None
        if isinstance(buffer, tuple):
            self.address, self.size = pair_of(buffer)
            return
        self._export = ffi.from_buffer(buffer, require_writable=True)
        self.address = int(ffi.cast("uintptr_t", self._export))
        self.size = len(self._export)

    def view(self) -> memoryview:
        """Return the bytes. A view of an exported buffer holds the export by itself."""
        if self._export is not None:
            return memoryview(ffi.buffer(self._export))
        return memoryview(ffi.buffer(ffi.cast("char *", self.address), self.size))

    def release(self) -> None:
        """Let go of the buffer, as soon as no view is left. May be called again."""
        self._export = None


def pair_of(pair: tuple[object, ...]) -> tuple[int, int]:
    """Return (address, length), checked as far as they can be."""
    match pair:
        case (int(address), int(size)) if address > 0 and size > 0:
            return address, size
    raise ValueError(f"{pair!r} is no (address, length) of memory")
