"""Who is primary: one key in the metadata store, held by a session, and an epoch that counts.

The key's creation revision is the token of a primary: each of its writes holds only while the key
of that revision is there, so a former primary's late write changes nothing. What a primary tells
others it marks with its epoch; whoever has seen a higher one refuses it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import msgpack

from kvstore.cluster.ids import Epoch
from kvstore.cluster.metadata.port import (
    ABSENT,
    Compare,
    Created,
    Deleted,
    Entry,
    MetadataStore,
    Modified,
    Operation,
    Outcome,
    Put,
    Revision,
    Session,
    transact,
)
from kvstore.errors import (
    AmbiguousError,
    CompactedError,
    MetadataError,
    NotPrimaryError,
    SessionLostError,
)

PRIMARY_KEY = b"primary"
EPOCH_KEY = b"epoch"


@dataclass(frozen=True, slots=True)
class Holder:
    """What the key of the primary says."""

    epoch: Epoch
    name: str
    """How to reach it; the candidate's own word."""


class Right(Protocol):
    """What a primary holds beside its session."""

    def alive(self) -> bool:
        """Say whether it is certain to be held."""

    async def lost(self) -> None:
        """Wait until it is lost for good."""


@dataclass(frozen=True, slots=True)
class Primary:
    """The right to decide, until the session ends; see `office` for a shorter one."""

    store: MetadataStore
    session: Session
    holder: Holder
    token: Revision
    office: Right | None = None

    @property
    def epoch(self) -> Epoch:
        """The count of this lease."""
        return self.holder.epoch

    def alive(self) -> bool:
        """Say whether nobody else can be primary at this moment."""
        return self.session.alive() and (self.office is None or self.office.alive())

    async def lost(self) -> None:
        """Wait until it is primary no more."""
        waits = [asyncio.ensure_future(self.session.lost())]
        if self.office is not None:
            waits.append(asyncio.ensure_future(self.office.lost()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def transaction(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> Outcome:
        """Do a transaction as primary, sent once; NotPrimaryError where it is not, or no longer."""
        return await self._guarded(self.store.transaction, compares, operations)

    async def transact(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> Outcome:
        """Do a transaction as primary, and settle what became of it; see `port.transact`."""

        async def send(guarded: Sequence[Compare], wanted: Sequence[Operation]) -> Outcome:
            return await transact(self.store, guarded, wanted)

        return await self._guarded(send, compares, operations)

    async def resign(self) -> None:
        """Give the right up, so that the next one need not wait."""
        await self.session.close()

    async def _guarded(
        self,
        send: Callable[[Sequence[Compare], Sequence[Operation]], Awaitable[Outcome]],
        compares: Sequence[Compare],
        operations: Sequence[Operation],
    ) -> Outcome:
        if not self.session.alive():
            raise NotPrimaryError(f"the lease of epoch {self.epoch} has run out")
        outcome = await send([Created(PRIMARY_KEY, self.token), *compares], operations)
        if not outcome.succeeded:
            entry = await self.store.get(PRIMARY_KEY)
            if entry is None or entry.created != self.token:
                raise NotPrimaryError(f"epoch {self.epoch} is over: {_successor(entry)}")
        return outcome


async def campaign(store: MetadataStore, session: Session, name: str) -> Primary:
    """Wait until nobody is primary, and become it.

    SessionLostError when the session ends first.

    An error of the store ends it too: as long as the session lives, campaign again.
    """
    while True:
        snapshot = await store.range(PRIMARY_KEY)
        entry = next((entry for entry in snapshot.entries if entry.key == PRIMARY_KEY), None)
        if not session.alive():
            raise SessionLostError(f"session {session.id} ended before {name} was elected")
        if entry is None:
            primary = await _claim(store, session, name)
            if primary is not None:
                return primary
        elif entry.session == session.id:
            return Primary(store, session, holder_of(entry), entry.created)
        else:
            await _until_gone(store, session, snapshot.revision)


async def current_holder(store: MetadataStore) -> Holder | None:
    """Return who is primary now, as far as the store knows."""
    entry = await store.get(PRIMARY_KEY)
    return None if entry is None else holder_of(entry)


def holder_of(entry: Entry) -> Holder:
    """Return what the key of the primary says."""
    try:
        epoch, name = msgpack.unpackb(entry.value)
        if type(epoch) is not int or not isinstance(name, str):
            raise ValueError(f"{epoch!r}, {name!r}")
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MetadataError(f"the key of the primary is damaged: {error}") from error
    return Holder(Epoch(epoch), name)


async def _claim(store: MetadataStore, session: Session, name: str) -> Primary | None:
    """Try once to become primary; None when that failed, or may have: the keys tell."""
    counted = await store.get(EPOCH_KEY)
    epoch = Epoch(1 if counted is None else int.from_bytes(counted.value, "big") + 1)
    value = msgpack.packb([epoch, name])
    assert isinstance(value, bytes)
    compares = (
        Created(PRIMARY_KEY, ABSENT),
        Modified(EPOCH_KEY, ABSENT if counted is None else counted.modified),
    )
    operations = (
        Put(PRIMARY_KEY, value, session.id),
        Put(EPOCH_KEY, epoch.to_bytes(8, "big")),
    )
    try:
        outcome = await store.transaction(compares, operations)
    except AmbiguousError:
        return None
    if not outcome.succeeded:
        return None
    return Primary(store, session, Holder(epoch, name), outcome.revision)


async def _until_gone(store: MetadataStore, session: Session, after: Revision) -> None:
    """Wait until the key of the primary is deleted, or the session ends."""
    gone = asyncio.ensure_future(_deleted(store, after))
    lost = asyncio.ensure_future(session.lost())
    try:
        await asyncio.wait((gone, lost), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (gone, lost):
            task.cancel()
        await asyncio.wait((gone, lost))
    if not gone.cancelled():
        gone.result()


async def _deleted(store: MetadataStore, after: Revision) -> None:
    try:
        async with aclosing(store.watch(PRIMARY_KEY, after)) as found:
            async for changes in found:
                if any(isinstance(change, Deleted) for change in changes.changes):
                    return
    except CompactedError:
        return


def _successor(entry: Entry | None) -> str:
    if entry is None:
        return "nobody is primary now"
    holder = holder_of(entry)
    return f"{holder.name} is primary since epoch {holder.epoch}"
