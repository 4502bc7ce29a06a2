"""CRC-32C of values that lie in memory, on one thread, against Intel's ISA-L.

Beside them, as the machine's limit, a look at every cache line of the same memory. All go through
the same 512 MiB, so that nothing comes from a cache.
"""

import ctypes
import mmap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from kvstore.native.checksum import checksum
from tools.bench.contestants.memcpy import address_of
from tools.bench.environment import LIBRARIES
from tools.bench.failures import ContestantError
from tools.bench.result import OURS, RatioGoal, Row, Sample
from tools.bench.rows.play import GB, Bench
from tools.bench.settings import MIB

MEMORY_SIZE = 512 * MIB
VALUE_SIZE = MIB
PASSES = 3
PEER = "isa-l"
LIMIT = "memory"
AT_LEAST = 1.0
PATTERN = bytes(range(1, 252))
CHECKED = b"123456789"
CHECKED_SUM = 0xE3069283
"""Of CRC-32C; source: the catalogue of parametrised CRC algorithms."""

Summing = Callable[[int, int], object]
"""Takes an address and a size in bytes."""


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the row."""
    with bench.play("checksum") as play:
        memory = filled()
        sums: dict[str, Summing] = {OURS: our_sum}
        for name, made in ((PEER, isal_sum), (LIMIT, look)):
            with play.attempt(name):
                sums[name] = made(bench)
        play.interleave({name: turn_of(sum_of, memory) for name, sum_of in sums.items()})
        yield play.row(
            "checksum",
            "CRC-32C from memory, 1 MiB at a time",
            "GB/s",
            RatioGoal(AT_LEAST, PEER),
        )


def filled() -> mmap.mmap:
    """Return memory in huge pages where there are some, every page of it touched."""
    memory = mmap.mmap(-1, MEMORY_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    piece = (PATTERN * (VALUE_SIZE // len(PATTERN) + 1))[:VALUE_SIZE]
    for at in range(0, MEMORY_SIZE, VALUE_SIZE):
        memory[at : at + VALUE_SIZE] = piece
    return memory


def our_sum(address: int, size: int) -> int:
    """Return the sum by the C core."""
    return checksum((ctypes.c_char * size).from_address(address))


def isal_sum(bench: Bench) -> Summing:
    """Return ISA-L's function; ContestantError when there is none, or it is another sum."""
    problem = bench.environment.problem(PEER)
    if problem:
        raise ContestantError(problem)
    function = ctypes.CDLL(LIBRARIES[PEER][0]).crc32_iscsi
    function.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    function.restype = ctypes.c_uint32
    text = ctypes.create_string_buffer(CHECKED)
    found = function(ctypes.addressof(text), len(CHECKED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    if found != CHECKED_SUM:
        raise ContestantError(f"its sum of {CHECKED!r} is {found:#x}, not {CHECKED_SUM:#x}")
    return lambda address, size: function(address, size, 0xFFFFFFFF)


def look(bench: Bench) -> Summing:
    """Return the function that looks at every cache line."""
    function = ctypes.CDLL(str(bench.environment.library)).bench_look
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    function.restype = ctypes.c_uint64
    return lambda address, size: function(address, size)


def turn_of(sum_of: Summing, memory: mmap.mmap) -> Callable[[int], Sample]:
    """Return what goes through the memory some times; its figure is that of the fastest pass."""
    first = address_of(memoryview(memory))

    def turn(round_index: int) -> Sample:
        del round_index
        return Sample(max(one_pass() for _ in range(PASSES)))

    def one_pass() -> float:
        begun = time.perf_counter()
        for at in range(first, first + MEMORY_SIZE, VALUE_SIZE):
            sum_of(at, VALUE_SIZE)
        return MEMORY_SIZE / GB / (time.perf_counter() - begun)

    return turn
