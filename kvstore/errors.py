"""What can go wrong, as one tree.

    KVStoreError
    ├── InvalidURLError, InvalidOptionError   (also ValueError)
    ├── StoreOpenError                        the store does not open
    │   ├── StoreLockedError                  another process, or this one, has it open
    │   ├── StoreNotFoundError                nothing is there, and making it was not asked for
    │   ├── StoreVersionError                 written in another format version
    │   ├── StoreCorruptError                 damage that is not the torn end of a crash
    │   ├── StoreAccessError                  no right to read or write it, or a wrong secret
    │   └── StoreUnreachableError             no node of it answers, or all refuse
    ├── StoreClosedError                      the store was closed, or is closing
    │   └── ForkedError                       opened before a fork, used in the child
    ├── StoreUnavailableError                 its target is offline, or its node does not answer
    │   └── OutcomeUnknownError               the node went away in the middle of an update
    ├── NoSpaceError, QuotaError              nothing was stored, nothing was lost
    ├── TooLargeError                         the value exceeds the limit
    ├── BufferTooSmallError                   the value exceeds the buffer
    ├── KVTimeoutError                        (also TimeoutError) not done within timeout_s
    ├── DeniedError                           the store is read-only, or a node grants no right
    ├── CorruptValueError                     stored bytes do not match their checksum
    ├── DeviceError                           the device failed to read or write
    └── RequestCancelledError                 the store closed before the request was done

Calls on one key raise them. Batch calls answer for each key, and raise only for the whole store.
"""


class KVStoreError(Exception):
    """The root: every failure that the world causes."""


class InvalidURLError(KVStoreError, ValueError):
    """The URL of a store is malformed, or of a kind that this version does not serve."""


class InvalidOptionError(KVStoreError, ValueError):
    """An option has no such name, or its value makes no sense."""


class StoreOpenError(KVStoreError):
    """The store did not open; the message says what, which file or which node."""


class StoreLockedError(StoreOpenError):
    """The directory is open already, in another process or in this one."""


class StoreNotFoundError(StoreOpenError):
    """The directory holds no store, and the open mode does not make one."""


class StoreVersionError(StoreOpenError):
    """A file has a format version, or a node a protocol version, that this release cannot read."""


class StoreCorruptError(StoreOpenError):
    """A file is damaged in a way that no crash explains, so nothing is guessed."""


class StoreAccessError(StoreOpenError):
    """The directory cannot be used with the rights of this process, or a secret is wrong."""


class StoreUnreachableError(StoreOpenError):
    """No node of the store answers; the message says of each address why not."""


class StoreClosedError(KVStoreError):
    """The store was closed, or is closing."""


class ForkedError(StoreClosedError):
    """The store was opened before a fork and belongs to the parent: open it again in the child."""


class StoreUnavailableError(KVStoreError):
    """A device failure took the target offline, or its node does not answer within timeout_s.

    What was acknowledged is safe, and what was asked for did not happen.
    """


class OutcomeUnknownError(StoreUnavailableError):
    """The node went away in the middle of an update, which may or may not have happened."""


class NoSpaceError(KVStoreError):
    """The store is full; nothing was overwritten."""


class QuotaError(KVStoreError):
    """The store holds as many objects as objects_max allows."""


class TooLargeError(KVStoreError):
    """The value exceeds the largest size that a store keeps."""


class BufferTooSmallError(KVStoreError):
    """The value exceeds the buffer; `size_needed` is the value's size in bytes."""

    def __init__(self, message: str, size_needed: int) -> None:
        """Remember the size that would have been enough."""
        super().__init__(message)
        self.size_needed = size_needed


class KVTimeoutError(KVStoreError, TimeoutError):
    """The request was not done within its deadline; a set may or may not have happened."""


class DeniedError(KVStoreError):
    """The store is open read-only, or the node grants no right to do this."""


class CorruptValueError(KVStoreError):
    """The stored bytes do not match their checksum; they are never returned."""


class DeviceError(KVStoreError):
    """The device failed to read or to write."""


class RequestCancelledError(KVStoreError):
    """The store closed before this request was done; a set may or may not have happened."""
