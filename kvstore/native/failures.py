"""Negative errnos of the C core as the errors of kvstore.errors, translated once, here."""

import errno
import os

from kvstore.errors import (
    DeniedError,
    DeviceError,
    InvalidOptionError,
    KVStoreError,
    KVTimeoutError,
    NoSpaceError,
    RequestCancelledError,
    StoreAccessError,
    StoreClosedError,
    StoreCorruptError,
    StoreLockedError,
    StoreNotFoundError,
    StoreOpenError,
    StoreUnavailableError,
    StoreVersionError,
)

OPEN_ERRORS: dict[int, type[KVStoreError]] = {
    errno.EBUSY: StoreLockedError,
    errno.ENOTSUP: StoreVersionError,
    errno.EBADMSG: StoreCorruptError,
    errno.EACCES: StoreAccessError,
    errno.EPERM: StoreAccessError,
    errno.EROFS: StoreAccessError,
    errno.ENOENT: StoreNotFoundError,
    errno.ENOSPC: NoSpaceError,
    errno.EDQUOT: NoSpaceError,
    errno.EINVAL: InvalidOptionError,
    errno.EIO: DeviceError,
}

CALL_ERRORS: dict[int, type[KVStoreError]] = {
    errno.ESHUTDOWN: StoreClosedError,
    errno.ENOSPC: NoSpaceError,
    errno.EDQUOT: NoSpaceError,
    errno.EIO: DeviceError,
    errno.EACCES: DeniedError,
    errno.EROFS: DeniedError,
    errno.ETIMEDOUT: KVTimeoutError,
    errno.ECANCELED: RequestCancelledError,
    errno.ENODEV: StoreUnavailableError,
    errno.EBADMSG: StoreCorruptError,
}

OFFLINE = "a device failure took the store offline"


def open_failure(code: int, directory: str, message: str) -> Exception:
    """Return the error for a failed open; *message* is the core's own words."""
    assert code < 0
    if code == -errno.ENOMEM:
        return MemoryError(message or f"no memory to open {directory}")
    error = OPEN_ERRORS.get(-code, StoreOpenError)
    return error(message or f"cannot open the store in {directory}: {os.strerror(-code)}")


def call_failure(code: int, call: str, directory: str) -> Exception:
    """Return the error for a failed *call*, named as its caller knows it."""
    assert code < 0
    if code == -errno.ENOMEM:
        return MemoryError(f"no memory to {call} in {directory}")
    error = CALL_ERRORS.get(-code, KVStoreError)
    reason = OFFLINE if code == -errno.ENODEV else os.strerror(-code)
    return error(f"cannot {call} in {directory}: {reason}")
