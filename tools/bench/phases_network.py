"""The clocked part of a worker where more, or less, than one batch is in flight.

Guarantees: those of tools.bench.phases.
"""

import time
from itertools import cycle

from tools.bench.contestants.abilities import Pipelined, SingleGetter
from tools.bench.failures import ContestantError
from tools.bench.pages import Pages, wrong_edges
from tools.bench.phases import Clock, Timing, check, without_garbage_collection
from tools.bench.stats import quantile


def pipelined_get_phase(
    contestant: Pipelined, pages: Pages, seed: int, limit_s: float, depth: int
) -> Timing:
    """Read keys in a shuffled order with *depth* batches in flight.

    Nothing is checked while others are in flight, but afterwards all that the window still holds.
    """
    batches = cycle(pages.get_batches(seed))
    clock = Clock()
    with without_garbage_collection(), clock.running():
        done = contestant.get_pipelined(batches, depth, limit_s)
    left = {id(batch.targets[0]): batch for batch, _ in done}
    for batch in left.values():
        check(wrong_edges(batch), batch)
    timing = clock.timing(sum(len(batch.keys) for batch, _ in done) * pages.size)
    latencies = [seconds for _, seconds in done]
    timing.p50_ms = quantile(latencies, 0.5) * 1e3
    timing.p99_ms = quantile(latencies, 0.99) * 1e3
    return timing


def single_get_phase(contestant: SingleGetter, pages: Pages, seed: int, limit_s: float) -> Timing:
    """Read one key after another as fresh bytes."""
    batches = pages.get_batches(seed)
    singles = [pair for batch in batches for pair in zip(batch.keys, batch.sources, strict=True)]
    clock = Clock()
    with without_garbage_collection():
        end = time.monotonic() + limit_s
        for key, source in cycle(singles):
            with clock.running():
                value = contestant.get_one(key)
            if value is None or memoryview(value) != source:
                raise ContestantError("a value came back wrong")
            if time.monotonic() >= end:
                break
    return clock.timing(len(clock.seconds) * pages.size)
