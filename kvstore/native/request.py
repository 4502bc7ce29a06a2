"""One batch on its way to the C core: the kv_request with the columns it points at.

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


# Types that are looked up by name at each use would be half the cost of a request.
REQUEST = ffi.typeof("kv_request *")
ITEMS = ffi.typeof("kv_item *")
STATS = ffi.typeof("kv_item_stat *")

IMMEDIATE = frozenset((Operation.EXISTS, Operation.MATCH_PREFIX, Operation.STAT))


class Request:
    """A batch of one operation; a context manager that lets go of the caller's buffers."""

    __slots__ = ("_operation", "_request", "columns")

    def __init__(self, operation: Operation, columns: Columns) -> None:
        """Point a kv_request at the columns, which the request owns from here on."""
        self.columns = columns
        self._request = request = ffi.new(REQUEST)
        request.items = ffi.cast(ITEMS, columns.address)
        request.count = columns.count
        self.operation = operation

    @classmethod
    def of_keys(cls, operation: Operation, keys: Keys) -> Self:
        """Make a request of keys alone."""
        return cls(operation, Columns(keys))

    @classmethod
    def set(cls, keys: Keys, values: Buffers, *, ttl_ms: int, if_absent: bool) -> Self:
        """Make a set; *ttl_ms* 0 stands for the store's default."""
        request = cls(Operation.SET, Columns(keys, values))
        request._request.ttl_ms = ttl_ms
        request._request.if_absent = if_absent
        return request

    @classmethod
    def get_into(cls, keys: Keys, buffers: Buffers) -> Self:
        """Make a get into the caller's buffers."""
        return cls(Operation.GET, Columns(keys, buffers, writable=True))

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
        self._request.operation = operation
        if operation is Operation.STAT:
            self._request.stats = ffi.cast(STATS, self.columns.stat_address)

    @property
    def immediate(self) -> bool:
        """Whether the answer is in memory: a thread switch would cost more than the work."""
        return self._operation in IMMEDIATE

    @property
    def matched(self) -> int:
        """How many leading keys a MATCH_PREFIX found."""
        return int(self._request.matched)

    @property
    def status(self) -> int:
        """Why a batch without values was given up as a whole (kv_status); 0: it was not."""
        return int(self._request.status)

    @property
    def tag(self) -> int:
        """The number under which a queue reports that the request is done."""
        return int(self._request.tag)

    @tag.setter
    def tag(self, tag: int) -> None:
        self._request.tag = tag

    @property
    def pointer(self) -> object:
        """The kv_request, for kvstore.native alone."""
        return self._request
