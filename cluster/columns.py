"""Columns of integers as bytes: a base, and what each value is above it in the fewest whole bytes.

A column is the list [count, base, width, bytes] with width 0, 1, 2, 4 or 8, little endian. Equal
values take no byte each, and ids that count up take none either (`encode_ids`). Decoding trusts
nothing: counts are checked against a limit before anything is allocated.
"""

import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise

from kvstore.errors import MalformedRoutingError

VALUE_MAX = 2**63 - 1
TYPECODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
assert all(array(code).itemsize == width for width, code in TYPECODES.items())

Column = list[object]


def encode_column(values: Sequence[int]) -> Column:
    """Return the column of values from 0 to VALUE_MAX."""
    if not values:
        return [0, 0, 0, b""]
    base = min(values)
    assert base >= 0
    if len(values) == 1:
        return [1, base, 0, b""]
    span = max(values) - base
    assert base + span <= VALUE_MAX
    if span == 0:
        return [len(values), base, 0, b""]
    width = next(width for width in TYPECODES if span < 1 << 8 * width)
    packed = array(TYPECODES[width], [value - base for value in values])
    return [len(values), base, width, _little_endian(packed).tobytes()]


def decode_column(raw: object, name: str, count_max: int, value_max: int) -> list[int]:
    """Return the values of a column, at most `count_max` of them, none above `value_max`."""
    if not isinstance(raw, list) or len(raw) != 4:
        raise MalformedRoutingError(f"{name}: a column is a list of four")
    count, base, width, packed = raw
    if not type(count) is type(base) is type(width) is int:
        raise MalformedRoutingError(f"{name}: {raw[:3]!r} are no counts")
    if min(count, base, width) < 0 or base > VALUE_MAX:
        raise MalformedRoutingError(f"{name}: {raw[:3]!r} are no counts")
    if count > count_max:
        raise MalformedRoutingError(f"{name}: {count} values, {count_max} is the limit")
    if not isinstance(packed, bytes) or len(packed) != count * width:
        raise MalformedRoutingError(f"{name}: {count} values of {width} bytes were promised")
    if width == 0:
        if count > 0 and base > value_max:
            raise MalformedRoutingError(f"{name}: {base} exceeds {value_max}")
        return [base] * count
    values: list[int]
    if width in TYPECODES:
        above = array(TYPECODES[width])
        above.frombytes(packed)
        values = [base + value for value in _little_endian(above)]
    else:
        raise MalformedRoutingError(f"{name}: no column has values of {width} bytes")
    if values and max(values) > value_max:
        raise MalformedRoutingError(f"{name}: {max(values)} exceeds {value_max}")
    return values


def encode_ids(ids: Sequence[int]) -> Column:
    """Return the column of ids that grow: of the first, and of each one's distance."""
    return encode_column([*ids[:1], *(after - before for before, after in pairwise(ids))])


def decode_ids(raw: object, name: str, count_max: int, value_max: int) -> list[int]:
    """Return the ids of a column; each is greater than the one before."""
    gaps = decode_column(raw, name, count_max, value_max)
    if 0 in gaps:
        raise MalformedRoutingError(f"{name}: ids start at 1, grow, and none comes twice")
    ids = list(accumulate(gaps))
    if ids and ids[-1] > value_max:
        raise MalformedRoutingError(f"{name}: {ids[-1]} exceeds {value_max}")
    return ids


def _little_endian(values: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        values.byteswap()
    return values
