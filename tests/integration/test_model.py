"""A store against a dict: any sequence of calls, upkeep and reopenings gives the same answers."""

import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from integration.nodes import served

import kvstore
from kvstore import SetStatus

MIB = 1 << 20
BRIEF_S = 0.001
THREADS = 3

keys = st.sampled_from([b"%d" % i for i in range(12)] + [b"long" * 256])
sizes = st.sampled_from([0, 1, 63, 64, 65, 1000, 4095, 4096, 4097, 9000, 65536, 300_000])
batches = st.dictionaries(keys, sizes, max_size=8)


def wait_for_expiry() -> None:
    """Let the clock pass what was set briefly, and the millisecond in which it may end."""
    end = time.time() + BRIEF_S + 0.001
    while time.time() < end:
        pass


class Model(RuleBasedStateMachine):
    """The model is a dict; every value is told from every other by its first bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="kvstore-model-"))
        self.model: dict[bytes, bytes] = {}
        self.count = 0
        self.store = self.opened()

    def opened(self) -> kvstore.Store:
        raise NotImplementedError

    def value_of(self, size: int) -> bytes:
        self.count += 1
        return (b"%016d" % self.count * (size // 16 + 1))[:size]

    def values_of(self, batch: dict[bytes, int]) -> dict[bytes, bytes]:
        return {key: self.value_of(size) for key, size in batch.items()}

    @rule()
    def checkpoint(self) -> None:
        self.store.checkpoint()

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.opened()

    def teardown(self) -> None:
        found = self.store.verify()
        self.store.close()
        shutil.rmtree(self.directory)
        assert () == found.bad


class StoreModel(Model):
    """A store that forgets nothing but what expires."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned: set[bytes] = set()
        # What has expired counts as an object until it is swept, set again or deleted.
        self.expired: set[bytes] = set()

    def opened(self) -> kvstore.Store:
        return kvstore.connect_sync(
            f"file://{self.directory}/store", memory="96MiB", capacity="256MiB"
        )

    def take(self, values: dict[bytes, bytes]) -> None:
        self.model.update(values)
        self.expired -= values.keys()

    @rule(batch=batches)
    def set(self, batch: dict[bytes, int]) -> None:
        values = self.values_of(batch)

        statuses = self.store.batch_set(list(values), list(values.values()))

        assert [SetStatus.OK] * len(values) == statuses
        self.take(values)

    @rule(batch=batches)
    def set_for_long(self, batch: dict[bytes, int]) -> None:
        values = self.values_of(batch)

        statuses = self.store.batch_set(list(values), list(values.values()), ttl_s=3600)

        assert [SetStatus.OK] * len(values) == statuses
        self.take(values)

    @rule(batch=batches)
    def set_briefly(self, batch: dict[bytes, int]) -> None:
        values = self.values_of(batch)

        statuses = self.store.batch_set(list(values), list(values.values()), ttl_s=BRIEF_S)
        wait_for_expiry()

        assert [SetStatus.OK] * len(values) == statuses
        self.forget(values)
        self.expired |= values.keys()

    @rule(batch=st.dictionaries(keys, sizes, max_size=4))
    def set_if_absent(self, batch: dict[bytes, int]) -> None:
        values = self.values_of(batch)

        statuses = self.store.batch_set(list(values), list(values.values()), if_absent=True)

        expected = [SetStatus.EXISTS if key in self.model else SetStatus.OK for key in values]
        assert expected == statuses
        self.take({**values, **self.model})

    @rule(size=sizes)
    def set_from_threads(self, size: int) -> None:
        """Keys of their own in each thread, so that each knows the answers."""
        shares = [[b"%d" % i for i in range(12)][i::THREADS] for i in range(THREADS)]
        values = [self.values_of(dict.fromkeys(share, size)) for share in shares]

        def overwrite(share: dict[bytes, bytes]) -> list[bytes | None]:
            self.store.batch_set(list(share), [b"soon overwritten" * 500] * len(share))
            self.store.batch_delete(list(share)[:1])
            self.store.batch_set(list(share), list(share.values()))
            return self.store.batch_get(list(share))

        with ThreadPoolExecutor(THREADS) as threads:
            got = list(threads.map(overwrite, values))

        assert [list(share.values()) for share in values] == got
        for share in values:
            self.pinned.discard(next(iter(share)))
            self.take(share)

    def forget(self, batch: list[bytes] | dict[bytes, bytes]) -> None:
        for key in batch:
            self.model.pop(key, None)
            self.pinned.discard(key)
            self.expired.discard(key)

    @rule(batch=st.lists(keys, unique=True, max_size=8))
    def delete(self, batch: list[bytes]) -> None:
        expected = [key in self.model for key in batch]

        assert expected == self.store.batch_delete(batch)

        # Whether a delete sweeps what has expired is the store's business.
        expired = self.expired & set(batch)
        self.forget(batch)
        self.expired |= expired

    @rule(batch=st.lists(keys, max_size=4))
    def pin(self, batch: list[bytes]) -> None:
        assert [key in self.model for key in batch] == self.store.pin(batch)
        self.pinned |= self.model.keys() & set(batch)

    @rule(batch=st.lists(keys, max_size=4))
    def unpin(self, batch: list[bytes]) -> None:
        assert [key in self.model for key in batch] == self.store.unpin(batch)
        self.pinned -= set(batch)

    @rule(batch=st.lists(keys, max_size=8), room=sizes)
    def get_into(self, batch: list[bytes], room: int) -> None:
        buffers = [bytearray(room) for _ in batch]

        written = self.store.batch_get_into(batch, buffers)

        for key, size, buffer in zip(batch, written, buffers, strict=True):
            value = self.model.get(key)
            if value is None or len(value) > room:
                assert (-1 if value is None else -2) == size
            else:
                assert value == buffer[:size]

    @rule(batch=st.lists(keys, max_size=8))
    def look(self, batch: list[bytes]) -> None:
        exists = [key in self.model for key in batch]

        assert exists == self.store.batch_exists(batch)
        assert [*exists, False].index(False) == self.store.match_prefix(batch)
        stats = self.store.batch_stat(batch)
        assert [
            (len(self.model[key]), key in self.pinned) if key in self.model else None
            for key in batch
        ] == [(stat.size, stat.pinned) if stat else None for stat in stats]

    @invariant()
    def every_value_is_the_models(self) -> None:
        objects = self.store.stats().objects
        assert len(self.model) <= objects <= len(self.model) + len(self.expired)
        assert list(self.model.values()) == self.store.batch_get(list(self.model))

    def teardown(self) -> None:
        listed = {entry.key: entry.size for entry in self.store.list()}
        super().teardown()
        assert {key: len(value) for key, value in self.model.items()} == listed


