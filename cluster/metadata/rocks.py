"""The metadata store embedded in one process: a RocksDB in a directory of its own.

A transaction is one synchronous step on the event loop, a write without a flush, and then a wait
for the group commit. Nothing is shown before it is durable: reads and watches wait for it too.
Sessions are those of this process, so a directory that is opened again has none, and their keys go.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from rocksdict import Options, Rdict, ReadOptions, WriteBatch

from kvstore.cluster.metadata import rocks_records as records
from kvstore.cluster.metadata.group_commit import GroupCommit
from kvstore.cluster.metadata.port import (
    ABSENT,
    NO_SESSION,
    Changes,
    Compare,
    Created,
    Delete,
    Deleted,
    Entry,
    Operation,
    Outcome,
    Put,
    Revision,
    SessionId,
    Snapshot,
    check_key,
    check_transaction,
)
from kvstore.cluster.metadata.rocks_session import RocksSession
from kvstore.errors import CompactedError, MetadataError, SessionLostError

LOG_REVISIONS_MAX = 100_000
"""Changes that are kept for watches; older ones are forgotten, one with each new one."""
READ_AT_ONCE_MAX = 512
"""Entries read without a break for the event loop."""


async def open_rocks(
    directory: Path,
    *,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    log_revisions_max: int = LOG_REVISIONS_MAX,
) -> "RocksStore":
    """Open the store in a directory, or make one; MetadataError where another process has it."""
    database = await asyncio.to_thread(_open, directory)
    store = RocksStore(database, clock_ns, log_revisions_max)
    try:
        await store.drop_sessions_of_the_dead()
    except BaseException:
        await store.close()
        raise
    return store


class RocksStore:
    """Implements MetadataStore. Made by `open_rocks`; used from one event loop."""

    def __init__(
        self, database: Rdict, clock_ns: Callable[[], int], log_revisions_max: int
    ) -> None:
        """Take over an open database."""
        self._database = database
        self._clock_ns = clock_ns
        self._log_revisions_max = log_revisions_max
        self._revision = Revision(records.decode_count(database.get(records.REVISION_KEY)))
        self._compacted = records.decode_count(database.get(records.COMPACTED_KEY))
        self._commit = GroupCommit(self._flush, self._revision, self._wake)
        self._watchers: set[asyncio.Future[None]] = set()
        self._sessions: dict[SessionId, RocksSession] = {}
        self._session_keys: dict[SessionId, set[bytes]] = {}
        self._last_session = 0
        self._ranges = 0
        self._unread = asyncio.Event()
        self._unread.set()
        self._closed = False

    @property
    def shared(self) -> bool:
        """No other process can open the directory."""
        return False

    async def get(self, key: bytes) -> Entry | None:
        """Return the entry of a key."""
        check_key(key)
        self._check()
        revision, entry = self._revision, self._entry(key)
        await self._commit.wait(revision)
        return entry

    async def range(self, prefix: bytes) -> Snapshot:
        """Return all entries under a prefix, all as of one revision."""
        self._check()
        revision = self._revision
        first = records.entry_key(prefix)
        entries: list[Entry] = []
        self._ranges += 1
        self._unread.clear()
        try:
            with closing(self._pairs(first, _after(first))) as pairs:
                while page := list(islice(pairs, READ_AT_ONCE_MAX)):
                    entries.extend(records.decode_entry(*pair) for pair in page)
                    await asyncio.sleep(0)
                    self._check()
        finally:
            self._ranges -= 1
            if self._ranges == 0:
                self._unread.set()
        await self._commit.wait(revision)
        return Snapshot(revision, tuple(entries))

    async def transaction(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> Outcome:
        """Do all operations if every compare holds, else none."""
        check_transaction(compares, operations)
        self._check()
        for operation in operations:
            if isinstance(operation, Put) and operation.session != NO_SESSION:
                self._check_session(operation.session)
        succeeded = all(map(self._holds, compares))
        if succeeded:
            self._perform(operations)
        revision = self._revision
        await self._commit.wait(revision)
        return Outcome(succeeded, revision)

    async def session(self, ttl_s: float) -> RocksSession:
        """Begin a session that ends when this process does, or stalls for `ttl_s`."""
        self._check()
        self._last_session += 1
        session = RocksSession(
            SessionId(self._last_session), ttl_s, self._clock_ns, self.drop_session
        )
        self._sessions[session.id] = session
        return session

    async def watch(self, prefix: bytes, after: Revision) -> AsyncGenerator[Changes, None]:
        """Yield every later change under a prefix, once it is durable."""
        while True:
            self._check()
            if after < self._compacted:
                raise CompactedError(
                    f"changes up to revision {self._compacted} are forgotten; asked from {after}"
                )
            durable = Revision(self._commit.durable)
            if after >= durable:
                await self._wait_for_change()
                continue
            first, end = records.log_key(after + 1), records.log_key(durable + 1)
            page = list(islice(self._pairs(first, end), READ_AT_ONCE_MAX))
            for key, raw in page:
                after = records.log_revision(records.LOG + key)
                changes = records.decode_changes(after, raw, prefix)
                if changes.changes:
                    yield changes
            if len(page) < READ_AT_ONCE_MAX:
                after = max(after, durable)
            await asyncio.sleep(0)

    async def compact(self, revision: Revision) -> None:
        """Forget the changes up to a revision."""
        self._check()
        if revision > self._revision:
            raise MetadataError(f"revision {revision} is in the future: it is {self._revision}")
        if revision > self._compacted:
            batch = WriteBatch(raw_mode=True)
            batch.delete_range(records.log_key(0), records.log_key(revision + 1))
            batch.put(records.COMPACTED_KEY, records.encode_count(revision))
            self._write(batch)
            self._compacted = revision
            self._wake()

    async def close(self) -> None:
        """Abandon sessions, end watches, flush and close."""
        if self._closed:
            return
        self._closed = True
        for session in list(self._sessions.values()):
            await session.stop()
        self._wake()
        await self._unread.wait()  # the database stays locked until the last iterator is gone
        await self._commit.close()
        await asyncio.to_thread(self._database.close)

    async def drop_session(self, session: SessionId) -> None:
        """Delete the keys of a session that has ended."""
        self._sessions.pop(session, None)
        keys = self._session_keys.pop(session, set())
        if keys and not self._closed:
            self._perform([Delete(key) for key in sorted(keys)])
            await self._commit.wait(self._revision)

    async def drop_sessions_of_the_dead(self) -> None:
        """Delete the keys of sessions from before the directory was opened."""
        entries = (await self.range(b"")).entries
        keys = [entry.key for entry in entries if entry.session != NO_SESSION]
        if keys:
            self._perform([Delete(key) for key in keys])
            await self._commit.wait(self._revision)

    def _perform(self, operations: Sequence[Operation]) -> None:
        """Write all operations at the next revision, if there is anything to change."""
        revision = Revision(self._revision + 1)
        changes = [
            change
            for operation in operations
            if (change := self._changed(operation, revision)) is not None
        ]
        if not changes:
            return
        batch = WriteBatch(raw_mode=True)
        for change in changes:
            key = records.entry_key(change.key)
            if isinstance(change, Entry):
                batch.put(key, records.encode_entry(change))
            else:
                batch.delete(key)
        batch.put(
            records.log_key(revision), records.encode_changes(Changes(revision, tuple(changes)))
        )
        batch.put(records.REVISION_KEY, records.encode_count(revision))
        forgotten = revision - self._log_revisions_max
        if forgotten > self._compacted:
            batch.delete(records.log_key(forgotten))
            batch.put(records.COMPACTED_KEY, records.encode_count(forgotten))
        sessions = [(change, self._entry(change.key)) for change in changes]
        self._write(batch)
        for change, before in sessions:
            self._note_session(change, before)
        self._compacted = max(self._compacted, forgotten)
        self._revision = revision
        self._commit.written = revision

    def _changed(self, operation: Operation, revision: Revision) -> Entry | Deleted | None:
        before = self._entry(operation.key)
        if isinstance(operation, Delete):
            return None if before is None else Deleted(operation.key, revision)
        created = revision if before is None else before.created
        return Entry(operation.key, operation.value, created, revision, operation.session)

    def _note_session(self, change: Entry | Deleted, before: Entry | None) -> None:
        if before is not None and before.session != NO_SESSION:
            self._session_keys.get(before.session, set()).discard(change.key)
        if isinstance(change, Entry) and change.session != NO_SESSION:
            self._session_keys.setdefault(change.session, set()).add(change.key)

    def _holds(self, compare: Compare) -> bool:
        entry = self._entry(compare.key)
        if entry is None:
            return compare.revision == ABSENT
        revision = entry.created if isinstance(compare, Created) else entry.modified
        return revision == compare.revision

    def _entry(self, key: bytes) -> Entry | None:
        raw = self._database.get(records.entry_key(key))
        return None if raw is None else records.decode_entry(key, raw)

    def _pairs(self, first: bytes, end: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        """Yield the pairs from `first` until before `end`, as they are now, without the prefix."""
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        walk = self._database.iter(options)
        walk.seek(first)
        while walk.valid():
            yield walk.key()[1:], walk.value()
            walk.next()

    async def _wait_for_change(self) -> None:
        """Wait until something more is durable; see to it that what is written becomes so."""
        if self._commit.durable < self._revision:
            await self._commit.wait(self._revision)
            return
        waiter = asyncio.get_running_loop().create_future()
        self._watchers.add(waiter)
        try:
            await waiter
        finally:
            self._watchers.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._watchers:
            if not waiter.done():
                waiter.set_result(None)

    def _write(self, batch: WriteBatch) -> None:
        try:
            self._database.write(batch)
        except Exception as error:  # the engine raises bare exceptions
            self._commit.fail(str(error))
            self._commit.check()

    def _flush(self) -> None:
        self._database.flush_wal(True)

    def _check(self) -> None:
        if self._closed:
            raise MetadataError("the metadata store is closed")
        self._commit.check()

    def _check_session(self, id: SessionId) -> None:
        session = self._sessions.get(id)
        if session is None or not session.alive():
            raise SessionLostError(f"session {id} has ended")


def _open(directory: Path) -> Rdict:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        database = Rdict(str(directory), options)
    except Exception as error:  # the engine raises bare exceptions
        raise MetadataError(f"the metadata store in {directory} does not open: {error}") from error
    version = records.decode_count(database.get(records.FORMAT_KEY))
    if version not in (0, records.FORMAT_VERSION):
        database.close()
        raise MetadataError(
            f"the metadata store in {directory} has format version {version},"
            f" this release reads {records.FORMAT_VERSION}"
        )
    database.put(records.FORMAT_KEY, records.encode_count(records.FORMAT_VERSION))
    return database


def _after(prefix: bytes) -> bytes:
    """Return the first key that follows all keys with a prefix."""
    stripped = prefix.rstrip(b"\xff")
    assert stripped, "every key of the database begins with a letter"
    return stripped[:-1] + bytes([stripped[-1] + 1])
