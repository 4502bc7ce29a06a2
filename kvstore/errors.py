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
    ├── RequestCancelledError                 the store closed before the request was done
    └── ClusterError                          what only many nodes can do wrong
        ├── MalformedRoutingError             (also ValueError) bytes that are no routing info
        ├── RoutingVersionError               a delta between other versions than asked for
        ├── ChainChangeError                  a change that would lose data or make no chain
        ├── PlacementError                    the nodes cannot hold what was asked for
        ├── MetadataError                     the metadata store
        │   ├── MetadataUnavailableError      nothing was changed
        │   ├── AmbiguousError                the change may or may not have happened
        │   ├── CompactedError                the changes asked for are forgotten: list again
        │   ├── SessionLostError              the session's keys are gone, or may be
        │   └── NotPrimaryError               another mgmtd is primary; nothing was changed
        ├── RegistrationError                 mgmtd does not let a node join
        ├── NotRegisteredError                mgmtd does not know this start of a node
        ├── MgmtdUnavailableError             no mgmtd that is primary answers
        ├── BusyError                         as much is under way as may be: try again later
        └── RpcError                          a connection for control messages
            ├── NotMgmtdError                 something else than mgmtd listens there
            ├── RpcVersionError               the two ends speak no version in common
            ├── MalformedMessageError         (also ValueError) bytes that are no message
            └── ConnectionLostError           it ended before the answer came

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


class ClusterError(KVStoreError):
    """What only many nodes can do wrong."""


class MalformedRoutingError(ClusterError, ValueError):
    """The bytes are no routing info and no delta that this version reads; says what, and where."""


class RoutingVersionError(ClusterError):
    """A delta leads from another version, or belongs to another cluster: ask for all of it."""


class ChainChangeError(ClusterError):
    """The change would lose data or leave no chain; the message says what to do instead."""


class PlacementError(ClusterError):
    """The nodes cannot hold the chains asked for; the message says what is short."""


class MetadataError(ClusterError):
    """The metadata store refused, or failed for good."""


class MetadataUnavailableError(MetadataError):
    """The metadata store did not answer in time; nothing was changed."""


class AmbiguousError(MetadataError):
    """No answer came: the change may have happened, or may still happen. Read before you go on."""


class CompactedError(MetadataError):
    """The changes since that revision are forgotten: list again, and watch from there."""


class SessionLostError(MetadataError):
    """The session was not renewed in time: its keys are gone, or may go at any moment."""


class NotPrimaryError(MetadataError):
    """This mgmtd is not, or no longer, the primary; nothing was changed."""


class RegistrationError(ClusterError):
    """mgmtd does not let the node join; the message says what to do."""


class NotRegisteredError(ClusterError):
    """mgmtd does not know this start of the node, or took another for it: register again."""


class MgmtdUnavailableError(ClusterError):
    """No mgmtd that is primary answered in time; the message says of each address why not."""


class BusyError(ClusterError):
    """As many requests are under way as may be; nothing was done. Try again later."""


class RpcError(ClusterError):
    """A connection for control messages could not be made, or ended."""


class NotMgmtdError(RpcError):
    """Whatever listens at the address is no mgmtd: a storage node's data port, perhaps."""


class RpcVersionError(RpcError):
    """The two ends speak no version in common; the message says which each of them speaks."""


class MalformedMessageError(RpcError, ValueError):
    """The bytes are no message that this version reads, or one that exceeds a limit."""


class ConnectionLostError(RpcError):
    """The connection ended before the answer came: what was asked for may have happened."""
