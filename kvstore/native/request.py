"""One batch on its way to the C core: columns, with the kv_request that points at them.

Guarantees: everything that the core may touch lives until the request is closed.
Leaves to others: to close it only when the core is done (the run returned, or the tag was reaped).
"""

from enum import IntEnum
from types import TracebackType
from typing import Self

from kvstore._columns import Columns
from kvstore._native import ffi
from kvstore.types import Buffers, Keys


class Operation(IntEnum):
    """What a request asks for (kv_operation_kind)."""

    SET = 1
    GET = 2
    EXISTS = 3
    MATCH_PREFIX = 4
    DELETE = 5
    STAT = 6
    PIN = 7
    UNPIN = 8
    FLUSH = 9


# Types that are looked up by name at each use would be half the cost of a request, and members of
# an enum are looked up by a call.
REQUEST = ffi.typeof("kv_request *")
STATS = ffi.typeof("kv_item_stat *")

GET, SET, STAT = Operation.GET, Operation.SET, Operation.STAT

IMMEDIATE = frozenset((Operation.EXISTS, Operation.MATCH_PREFIX, Operation.STAT))


class Request:
    """A batch of one operation; a context manager that lets go of the caller's buffers.

    Its *pointer*, the kv_request, is for kvstore.native alone.
    """

    __slots__ = ("_operation", "columns", "pointer")

    def __init__(self, operation: Operation, columns: Columns) -> None:
        """Ask for *operation* of the columns, which the request owns from here on."""
        self.columns = columns
        self.pointer = ffi.cast(REQUEST, columns.request_address)
        self._operation = operation
        self.pointer.operation = operation
        if operation is STAT:
            self.pointer.stats = ffi.cast(STATS, columns.stat_address)

    @classmethod
    def of_keys(cls, operation: Operation, keys: Keys) -> Self:
        """Make a request of keys alone."""
        return cls(operation, Columns(keys))

    @classmethod
    def set(cls, keys: Keys, values: Buffers, *, ttl_ms: int, if_absent: bool) -> Self:
        """Make a set; *ttl_ms* 0 stands for the store's default."""
        request = cls(SET, Columns(keys, values))
        request.pointer.ttl_ms = ttl_ms
        request.pointer.if_absent = if_absent
        return request

    @classmethod
    def get_into(cls, keys: Keys, buffers: Buffers) -> Self:
        """Make a get into the caller's buffers."""
        return cls(GET, Columns(keys, buffers, writable=True))

    def __enter__(self) -> Self:
        """Return the request."""
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of the caller's buffers."""
        self.columns.release()

    def __repr__(self) -> str:
        """Show the operation and the number of keys."""
        return f"<Request {self._operation.name} of {self.columns.count} keys>"

    @property
    def operation(self) -> Operation:
        """What the request asks for; it may change between two runs of the same keys."""
        return self._operation

    @operation.setter
    def operation(self, operation: Operation) -> None:
        self._operation = operation
        self.pointer.operation = operation

    @property
    def immediate(self) -> bool:
        """Whether the answer is in memory: a thread switch would cost more than the work."""
        return self._operation in IMMEDIATE

    @property
    def matched(self) -> int:
        """How many leading keys a MATCH_PREFIX found."""
        return int(self.pointer.matched)

    @property
    def status(self) -> int:
        """Why a batch without values was given up as a whole (kv_status); 0: it was not."""
        return int(self.pointer.status)

    @property
    def tag(self) -> int:
        """The number under which a queue reports that the request is done."""
        return int(self.pointer.tag)

    @tag.setter
    def tag(self, tag: int) -> None:
        self.pointer.tag = tag
