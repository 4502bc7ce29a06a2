"""The metadata store in an etcd, for control planes of several processes on several machines.

A thin client over gRPC. Every change by a primary is to be guarded by its key
(`kvstore.cluster.metadata.election`): etcd itself fences nothing.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from kvstore.cluster.metadata import etcd_pb2 as wire
from kvstore.cluster.metadata.etcd_connection import (
    COMPACT,
    RANGE,
    TXN,
    Address,
    EtcdConnection,
    EtcdOptions,
    addresses_of,
)
from kvstore.cluster.metadata.etcd_session import EtcdSession, open_session
from kvstore.cluster.metadata.etcd_watch import changes_of, entry_of, watch
from kvstore.cluster.metadata.port import (
    Changes,
    Compare,
    Created,
    Entry,
    Operation,
    Outcome,
    Put,
    Revision,
    Snapshot,
    check_key,
    check_transaction,
)
from kvstore.errors import CompactedError, MetadataError

PAGE_ENTRIES = 1000


class EtcdStore:
    """Implements MetadataStore. Connects at the first call; used from one event loop."""

    def __init__(
        self,
        options: EtcdOptions,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        resolve: Callable[[str], Awaitable[list[Address]]] = addresses_of,
    ) -> None:
        """Remember where the etcd is."""
        if not options.prefix:
            raise MetadataError("an etcd may hold more than this store: name a prefix")
        self._prefix = options.prefix
        self._connection = EtcdConnection(options, clock_s, resolve)
        self._sessions: list[EtcdSession] = []
        self._closed = False

    @property
    def prefix(self) -> bytes:
        """What every key of this store begins with in the etcd."""
        return self._prefix

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where the members are, as `host:port`."""
        return self._connection.options.endpoints

    @property
    def shared(self) -> bool:
        """Whoever reaches the etcd may use it."""
        return True

    async def get(self, key: bytes) -> Entry | None:
        """Return the entry of a key, as of no earlier than now."""
        check_key(key)
        self._check()
        response = await self._connection.read(RANGE, wire.RangeRequest(key=self._prefix + key))
        return self._entry(response.kvs[0]) if response.kvs else None

    async def range(self, prefix: bytes) -> Snapshot:
        """Return all entries under a prefix, all as of one revision."""
        while True:
            self._check()
            try:
                return await self._pages(self._prefix + prefix)
            except CompactedError:
                continue  # the revision was forgotten between two pages

    async def transaction(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> Outcome:
        """Do all operations if every compare holds, else none. It is sent once."""
        check_transaction(compares, operations)
        self._check()
        request = wire.TxnRequest(
            compare=[self._compare(compare) for compare in compares],
            success=[self._operation(operation) for operation in operations],
        )
        response = await self._connection.send_once(TXN, request)
        return Outcome(response.succeeded, Revision(response.header.revision))

    async def session(self, ttl_s: float) -> EtcdSession:
        """Begin a session; its time is rounded up to whole seconds."""
        self._check()
        session = await open_session(self._connection, ttl_s)
        self._sessions = [*filter(EtcdSession.alive, self._sessions), session]
        return session

    async def watch(self, prefix: bytes, after: Revision) -> AsyncGenerator[Changes, None]:
        """Yield every later change under a prefix once, in order."""
        self._check()
        first = self._prefix + prefix
        async with aclosing(watch(self._connection, first, after_prefix(first), after)) as found:
            async for response in found:
                for changes in changes_of(response, len(self._prefix)):
                    yield changes

    async def compact(self, revision: Revision) -> None:
        """Forget the changes up to a revision, of everything in the etcd."""
        self._check()
        try:
            await self._connection.send_once(COMPACT, wire.CompactionRequest(revision=revision))
        except CompactedError:
            return

    async def close(self) -> None:
        """Abandon sessions and close the connections."""
        if self._closed:
            return
        self._closed = True
        for session in self._sessions:
            await session.stop()
        await self._connection.close()

    async def _pages(self, first: bytes) -> Snapshot:
        end = after_prefix(first)
        request = wire.RangeRequest(key=first, range_end=end, limit=PAGE_ENTRIES)
        response = await self._connection.read(RANGE, request)
        revision = response.header.revision
        entries = [self._entry(pair) for pair in response.kvs]
        while response.more:
            request = wire.RangeRequest(
                key=response.kvs[-1].key + b"\0",
                range_end=end,
                limit=PAGE_ENTRIES,
                revision=revision,
            )
            response = await self._connection.read(RANGE, request)
            entries.extend(self._entry(pair) for pair in response.kvs)
        return Snapshot(Revision(revision), tuple(entries))

    def _entry(self, pair: wire.KeyValue) -> Entry:
        return entry_of(pair, len(self._prefix))

    def _compare(self, compare: Compare) -> wire.Compare:
        key = self._prefix + compare.key
        if isinstance(compare, Created):
            return wire.Compare(
                target=wire.Compare.CREATE, key=key, create_revision=compare.revision
            )
        return wire.Compare(target=wire.Compare.MOD, key=key, mod_revision=compare.revision)

    def _operation(self, operation: Operation) -> wire.RequestOp:
        key = self._prefix + operation.key
        if isinstance(operation, Put):
            put = wire.PutRequest(key=key, value=operation.value, lease=operation.session)
            return wire.RequestOp(request_put=put)
        return wire.RequestOp(request_delete_range=wire.DeleteRangeRequest(key=key))

    def _check(self) -> None:
        if self._closed:
            raise MetadataError("the metadata store is closed")


def after_prefix(prefix: bytes) -> bytes:
    """Return the first key after all keys with a prefix; etcd's b"\\0" where there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\0"
