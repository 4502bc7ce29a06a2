"""Metadata stores with a fault, around a real one."""

from collections.abc import AsyncGenerator, Sequence

from kvstore.cluster.metadata.port import (
    Changes,
    Compare,
    Entry,
    MetadataStore,
    Operation,
    Outcome,
    Revision,
    Session,
    Snapshot,
)
from kvstore.errors import AmbiguousError


class Through:
    """Passes everything on."""

    def __init__(self, store: MetadataStore) -> None:
        self.store = store

    @property
    def shared(self) -> bool:
        return self.store.shared

    async def get(self, key: bytes) -> Entry | None:
        return await self.store.get(key)

    async def range(self, prefix: bytes) -> Snapshot:
        return await self.store.range(prefix)

    async def transaction(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> Outcome:
        return await self.store.transaction(compares, operations)

    async def session(self, ttl_s: float) -> Session:
        return await self.store.session(ttl_s)

    def watch(self, prefix: bytes, after: Revision) -> AsyncGenerator[Changes, None]:
        return self.store.watch(prefix, after)

    async def compact(self, revision: Revision) -> None:
        await self.store.compact(revision)

    async def close(self) -> None:
        await self.store.close()


class Lossy(Through):
    """Loses the answer to some transactions, which it has done, or has not."""

    def __init__(self, store: MetadataStore, *, applied: bool) -> None:
        super().__init__(store)
        self.applied = applied
        self.losses = 1

    async def transaction(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> Outcome:
        if self.losses == 0:
            return await self.store.transaction(compares, operations)
        self.losses -= 1
        if self.applied:
            await self.store.transaction(compares, operations)
        raise AmbiguousError("the answer is lost")


class Behind(Through):
    """Watches from an early revision the first time, as if it had been away."""

    def __init__(self, store: MetadataStore, revision: Revision) -> None:
        super().__init__(store)
        self.revision: Revision | None = revision

    def watch(self, prefix: bytes, after: Revision) -> AsyncGenerator[Changes, None]:
        early, self.revision = self.revision, None
        return self.store.watch(prefix, after if early is None else early)
