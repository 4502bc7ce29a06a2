"""Statistics of the C core, from the bytes of its structs: u64s in order, little-endian.

In this process they come from memory, from a node they come in a control reply: the bytes are the
same, as all machines that this runs on are little-endian.
"""

import sys
from struct import Struct

from kvstore._native import ffi
from kvstore.types import NodeStatistics, SlabRow, Stats

assert sys.byteorder == "little"

SLAB_ROW = Struct("<IIIIQQQ")
STORE_STATISTICS_SIZE: int = ffi.sizeof("kv_store_statistics")
NODE_STATISTICS_SIZE: int = ffi.sizeof("kv_node_statistics")

assert SLAB_ROW.size == ffi.sizeof("kv_slab_row")


def numbers_of(packed: bytes) -> tuple[int, ...]:
    """Return the u64s."""
    return Struct(f"<{len(packed) // 8}Q").unpack(packed)


def stats_of(description: str, packed: bytes) -> Stats:
    """Return the statistics of a kv_store_statistics."""
    names = [name for name, _ in ffi.typeof("kv_store_statistics").fields]
    return Stats(description=description, **dict(zip(names, numbers_of(packed), strict=True)))


def node_statistics_of(packed: bytes) -> NodeStatistics:
    """Return the statistics of a kv_node_statistics."""
    numbers, position = numbers_of(packed), 0
    values: dict[str, int | tuple[int, ...]] = {}
    for name, field in ffi.typeof("kv_node_statistics").fields:
        width = field.type.length if field.type.kind == "array" else 1
        found = numbers[position : position + width]
        values[name] = found if field.type.kind == "array" else found[0]
        position += width
    assert position == len(numbers)
    return NodeStatistics(**values)  # type: ignore[arg-type]


def parse_slabs(packed: bytes) -> tuple[SlabRow, ...]:
    """Return the rows of an array of kv_slab_row."""
    return tuple(
        SlabRow(slab_class, extent_size, slabs, live_count, live_size, free_size)
        for slab_class, extent_size, slabs, _, live_count, live_size, free_size in (
            SLAB_ROW.iter_unpack(packed)
        )
    )
