"""The port of the metadata store: keys with revisions, transactions, sessions and watches.

A store has one revision, which every transaction that changes something raises by at least one. An
answered change is durable, and reads are linearizable: they see every change that was answered
before they began. A change that is not answered (AmbiguousError, cancellation) may have happened,
or may happen yet; `transact` settles that.

One conformance suite states all of this, for every implementation.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import NewType, Protocol

from kvstore.errors import AmbiguousError, CompactedError, MetadataError, MetadataUnavailableError

Revision = NewType("Revision", int)
"""Counts the changes of a store; also names the change that made or last touched an entry."""

SessionId = NewType("SessionId", int)

ABSENT = Revision(0)
"""The revision of a key that is not there."""
NO_SESSION = SessionId(0)

KEY_SIZE_MAX = 1024
VALUE_SIZE_MAX = 1 << 20
OPERATIONS_MAX = 128
TRANSACTION_SIZE_MAX = 1 << 20
"""What etcd takes by default (128 operations, 1.5 MiB), with room for its framing."""
SETTLE_ATTEMPTS_MAX = 8
SETTLE_PAUSE_MIN_S = 0.1
SETTLE_PAUSE_MAX_S = 0.8


@dataclass(frozen=True, slots=True)
class Entry:
    """A key and its value, as of some revision."""

    key: bytes
    value: bytes
    created: Revision
    modified: Revision
    session: SessionId = NO_SESSION
    """The session that the key goes with, if any."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """A key that is gone."""

    key: bytes
    modified: Revision


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All entries under a prefix at one revision, sorted by key."""

    revision: Revision
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What one revision changed under a prefix."""

    revision: Revision
    changes: tuple[Entry | Deleted, ...]


@dataclass(frozen=True, slots=True)
class Created:
    """Holds when the key was created at this revision; ABSENT: when there is no such key."""

    key: bytes
    revision: Revision


@dataclass(frozen=True, slots=True)
class Modified:
    """Holds when the key was last changed at this revision; ABSENT: when there is no such key."""

    key: bytes
    revision: Revision


@dataclass(frozen=True, slots=True)
class Put:
    """Sets a key; with a session, the key goes when the session goes."""

    key: bytes
    value: bytes
    session: SessionId = NO_SESSION


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes a key; nothing happens where there is none."""

    key: bytes


Compare = Created | Modified
Operation = Put | Delete


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether every compare held, so that all operations were done; else none was."""

    succeeded: bool
    revision: Revision
    """The store's revision after the transaction: of the change, where it succeeded."""


class Session(Protocol):
    """A promise to be alive, renewed in the background; its keys go when it ends.

    `alive` is counted on the holder's own clock from before each renewal is sent, so it turns False
    before anyone else can see the keys gone.
    """

    @property
    def id(self) -> SessionId:
        """The session's id, for Put."""

    def alive(self) -> bool:
        """Say whether the keys are certain to be there still."""

    async def lost(self) -> None:
        """Wait until the session is no longer alive."""

    async def close(self) -> None:
        """End it, and its keys, now. Never raises for a store that cannot be reached."""

    async def abandon(self) -> None:
        """Stop renewing, as a death would: the keys stay until the time has run out."""


