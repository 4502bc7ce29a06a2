"""The C structs behind Columns, laid out once more: tests read and answer them like the core."""

import ctypes

from kvstore._columns import Columns


class Item(ctypes.Structure):
    """kv_item."""

    _fields_ = (
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("result_size", ctypes.c_uint32),
        ("status", ctypes.c_int32),
    )


class ItemStat(ctypes.Structure):
    """kv_item_stat."""

    _fields_ = (
        ("version", ctypes.c_uint64),
        ("expiry_ms", ctypes.c_uint64),
        ("checksum", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    )


def items_of(columns: Columns) -> "ctypes.Array[Item]":
    """Return the items in place; they keep the columns alive."""
    items = (Item * columns.count).from_address(columns.address)
    items.columns = columns  # type: ignore[attr-defined]
    return items


def stats_of(columns: Columns) -> "ctypes.Array[ItemStat]":
    """Return the stats in place."""
    return (ItemStat * columns.count).from_address(columns.stat_address)


def key_of(item: Item) -> bytes:
    """Return the key that an item points at."""
    return ctypes.string_at(item.key, item.key_size)


def value_of(item: Item) -> bytes:
    """Return the value that an item points at."""
    return ctypes.string_at(item.value, item.value_size)
