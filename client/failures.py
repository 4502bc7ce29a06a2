"""The typed exception of a call on one key, from the status that the core gave."""

from kvstore.errors import (
    BufferTooSmallError,
    CorruptValueError,
    DeniedError,
    DeviceError,
    KVStoreError,
    KVTimeoutError,
    NoSpaceError,
    OutcomeUnknownError,
    QuotaError,
    RequestCancelledError,
    StoreUnavailableError,
    TooLargeError,
)
from kvstore.types import Key, Status

KEY_SHOWN_SIZE = 64

FAILURES: dict[Status, tuple[type[KVStoreError], str]] = {
    Status.NO_SPACE: (NoSpaceError, "the store is full"),
    Status.QUOTA: (QuotaError, "the store holds as many objects as objects_max allows"),
    Status.TOO_LARGE: (TooLargeError, "the value exceeds 64 MiB"),
    Status.UNAVAILABLE: (
        StoreUnavailableError,
        "its target is offline after a device failure, or its node does not answer",
    ),
    Status.TIMEOUT: (KVTimeoutError, "not done within timeout_s"),
    Status.DENIED: (DeniedError, "the store is open read-only, or the node grants no such right"),
    Status.CORRUPT: (CorruptValueError, "the stored bytes do not match their checksum"),
    Status.IO_ERROR: (DeviceError, "the device failed"),
    Status.CANCELLED: (RequestCancelledError, "the store closed before the request was done"),
    Status.OUTCOME_UNKNOWN: (
        OutcomeUnknownError,
        "the node went away in the middle of the update, which may or may not have happened",
    ),
}


def shown(key: Key) -> str:
    """Return a key as a message shows it: cut when it is long."""
    return repr(key) if len(key) <= KEY_SHOWN_SIZE else f"{key[:KEY_SHOWN_SIZE]!r}…"


def failure(status: Status, key: Key) -> KVStoreError:
    """Return the exception for a status that is a failure of its key."""
    error, reason = FAILURES[status]
    return error(f"key {shown(key)}: {reason}")


def explain(error: KVStoreError, why: str) -> None:
    """Add why the last connection failed, where one has, to what an error says."""
    if why:
        error.args = (f"{error} (the last connection that failed: {why})",)


def batch_failure(status: Status) -> KVStoreError:
    """Return the exception for a batch that was given up as a whole."""
    error, reason = FAILURES[status]
    return error(f"the batch was given up: {reason}")


def too_small(key: Key, size_needed: int) -> KVStoreError:
    """Return the exception for a buffer that cannot hold the value."""
    return BufferTooSmallError(
        f"key {shown(key)}: the value has {size_needed} bytes, the buffer has fewer", size_needed
    )
