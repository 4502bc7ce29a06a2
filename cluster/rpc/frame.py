"""Frames: a size of four bytes, little endian, then as many bytes of msgpack. Pure.

    "KVR1"   once, first, from each end
    size     u32 ──► body: one msgpack list

Sizes are checked before anything is kept, and lists before they are allocated.
"""

import msgpack

from kvstore.errors import MalformedMessageError, NotMgmtdError

MAGIC = b"KVR1"
HEAD_SIZE = 4
HELLO_SIZE_MAX = 1024
"""Of every frame before the hello is over: nobody is trusted with more."""
REQUEST_SIZE_MAX = 1 << 20
"""Of a frame to mgmtd."""
REPLY_SIZE_MAX = 65 << 20
"""Of a frame from mgmtd: the largest routing info, and what goes around it."""
ITEMS_MAX = 1 << 18
"""Of one list or map in a frame."""


def encode_frame(message: list[object]) -> bytes:
    """Return a message as a frame."""
    body = msgpack.packb(message, use_bin_type=True)
    assert isinstance(body, bytes)
    assert len(body) <= REPLY_SIZE_MAX
    return len(body).to_bytes(HEAD_SIZE, "little") + body


def decode_body(body: bytes) -> list[object]:
    """Return the list that a frame's body is."""
    try:
        message = msgpack.unpackb(
            body, raw=False, strict_map_key=True, max_array_len=ITEMS_MAX, max_map_len=ITEMS_MAX
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedMessageError(f"not msgpack: {error}") from error
    except RecursionError:
        raise MalformedMessageError("lists are nested too deep") from None
    if not isinstance(message, list) or not message:
        raise MalformedMessageError("a message is a list that says what it is")
    return message


class FrameReader:
    """Cuts a stream of bytes into the bodies of frames."""

    def __init__(self) -> None:
        """Expect the magic bytes first, then frames of a hello."""
        self.size_max = HELLO_SIZE_MAX
        self._buffer = bytearray()
        self._greeted = False

    @property
    def greeted(self) -> bool:
        """Whether the other end speaks this protocol."""
        return self._greeted

    def feed(self, received: bytes) -> None:
        """Take what was received; NotMgmtdError as soon as it cannot be this protocol."""
        self._buffer += received
        if not self._greeted:
            if not MAGIC.startswith(bytes(self._buffer[: len(MAGIC)])):
                raise NotMgmtdError("it does not speak the protocol of mgmtd")
            if len(self._buffer) >= len(MAGIC):
                self._greeted = True
                del self._buffer[: len(MAGIC)]

    def next(self) -> bytes | None:
        """Return the next whole body, or None until more is fed."""
        if not self._greeted or len(self._buffer) < HEAD_SIZE:
            return None
        size = int.from_bytes(self._buffer[:HEAD_SIZE], "little")
        if size > self.size_max:
            raise MalformedMessageError(f"a frame of {size} bytes, {self.size_max} is the limit")
        if len(self._buffer) < HEAD_SIZE + size:
            return None
        body = bytes(memoryview(self._buffer)[HEAD_SIZE : HEAD_SIZE + size])
        del self._buffer[: HEAD_SIZE + size]
        return body