class MetadataStore(Protocol):
    """A store of a few thousand small keys that change slowly."""

    @property
    def shared(self) -> bool:
        """Whether other processes may use it at the same time."""

    async def get(self, key: bytes) -> Entry | None:
        """Return the entry of a key; None where there is none."""

    async def range(self, prefix: bytes) -> Snapshot:
        """Return all entries under a prefix, all as of one revision."""

    async def transaction(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> Outcome:
        """Do all operations if every compare holds, else none; no key in two operations.

        It is sent once. AmbiguousError: no answer came. SessionLostError: a Put names a session
        that has ended.
        """

    async def session(self, ttl_s: float) -> Session:
        """Begin a session that ends when it is not renewed for `ttl_s`."""

    def watch(self, prefix: bytes, after: Revision) -> AsyncGenerator[Changes, None]:
        """Yield every later change under a prefix once, in order, over any loss of connection.

        Raises CompactedError when the store has forgotten changes that were not yet yielded. Close
        the generator (`aclosing`) when done.
        """

    async def compact(self, revision: Revision) -> None:
        """Forget the changes up to a revision; entries are not touched."""

    async def close(self) -> None:
        """End watches, abandon sessions, and close. Calling it again does nothing."""


def check_transaction(compares: Sequence[Compare], operations: Sequence[Operation]) -> None:
    """Raise MetadataError for what no implementation takes."""
    if len(operations) > OPERATIONS_MAX or len(compares) > OPERATIONS_MAX:
        raise MetadataError(f"a transaction has at most {OPERATIONS_MAX} operations and compares")
    keys = [operation.key for operation in operations]
    if len(set(keys)) != len(keys):
        raise MetadataError("a transaction changes a key only once")
    for key in [*keys, *(compare.key for compare in compares)]:
        check_key(key)
    values = [operation.value for operation in operations if isinstance(operation, Put)]
    if any(len(value) > VALUE_SIZE_MAX for value in values):
        raise MetadataError(f"a value has at most {VALUE_SIZE_MAX} bytes")
    if sum(map(len, keys)) + sum(map(len, values)) > TRANSACTION_SIZE_MAX:
        raise MetadataError(f"a transaction has at most {TRANSACTION_SIZE_MAX} bytes")


def check_key(key: bytes) -> None:
    """Raise MetadataError for a key that no implementation takes."""
    if not 1 <= len(key) <= KEY_SIZE_MAX:
        raise MetadataError(f"a key has 1 to {KEY_SIZE_MAX} bytes, not {len(key)}")


async def transact(
    store: MetadataStore, compares: Sequence[Compare], operations: Sequence[Operation]
) -> Outcome:
    """Do a transaction whose answer may get lost, and return what became of it.

    Every key that it changes must be compared with the revision that it replaces. So it takes
    effect at most once however often it is sent, and after a lost answer the keys tell: values that
    two writers might both write need something of the writer in them. Raises AmbiguousError when
    the store stays out of reach.
    """
    compared = {compare.key for compare in compares if isinstance(compare, Modified)}
    compared |= {compare.key for compare in compares if compare.revision == ABSENT}
    assert {operation.key for operation in operations} <= compared
    doubtful = False
    pause_s = SETTLE_PAUSE_MIN_S
    for _ in range(SETTLE_ATTEMPTS_MAX):
        try:
            outcome = await store.transaction(compares, operations)
            if outcome.succeeded or not doubtful:
                return outcome
            return await _settle(store, operations, outcome)
        except AmbiguousError:
            doubtful = True
        except MetadataUnavailableError:
            if not doubtful:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, SETTLE_PAUSE_MAX_S)
    raise AmbiguousError(f"no answer to a transaction sent {SETTLE_ATTEMPTS_MAX} times")


async def follow(store: MetadataStore, prefix: bytes) -> AsyncGenerator[Snapshot | Changes, None]:
    """Yield all entries, then every change; all entries again where changes were forgotten."""
    while True:
        snapshot = await store.range(prefix)
        yield snapshot
        try:
            async with aclosing(store.watch(prefix, snapshot.revision)) as changes:
                async for change in changes:
                    yield change
        except CompactedError:
            continue


async def _settle(
    store: MetadataStore, operations: Sequence[Operation], outcome: Outcome
) -> Outcome:
    """Tell an earlier sending that took effect from a compare that never held.

    One transaction changes all of its keys at one revision, so the first Put tells for all.
    """
    for operation in operations:
        entry = await store.get(operation.key)
        if isinstance(operation, Delete):
            if entry is not None:
                return outcome
            continue
        if entry is None or (entry.value, entry.session) != (operation.value, operation.session):
            return outcome
        return Outcome(True, entry.modified)
    return Outcome(True, outcome.revision)
