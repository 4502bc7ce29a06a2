"""Serving the requests of a trace from a store, and what came of it.

match_prefix ──► batch_get_into the hits, check every byte ──► batch_set the rest

Guarantees: keys go to the store in the order of the prompt, so that a cache keeps prefixes before
what depends on them; of a block that occurs twice in a request, every occurrence counts as a hit
and one is stored. Time is that of the store's calls, without making and checking contents.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from time import perf_counter_ns
from typing import TypeVar

from kvstore.client import SetStatus, Store
from kvstore.commands.content import BlockContent
from kvstore.commands.lru import LRU
from kvstore.commands.trace import TraceRequest

BATCH_COUNT_MAX = 65536
"""Keys in one call, as the core limits it."""
T = TypeVar("T")


@dataclass(slots=True)
class ReplayFigures:
    """What has been counted so far. Sizes are bytes: in is what was set, out is what was got."""

    requests: int = 0
    blocks: int = 0
    hit_blocks: int = 0
    lru_hit_blocks: int = 0
    set_blocks: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    verify_failures: int = 0
    set_failures: int = 0
    set_failure: SetStatus = SetStatus.OK
    """What the last failed set answered."""
    request_ns: list[int] = field(default_factory=list)
    """Time of each request in the store's calls."""

    @property
    def hit_ratio(self) -> float:
        """Hits of all blocks."""
        return self.hit_blocks / max(1, self.blocks)

    @property
    def lru_hit_ratio(self) -> float:
        """Hits that a cache of the same capacity with LRU would have had, of all blocks."""
        return self.lru_hit_blocks / max(1, self.blocks)

    @property
    def store_s(self) -> float:
        """Seconds in the store's calls."""
        return sum(self.request_ns) / 1e9

    @property
    def gb_per_s(self) -> float:
        """Gigabytes in and out for each second in the store's calls."""
        seconds = self.store_s
        return (self.bytes_in + self.bytes_out) / 1e9 / seconds if seconds else 0.0


class Replay:
    """A store under a trace."""

    def __init__(
        self, store: Store, block_size: int, batch_count: int, lru_capacity: int | None
    ) -> None:
        """Serve from *store* in batches of *batch_count* keys."""
        assert 0 < batch_count <= BATCH_COUNT_MAX
        self.figures = ReplayFigures()
        self._store = store
        self._content = BlockContent(block_size)
        self._batch_count = batch_count
        self._buffers: list[bytearray] = []
        self._wiped = bytes(block_size)
        self._lru = LRU(lru_capacity)
        self._spent_ns = 0

    def serve(self, request: TraceRequest) -> None:
        """Read what is stored of one request's prefix, and store the rest."""
        block_ids, figures = request.block_ids, self.figures
        self._spent_ns = 0
        matched = self._match(block_ids)
        hits = self._read(block_ids[:matched])
        self._write(tuple(dict.fromkeys(block_ids[hits:])))
        figures.requests += 1
        figures.blocks += len(block_ids)
        figures.hit_blocks += hits
        figures.lru_hit_blocks += self._lru.serve(block_ids)
        figures.request_ns.append(self._spent_ns)

    def _match(self, block_ids: Sequence[int]) -> int:
        """Count the leading blocks that are stored."""
        matched = 0
        for part in batches(block_ids, self._batch_count):
            keys = keys_of(part)
            found = self._timed(partial(self._store.match_prefix, keys))
            matched += found
            if found < len(part):
                break
        return matched

    def _read(self, block_ids: Sequence[int]) -> int:
        """Read and check blocks; how many were still there, up to the first that was not."""
        block_size, hits = self._content.block_size, 0
        for part in batches(block_ids, self._batch_count):
            keys, buffers = keys_of(part), self._buffers_for(len(part))
            sizes = self._timed(partial(self._store.batch_get_into, keys, buffers))
            for block_id, size, buffer in zip(part, sizes, buffers, strict=True):
                if size == -1:
                    return hits
                hits += 1
                if size == block_size and self._content.matches(block_id, buffer):
                    self.figures.bytes_out += size
                else:
                    self.figures.verify_failures += 1
        return hits

    def _write(self, block_ids: Sequence[int]) -> None:
        """Store blocks, whether or not some are stored already."""
        for part in batches(block_ids, self._batch_count):
            keys, values = keys_of(part), [self._content.of(block_id) for block_id in part]
            statuses = self._timed(partial(self._store.batch_set, keys, values))
            stored = statuses.count(SetStatus.OK)
            self.figures.set_blocks += stored
            self.figures.bytes_in += stored * self._content.block_size
            if stored < len(part):
                self.figures.set_failures += len(part) - stored
                self.figures.set_failure = next(s for s in statuses if s is not SetStatus.OK)

    def _buffers_for(self, count: int) -> list[bytearray]:
        """Return buffers, wiped: what an earlier read has left there must not pass for a read."""
        while len(self._buffers) < count:
            self._buffers.append(bytearray(self._wiped))
        for buffer in self._buffers[:count]:
            buffer[:] = self._wiped
        return self._buffers[:count]

    def _timed(self, call: Callable[[], T]) -> T:
        start_ns = perf_counter_ns()
        result = call()
        self._spent_ns += perf_counter_ns() - start_ns
        return result


def batches(block_ids: Sequence[int], count: int) -> Iterator[tuple[int, ...]]:
    """Yield the blocks in runs of at most *count*."""
    remaining = iter(block_ids)
    while part := tuple(islice(remaining, count)):
        yield part


def keys_of(block_ids: Sequence[int]) -> list[bytes]:
    """Return the keys under which blocks are stored."""
    return [b"block/%d" % block_id for block_id in block_ids]


def quantile_ms(times_ns: Sequence[int], share: float) -> float:
    """Return the time that *share* of all stay within, in milliseconds; 0.99 for p99."""
    if not times_ns:
        return 0.0
    ordered = sorted(times_ns)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1e6
