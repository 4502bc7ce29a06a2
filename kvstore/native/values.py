"""Small values on their way between Python and the C core."""

from kvstore._native import ffi


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, at least 1 of a positive time."""
    assert seconds >= 0
    return max(1, round(seconds * 1000)) if seconds > 0 else 0


def text_of(message: object) -> str:
    """Return what the core wrote into a char array."""
    written: bytes = ffi.string(message)
    return written.decode("utf-8", "replace")
