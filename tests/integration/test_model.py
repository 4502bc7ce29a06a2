"""A store against a dict: any sequence of calls, upkeep and reopenings gives the same answers."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import kvstore
from kvstore import SetStatus

keys = st.sampled_from([b"%d" % i for i in range(12)] + [b"long" * 256])
sizes = st.sampled_from([0, 1, 63, 64, 65, 1000, 4095, 4096, 4097, 9000, 65536, 300_000])


class StoreModel(RuleBasedStateMachine):
    """The model is a dict; every value is told from every other by its first bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="kvstore-model-"))
        self.model: dict[bytes, bytes] = {}
        self.count = 0
        self.store = self.opened()

    def opened(self) -> kvstore.Store:
        return kvstore.connect_sync(
            f"file://{self.directory}/store", memory="96MiB", capacity="256MiB"
        )

    def value_of(self, size: int) -> bytes:
        self.count += 1
        return (b"%016d" % self.count * (size // 16 + 1))[:size]

    @rule(batch=st.dictionaries(keys, sizes, max_size=8))
    def set(self, batch: dict[bytes, int]) -> None:
        values = {key: self.value_of(size) for key, size in batch.items()}

        statuses = self.store.batch_set(list(values), list(values.values()))

        assert [SetStatus.OK] * len(values) == statuses
        self.model.update(values)

    @rule(batch=st.dictionaries(keys, sizes, max_size=4))
    def set_if_absent(self, batch: dict[bytes, int]) -> None:
        values = {key: self.value_of(size) for key, size in batch.items()}

        statuses = self.store.batch_set(list(values), list(values.values()), if_absent=True)

        expected = [SetStatus.EXISTS if key in self.model else SetStatus.OK for key in values]
        assert expected == statuses
        self.model = {**values, **self.model}

    @rule(batch=st.lists(keys, unique=True, max_size=8))
    def delete(self, batch: list[bytes]) -> None:
        expected = [self.model.pop(key, None) is not None for key in batch]

        assert expected == self.store.batch_delete(batch)

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
        assert [len(self.model[key]) if key in self.model else None for key in batch] == [
            stat.size if stat else None for stat in stats
        ]

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

    @invariant()
    def every_value_is_the_models(self) -> None:
        assert len(self.model) == self.store.stats().objects
        assert list(self.model.values()) == self.store.batch_get(list(self.model))

    def teardown(self) -> None:
        found = self.store.verify()
        listed = {entry.key: entry.size for entry in self.store.list()}
        self.store.close()
        shutil.rmtree(self.directory)
        assert (len(self.model), ()) == (found.objects, found.bad)
        assert {key: len(value) for key, value in self.model.items()} == listed


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