class ServedModel(StoreModel):
    """The same through a node: reopening connects anew, also to the same values."""

    def __init__(self) -> None:
        self.serving = ExitStack()
        super().__init__()

    def opened(self) -> kvstore.Store:
        if not hasattr(self, "url"):
            self.url = self.serving.enter_context(served(self.directory, targets=3))
        return kvstore.connect_sync(self.url)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.serving.close()


cache_keys = st.integers(0, 300).map(b"%d".__mod__)
cache_sizes = st.sampled_from([0, 100, 1000, 4096, 60_000, 300_000, MIB])


class CacheModel(Model):
    """A cache far smaller than what is set: keys may go, but none comes back or is wrong."""

    CAPACITY = 24 * MIB
    PINNED_MAX = 8

    def __init__(self) -> None:
        super().__init__()
        self.pinned: set[bytes] = set()

    def opened(self) -> kvstore.Store:
        return kvstore.connect_sync(
            f"file://{self.directory}/store",
            memory="96MiB",
            capacity=self.CAPACITY,
            eviction="cache",
        )

    @rule(batch=st.dictionaries(cache_keys, cache_sizes, min_size=10, max_size=20))
    def set(self, batch: dict[bytes, int]) -> None:
        values = self.values_of(batch)

        statuses = self.store.batch_set(list(values), list(values.values()))

        assert [SetStatus.OK] * len(values) == statuses
        self.model.update(values)

    @rule(first=st.integers(0, 200), size=cache_sizes)
    def set_many(self, first: int, size: int) -> None:
        self.set({b"%d" % i: size for i in range(first, first + 50)})

    @rule(batch=st.lists(cache_keys, unique=True, min_size=1, max_size=8))
    def delete(self, batch: list[bytes]) -> None:
        existed = self.store.batch_delete(batch)

        for key, was_there in zip(batch, existed, strict=True):
            assert was_there == (key in self.pinned) or key not in self.pinned
            assert not was_there or key in self.model
            self.model.pop(key, None)
            self.pinned.discard(key)

    @rule(key=cache_keys)
    def pin(self, key: bytes) -> None:
        if len(self.pinned) < self.PINNED_MAX and self.store.pin([key]) == [True]:
            assert key in self.model
            self.pinned.add(key)

    @rule()
    def unpin_all(self) -> None:
        assert [True] * len(self.pinned) == self.store.unpin(list(self.pinned))
        self.pinned.clear()

    @invariant()
    def what_is_there_is_right(self) -> None:
        keys = [b"%d" % i for i in range(301)]
        for key, value in zip(keys, self.store.batch_get(keys), strict=True):
            if value is None:
                assert key not in self.pinned, "a pinned key is gone"
            else:
                assert self.model.get(key) == value
        assert self.store.stats().value_size <= self.CAPACITY


def case_of(model: Callable[[], Model], examples: int, steps: int) -> type:
    """Return the unittest case that pytest collects."""
    case: type = model.TestCase  # type: ignore[attr-defined]
    case.settings = settings(  # type: ignore[attr-defined]
        max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True
    )
    return case


TestStoreModel = case_of(StoreModel, 25, 30)
TestServedModel = case_of(ServedModel, 8, 20)
TestCacheModel = case_of(CacheModel, 15, 20)
