"""Every call of a store, as a generator of requests that neither blocks nor awaits.

A caller executes each request that the generator yields, then resumes it; what it returns is the
result of the call. Store does so on its thread, AsyncStore on its event loop: the rules are here,
once. Reads of one request come without a generator, which would cost a small one more than its
lookup in the core: the caller executes the request, and hands it to the function that concludes it.

Guarantees: results keep the order of the keys; whatever ends the generator, the caller's buffers
are let go of. Leaves to others: to close a generator only when its last request is done.
"""

from collections.abc import Generator
from math import ceil
from typing import TypeAlias, TypeVar

from kvstore.client.failures import batch_failure, failure, too_small
from kvstore.client.size_hint import SizeHint
from kvstore.native.listing import PINNED, expiry_s_of
from kvstore.native.request import GET, Operation, Request
from kvstore.types import Buffer, Buffers, Key, Keys, ObjectStat, SetStatus, Status

T = TypeVar("T")
Steps: TypeAlias = Generator[Request, None, T]
Read: TypeAlias = tuple[list[int], list[bytes | None], list[int], tuple[Key, ...]]
"""Statuses, values, sizes and the keys, of one attempt to read."""

NO_SUCH_KEY = -1
"""Among sizes of values that were written; what is smaller is a failure."""
READ_ATTEMPTS_MAX = 8
"""How often a value may grow between its stat and its get before the read gives up."""
TTL_S_MAX = 10 * 365 * 24 * 3600

# A member of an enum costs a look-up each time, and each read asks for this one.
BUFFER_TOO_SMALL = int(Status.BUFFER_TOO_SMALL)

SET_STATUSES = {int(status): status for status in SetStatus}
SET_STATUSES[Status.OUTCOME_UNKNOWN] = SetStatus.UNAVAILABLE


def ttl_ms_of(ttl_s: float | None) -> int:
    """Return milliseconds; 0 stands for the default of the store."""
    if ttl_s is None:
        return 0
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float):
        raise TypeError(f"ttl_s: expected seconds or None, got {type(ttl_s).__name__}")
    if not 0 < ttl_s <= TTL_S_MAX:
        raise ValueError(f"ttl_s: {ttl_s!r} is not between 0 and {TTL_S_MAX} seconds")
    return ceil(ttl_s * 1000)


def execute(request: Request) -> Steps[None]:
    """Have a request executed, unless it has no keys."""
    if request.columns.count > 0:
        yield request


def execute_as_one(request: Request) -> Steps[None]:
    """Have a request executed whose results cannot tell a failure: when it was given up, raise."""
    yield from execute(request)
    if request.status != Status.OK:
        raise batch_failure(Status(request.status))


# Batches: a failure is the result of its key, where a result can tell it.


def batch_set(
    keys: Keys, values: Buffers, *, ttl_s: float | None, if_absent: bool
) -> Steps[list[SetStatus]]:
    """Set every key; what became of each."""
    statuses = yield from set_all(keys, values, ttl_s=ttl_s, if_absent=if_absent)
    return [SET_STATUSES[status] for status in statuses]


def set_all(
    keys: Keys, values: Buffers, *, ttl_s: float | None, if_absent: bool
) -> Steps[list[int]]:
    """Set every key; what the core says of each."""
    ttl_ms = ttl_ms_of(ttl_s)
    with Request.set(keys, values, ttl_ms=ttl_ms, if_absent=if_absent) as request:
        yield from execute(request)
        return request.columns.statuses()


def batch_get(keys: Keys, hint: SizeHint | None) -> Steps[list[bytes | None]]:
    """Read every key; None where there is none, or where it cannot be read."""
    _, values = yield from read(keys, hint)
    return values


def batch_stat(keys: Keys) -> Steps[list[ObjectStat | None]]:
    """Describe every key; None where there is none."""
    with Request.of_keys(Operation.STAT, keys) as request:
        yield from execute_as_one(request)
        return object_stats(request)


def match_prefix(keys: Keys) -> Steps[int]:
    """Count the leading keys that exist."""
    with Request.of_keys(Operation.MATCH_PREFIX, keys) as request:
        yield from execute_as_one(request)
        return request.matched


def for_each(operation: Operation, keys: Keys) -> Steps[list[bool]]:
    """Do what succeeds on keys that exist: whether it did, for each."""
    with Request.of_keys(operation, keys) as request:
        yield from execute_as_one(request)
        return request.columns.succeeded()


# Reads of one request: their conclusions.


def written(request: Request) -> list[int]:
    """Return the bytes written into each buffer, or -1, -2, -3."""
    return request.columns.written()


def written_to_one(request: Request) -> int:
    """Return the bytes written into the one buffer, or -1 where there is no such key."""
    columns = request.columns
    size = columns.written()[0]
    if size < NO_SUCH_KEY:
        key, status = columns.keys[0], Status(columns.statuses()[0])
        if status is Status.BUFFER_TOO_SMALL:
            raise too_small(key, columns.sizes()[0])
        raise failure(status, key)
    return size


