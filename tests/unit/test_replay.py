"""What a replay counts, and that its check of bytes sees what is wrong."""

from collections.abc import Callable, Iterable
from random import Random
from typing import cast

import pytest

from kvstore.client import SetStatus, Store
from kvstore.commands.content import BlockContent
from kvstore.commands.lru import LRU
from kvstore.commands.replay import Replay, batches, quantile_ms
from kvstore.commands.trace import TraceRequest

SIZE = 1000


class DictStore:
    """The calls of a store that a replay makes, on a dict; *damage* changes what is read."""

    def __init__(self, damage: Callable[[bytearray], None] | None = None) -> None:
        self.values: dict[bytes, bytes] = {}
        self.status = SetStatus.OK
        self.batches: list[tuple[str, int]] = []
        self._damage = damage

    def match_prefix(self, keys: list[bytes]) -> int:
        self.batches.append(("match", len(keys)))
        for count, key in enumerate(keys):
            if key not in self.values:
                return count
        return len(keys)

    def batch_get_into(self, keys: list[bytes], buffers: list[bytearray]) -> list[int]:
        self.batches.append(("get", len(keys)))
        for key, buffer in zip(keys, buffers, strict=True):
            buffer[:] = self.values[key]
            if self._damage is not None:
                self._damage(buffer)
        return [len(self.values[key]) for key in keys]

    def batch_set(self, keys: list[bytes], values: Iterable[memoryview]) -> list[SetStatus]:
        self.batches.append(("set", len(keys)))
        if self.status is SetStatus.OK:
            self.values.update(zip(keys, map(bytes, values), strict=True))
        return [self.status] * len(keys)


def replay_on(store: DictStore, batch_count: int = 100, capacity: int | None = None) -> Replay:
    return Replay(cast("Store", store), SIZE, batch_count, capacity)


def serve(replay: Replay, *prompts: tuple[int, ...]) -> Replay:
    for time, prompt in enumerate(prompts):
        replay.serve(TraceRequest(time, prompt))
    return replay


def test_leading_stored_blocks_are_hits_and_the_rest_is_stored() -> None:
    figures = serve(replay_on(DictStore()), (1, 2, 3), (1, 2, 4), (5, 1), (1, 2, 4)).figures

    assert (4, 11, 5) == (figures.requests, figures.blocks, figures.hit_blocks)
    assert 5 / 11 == figures.hit_ratio
    assert figures.lru_hit_blocks == figures.hit_blocks
    assert 5 * SIZE == figures.bytes_out
    assert 6 * SIZE == figures.bytes_in
    assert (0, 0) == (figures.verify_failures, figures.set_failures)
    assert 4 == len(figures.request_ns)


def test_a_block_twice_in_a_request_is_stored_once_and_hit_twice() -> None:
    store = DictStore()

    figures = serve(replay_on(store), (7, 7, 8, 7), (7, 7, 8, 7)).figures

    assert 4 == figures.hit_blocks
    assert 2 == figures.set_blocks
    assert figures.lru_hit_blocks == figures.hit_blocks


def test_an_empty_request() -> None:
    figures = serve(replay_on(DictStore()), ()).figures

    assert (1, 0, 0.0) == (figures.requests, figures.blocks, figures.hit_ratio)


def test_batches_are_bounded_and_matching_stops_at_the_first_gap() -> None:
    store = DictStore()
    replay = serve(replay_on(store, batch_count=2), (1, 2, 3))
    store.batches.clear()

    serve(replay, (1, 2, 3, 4, 5, 6, 7))

    matches = [("match", 2), ("match", 2)]
    assert [*matches, ("get", 2), ("get", 1), ("set", 2), ("set", 2)] == store.batches


@pytest.mark.parametrize("position", [0, 1, 8, 500, SIZE - 1])
def test_one_wrong_byte_is_seen(position: int) -> None:
    def damage(buffer: bytearray) -> None:
        buffer[position] ^= 1

    figures = serve(replay_on(DictStore(damage)), (1, 2), (1, 2)).figures

    assert 2 == figures.verify_failures
    assert 0 == figures.bytes_out


def test_bytes_of_another_block_are_seen() -> None:
    store = DictStore()
    replay = serve(replay_on(store), (1, 2))
    store.values[b"block/1"], store.values[b"block/2"] = (
        store.values[b"block/2"],
        store.values[b"block/1"],
    )

    assert 2 == serve(replay, (1, 2)).figures.verify_failures


def test_a_read_that_writes_nothing_is_seen() -> None:
    class Lazy(DictStore):
        def batch_get_into(self, keys: list[bytes], buffers: list[bytearray]) -> list[int]:
            first = len([kind for kind, _ in self.batches if kind == "get"]) == 0
            return super().batch_get_into(keys, buffers) if first else [SIZE] * len(keys)

    figures = serve(replay_on(Lazy()), (1,), (1,), (1,)).figures

    assert 1 == figures.verify_failures


def test_a_value_of_another_size_is_seen() -> None:
    store = DictStore()
    replay = serve(replay_on(store), (1,))
    store.values[b"block/1"] = store.values[b"block/1"][:-1]

    assert 1 == serve(replay, (1,)).figures.verify_failures


def test_sets_that_fail_are_counted() -> None:
    store = DictStore()
    store.status = SetStatus.NO_SPACE

    figures = serve(replay_on(store), (1, 2, 3)).figures

    assert (0, 3, SetStatus.NO_SPACE) == (
        figures.set_blocks,
        figures.set_failures,
        figures.set_failure,
    )


def test_lru_counts_leading_blocks_and_forgets_the_least_recent() -> None:
    lru = LRU(3)

    assert [0, 2, 0, 0, 2] == [
        lru.serve(blocks) for blocks in ((1, 2, 3), (1, 2), (4,), (3, 1), (1, 4))
    ]


def test_lru_agrees_with_a_list() -> None:
    random, lru, stored = Random(5), LRU(50), list[int]()
    for _ in range(500):
        start = random.randrange(80)
        prompt = tuple(range(start, start + random.randrange(1, 30)))

        expected = next((i for i, b in enumerate(prompt) if b not in stored), len(prompt))
        stored = ([b for b in stored if b not in prompt] + list(prompt))[-50:]

        assert expected == lru.serve(prompt)


def test_contents_differ_by_id_and_stay_the_same() -> None:
    content, again = BlockContent(4096), BlockContent(4096)
    values = {bytes(content.of(block_id)) for block_id in range(500)}

    assert 500 == len(values)
    for block_id in (0, 1, 499, 10**30):
        assert content.of(block_id) == again.of(block_id)
        assert 4096 == len(content.of(block_id))


def test_every_word_depends_on_the_id() -> None:
    content = BlockContent(4096)
    one, other = content.of(1).cast("Q"), content.of(2).cast("Q")

    assert all(a != b for a, b in zip(one, other, strict=True))


def test_batches_keep_order() -> None:
    assert [(1, 2), (3, 4), (5,)] == list(batches((1, 2, 3, 4, 5), 2))
    assert [] == list(batches((), 2))


def test_quantiles() -> None:
    times = [i * 1_000_000 for i in range(100, 0, -1)]

    assert 51.0 == quantile_ms(times, 0.50)
    assert 100.0 == quantile_ms(times, 0.99)
    assert 0.0 == quantile_ms([], 0.5)
