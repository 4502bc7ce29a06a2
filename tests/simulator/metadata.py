"""A simulated metadata store: the port in memory, with time, refusals and lost answers.

One StoreState is the store; each mgmtd has a SimulatedStore, its way to it. Transactions take
effect at one moment between their beginning and their end. While the store is down nothing is
answered; while it loses answers, transactions take effect and nobody hears of it.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from random import Random

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
    check_transaction,
)
from kvstore.errors import AmbiguousError, MetadataUnavailableError, SessionLostError
from simulator.virtual import NOBODY

DELAY_MAX_S = 0.004
REFUSAL_S = 0.05
RENEWALS_A_TTL = 4
DRIFT = 1.05
"""How much longer than a session's holder the store counts."""


class StoreState:
    """The store itself."""

    def __init__(self, random: Random) -> None:
        """Be empty."""
        self.random = random
        self.entries: dict[bytes, Entry] = {}
        self.revision = Revision(1)
        self.down_until_s = 0.0
        self.loses_until_s = 0.0
        self.closed = False
        self._history: list[Changes] = []
        self._deadlines_s: dict[SessionId, float] = {}
        self._sessions = 0
        self._watches: list[Watch] = []

    def session(self, ttl_s: float) -> SessionId:
        """Begin a session."""
        self._sessions += 1
        id = SessionId(self._sessions)
        self._extend(id, ttl_s)
        return id

    def renew(self, id: SessionId, ttl_s: float) -> None:
        """Let a session last from now on, if it still does."""
        if self.lasts(id):
            self._extend(id, ttl_s)

    def _extend(self, id: SessionId, ttl_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = self._deadlines_s[id] = loop.time() + ttl_s * DRIFT
        loop.call_at(deadline_s, self._expire, id, context=NOBODY)

    def lasts(self, id: SessionId) -> bool:
        """Say whether a session does."""
        return id in self._deadlines_s

    def end(self, id: SessionId) -> None:
        """End a session, and its keys."""
        self._deadlines_s.pop(id, None)
        keys = [key for key, entry in self.entries.items() if entry.session == id]
        if keys:
            self.change([Delete(key) for key in keys])

    def _expire(self, id: SessionId) -> None:
        deadline_s = self._deadlines_s.get(id)
        if deadline_s is not None and deadline_s <= asyncio.get_running_loop().time():
            self.end(id)

    def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> Outcome:
        """Do it now."""
        for compare in compares:
            entry = self.entries.get(compare.key)
            found = ABSENT
            if entry is not None:
                found = entry.created if isinstance(compare, Created) else entry.modified
            if found != compare.revision:
                return Outcome(False, self.revision)
        for operation in operations:
            held = isinstance(operation, Put) and operation.session != NO_SESSION
            if isinstance(operation, Put) and held and not self.lasts(operation.session):
                raise SessionLostError(f"session {operation.session} has ended")
        self.change(operations)
        return Outcome(True, self.revision)

    def change(self, operations: Sequence[Operation]) -> None:
        """Make a revision of these."""
        revision = Revision(self.revision + 1)
        changes: list[Entry | Deleted] = []
        for operation in operations:
            before = self.entries.get(operation.key)
            if isinstance(operation, Put):
                created = revision if before is None else before.created
                entry = Entry(operation.key, operation.value, created, revision, operation.session)
                self.entries[operation.key] = entry
                changes.append(entry)
            elif before is not None:
                del self.entries[operation.key]
                changes.append(Deleted(operation.key, revision))
        if not changes:
            return
        self.revision = revision
        self._history.append(Changes(revision, tuple(changes)))
        for watch in self._watches:
            watch.take(self._history[-1])

    def watch(self, prefix: bytes, after: Revision) -> "Watch":
        """Return what sees the changes under a prefix since, and those to come."""
        watch = Watch(prefix)
        first = bisect_right(self._history, after, key=lambda changes: changes.revision)
        for changes in self._history[first:]:
            watch.take(changes)
        self._watches.append(watch)
        return watch

    def unwatch(self, watch: "Watch") -> None:
        """Let it see no more."""
        self._watches.remove(watch)


class Watch:
    """What changed under a prefix, until somebody takes it."""

    def __init__(self, prefix: bytes) -> None:
        """See nothing yet."""
        self.found: deque[Changes] = deque()
        self.stirred = asyncio.Event()
        self._prefix = prefix

    def take(self, changes: Changes) -> None:
        """Look at a revision."""
        rows = tuple(row for row in changes.changes if row.key.startswith(self._prefix))
        if rows:
            self.found.append(Changes(changes.revision, rows))
            self.stirred.set()


class SimulatedStore:
    """Implements MetadataStore: one mgmtd's way to the store."""

    def __init__(self, state: StoreState, clock_ns: Callable[[], int]) -> None:
        """Use the state; sessions count on this clock."""
        self._state = state
        self._clock_ns = clock_ns
        self.cut_until_s = 0.0

    async def _reach(self) -> None:
        loop = asyncio.get_running_loop()
        down_until_s = max(self._state.down_until_s, self.cut_until_s)
        if self._state.closed or loop.time() < down_until_s:
            await asyncio.sleep(REFUSAL_S)
            raise MetadataUnavailableError("the metadata store does not answer")
        await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self._state.random.random() * DELAY_MAX_S)

    @property
    def shared(self) -> bool:
        """Several mgmtd use it."""
        return True

    async def get(self, key: bytes) -> Entry | None:
        """Return the entry of a key."""
        await self._reach()
        entry = self._state.entries.get(key)
        await self._pause()
        return entry

    async def range(self, prefix: bytes) -> Snapshot:
        """Return all entries under a prefix."""
        await self._reach()
        entries = sorted(
            (entry for key, entry in self._state.entries.items() if key.startswith(prefix)),
            key=lambda entry: entry.key,
        )
        snapshot = Snapshot(self._state.revision, tuple(entries))
        await self._pause()
        return snapshot

    async def transaction(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> Outcome:
        """Do all operations if every compare holds."""
        check_transaction(compares, operations)
        await self._reach()
        outcome = self._state.transact(compares, operations)
        loop = asyncio.get_running_loop()
        lost = loop.time() < self._state.loses_until_s and self._state.random.random() < 0.5
        await self._pause()
        if lost or loop.time() < max(self._state.down_until_s, self.cut_until_s):
            await asyncio.sleep(REFUSAL_S)
            raise AmbiguousError("no answer came")
        return outcome

    async def session(self, ttl_s: float) -> "SimulatedSession":
        """Begin a session."""
        await self._reach()
        begun_ns = self._clock_ns()
        id = self._state.session(ttl_s)
        await self._pause()
        return SimulatedSession(self, self._state, id, ttl_s, begun_ns, self._clock_ns)

    async def watch(self, prefix: bytes, after: Revision) -> AsyncGenerator[Changes, None]:
        """Yield every later change under a prefix."""
        loop = asyncio.get_running_loop()
        watch = self._state.watch(prefix, after)
        try:
            while True:
                await watch.stirred.wait()
                watch.stirred.clear()
                while watch.found:
                    down_until_s = max(self._state.down_until_s, self.cut_until_s)
                    await asyncio.sleep(max(0.0, down_until_s - loop.time()))
                    await self._pause()
                    yield watch.found.popleft()
        finally:
            self._state.unwatch(watch)

    async def compact(self, revision: Revision) -> None:
        """Forget nothing: worlds are short."""

    async def close(self) -> None:
        """Do nothing."""


class SimulatedSession:
    """Implements Session."""

    def __init__(
        self,
        store: SimulatedStore,
        state: StoreState,
        id: SessionId,
        ttl_s: float,
        begun_ns: int,
        clock_ns: Callable[[], int],
    ) -> None:
        """Renew it from now on."""
        self._store = store
        self._state = state
        self._id = id
        self._ttl_s = ttl_s
        self._clock_ns = clock_ns
        self._deadline_ns = begun_ns + round(ttl_s * 1e9)
        self._lost = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._renew())

    @property
    def id(self) -> SessionId:
        """The session's id."""
        return self._id

    def alive(self) -> bool:
        """Say whether the keys are certain to be there still."""
        return not self._lost.is_set() and self._clock_ns() < self._deadline_ns

    async def lost(self) -> None:
        """Wait until the session is no longer alive."""
        await self._lost.wait()

    async def close(self) -> None:
        """End it, and its keys, now."""
        self._lost.set()
        self._task.cancel()
        try:
            await self._store._reach()
            self._state.end(self._id)
        except MetadataUnavailableError:
            pass

    async def abandon(self) -> None:
        """Stop renewing."""
        self._task.cancel()

    async def _renew(self) -> None:
        while self.alive():
            await asyncio.sleep(self._ttl_s / RENEWALS_A_TTL)
            begun_ns = self._clock_ns()
            try:
                await self._store._reach()
            except MetadataUnavailableError:
                continue
            if not self._state.lasts(self._id):
                break
            self._state.renew(self._id, self._ttl_s)
            self._deadline_ns = begun_ns + round(self._ttl_s * 1e9)
        self._lost.set()
