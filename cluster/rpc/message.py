"""The messages after the hello, as lists.

REQUEST  id, method, milliseconds until the answer is of no use, parameters
REPLY    id, result                     FAILURE  id, code, message, detail
PUSH     subscription, what is new
"""

from enum import IntEnum, unique

METHOD_SIZE_MAX = 32
REQUEST_ID_MAX = 2**32 - 1
TIMEOUT_MS_MAX = 3_600_000
REQUESTS_IN_FLIGHT_MAX = 64
"""Of one connection; what comes on top is refused with BusyError."""
PING = "ping"
"""The method that every end answers by itself."""


@unique
class Kind(IntEnum):
    """What a message is; the numbers do not overlap with those of the hello."""

    REQUEST = 16
    REPLY = 17
    FAILURE = 18
    PUSH = 19
