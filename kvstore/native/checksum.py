"""CRC-32C of a buffer, computed by the C core."""

from kvstore._native import ffi, lib
from kvstore.types import Buffer


def checksum(data: Buffer, seed: int = 0) -> int:
    """Return the CRC-32C of *data*, continuing from *seed*."""
    view = ffi.from_buffer(data)
    return int(lib.kv_checksum(seed, view, len(view)))