def hinted(keys: Keys, hint: SizeHint) -> Request:
    """Ask for values at once, in as much room as the hint says."""
    request = Request.of_keys(GET, keys)
    columns = request.columns
    columns.allocate_results(hint.room_for(columns.count))
    return request


def value_if_it_fits(request: Request) -> bytes | int | None:
    """Return the value of the one key, or its size: the room was too small; None: no such key."""
    columns = request.columns
    value = columns.values()[0]
    if value is None:
        status = columns.statuses()[0]
        if status == BUFFER_TOO_SMALL:
            return columns.sizes()[0]
        if status != Status.NOT_FOUND:
            raise failure(Status(status), columns.keys[0])
    return value


# One key: a failure is an exception.


def set_one(key: Key, value: Buffer, *, ttl_s: float | None, if_absent: bool) -> Steps[SetStatus]:
    """Set one key; OK, or EXISTS with if_absent."""
    statuses = yield from set_all((key,), (value,), ttl_s=ttl_s, if_absent=if_absent)
    if statuses[0] not in (Status.OK, Status.EXISTS):
        raise failure(Status(statuses[0]), key)
    return SET_STATUSES[statuses[0]]


def get_one(key: Key, hint: SizeHint | None) -> Steps[bytes | None]:
    """Read one key; None where there is none."""
    statuses, values = yield from read((key,), hint)
    if values[0] is None and statuses[0] != Status.NOT_FOUND:
        raise failure(Status(statuses[0]), key)
    return values[0]


def stat_one(key: Key) -> Steps[ObjectStat | None]:
    """Describe one key; None where there is none."""
    with Request.of_keys(Operation.STAT, (key,)) as request:
        yield request
        check_found_or_not(request, key)
        return object_stats(request)[0]


def succeeds_on_one(operation: Operation, key: Key) -> Steps[bool]:
    """Do what succeeds on a key that exists: whether it did."""
    with Request.of_keys(operation, (key,)) as request:
        yield request
        check_found_or_not(request, key)
        return request.columns.succeeded()[0]


def check_found_or_not(request: Request, key: Key) -> None:
    """Raise the failure of the one key of *request*, if it is one."""
    status = Status(request.columns.statuses()[0])
    if status not in (Status.OK, Status.NOT_FOUND):
        raise failure(status, key)


def object_stats(request: Request) -> list[ObjectStat | None]:
    """Return what a STAT found."""
    return [
        None
        if row is None
        else ObjectStat(row[0], row[1], expiry_s_of(row[2]), row[3], bool(row[4] & PINNED))
        for row in request.columns.object_stats()
    ]


# Reading into fresh bytes objects.


def read(keys: Keys, hint: SizeHint | None) -> Steps[tuple[list[int], list[bytes | None]]]:
    """Read every key into a bytes object of its own.

    Without a *hint* sizes are asked for first; with one, values that it is large enough for come at
    once. A value that does not fit, since it is larger or grew, is read again, and it alone.
    """
    first = read_sized(keys) if hint is None else read_hinted(keys, hint)
    statuses, values, sizes, all_keys = yield from first
    for _ in range(READ_ATTEMPTS_MAX):
        if BUFFER_TOO_SMALL not in statuses:
            return statuses, values
        grown = [i for i, status in enumerate(statuses) if status == BUFFER_TOO_SMALL]
        again = yield from read_into_room([all_keys[i] for i in grown], [sizes[i] for i in grown])
        for i, status, value, size in zip(grown, *again, strict=True):
            statuses[i], values[i], sizes[i] = status, value, size
    statuses = [Status.TIMEOUT if status == BUFFER_TOO_SMALL else status for status in statuses]
    return statuses, values


def read_sized(keys: Keys) -> Steps[Read]:
    """Ask for sizes, then for values: two steps that cost little where the index is at hand."""
    with Request.of_keys(Operation.STAT, keys) as request:
        yield from execute(request)
        columns = request.columns
        columns.allocate_results()
        request.operation = Operation.GET
        yield from execute(request)
        return columns.statuses(), columns.values(), columns.sizes(), columns.keys


def read_hinted(keys: Keys, hint: SizeHint) -> Steps[Read]:
    """Ask for values at once, in as much room as the hint says."""
    with hinted(keys, hint) as request:
        columns = request.columns
        yield from execute(request)
        hint.note(columns.largest())
        return columns.statuses(), columns.values(), columns.sizes(), columns.keys


def read_into_room(
    keys: list[Key], sizes: list[int]
) -> Steps[tuple[list[int], list[bytes | None], list[int]]]:
    """Ask for values of known sizes."""
    with Request.of_keys(Operation.GET, keys) as request:
        columns = request.columns
        columns.allocate_results(sizes)
        yield from execute(request)
        return columns.statuses(), columns.values(), columns.sizes()
