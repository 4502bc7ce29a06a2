"""The primary's right to decide, held for less time than a session of etcd can be.

    primary     |-- puts the record -- decides until sent + lease ------|
    another        |-- sees it change -- waits a lease -------- deletes the primary's key --|

A session of etcd ends in whole seconds, two at least. So the primary renews a record of its own,
several times a lease, and decides only within a lease from before it sent the last renewal that was
answered. Whoever sees no change for as long, on its own clock, deletes the primary's key, if the
record is still what it has seen: a renewal in between makes that fail. No two clocks are compared.

A renewal that comes late makes the primary what it was, as long as its key is there: nobody else
was primary in between. It is over when the key is gone, or the session.

The record changes all the time; what etcd remembers of that is compacted as the primary goes.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import msgpack

from kvstore.cluster.metadata.election import PRIMARY_KEY, Primary
from kvstore.cluster.metadata.port import (
    ABSENT,
    Created,
    Delete,
    Entry,
    MetadataStore,
    Modified,
    Put,
    Revision,
)
from kvstore.errors import MetadataError, NotPrimaryError

RENEWED_KEY = b"renewed"
RENEWALS_A_LEASE = 4
LOOKS_A_LEASE = 8
CLOCK_DRIFT_MAX = 0.02
"""How much faster another's clock may run than the primary's, as a fraction."""
LEASE_MS_MAX = 600_000
COMPACT_AFTER = 2000
"""Renewals: some minutes, in which whoever was away can still catch up."""

Clock = Callable[[], float]


class Office:
    """One primary's record."""

    def __init__(self, primary: Primary, lease_s: float, clock_s: Clock = time.monotonic) -> None:
        """Hold nothing yet."""
        self._store = primary.store
        self._token = primary.token
        self._lease_s = lease_s
        self._clock_s = clock_s
        self._deadline_s = 0.0
        self._count = 0
        self._seen = ABSENT
        self._lost = asyncio.Event()

    def alive(self) -> bool:
        """Say whether nobody else can be primary at this moment."""
        return not self._lost.is_set() and self._clock_s() < self._deadline_s

    async def lost(self) -> None:
        """Wait until the primary's key is gone."""
        await self._lost.wait()

    async def renew(self) -> None:
        """Renew it once; NotPrimaryError when the key is gone, MetadataError: perhaps not done."""
        sent_s = self._clock_s()
        self._count += 1
        value = msgpack.packb([self._token, round(self._lease_s * 1000), self._count])
        assert isinstance(value, bytes)
        held = [Created(PRIMARY_KEY, self._token)]
        outcome = await self._store.transaction(held, [Put(RENEWED_KEY, value)])
        if not outcome.succeeded:
            self._lost.set()
            raise NotPrimaryError("its office was given to another")
        self._deadline_s = sent_s + self._lease_s * (1 - CLOCK_DRIFT_MAX)
        if self._count % COMPACT_AFTER == 0:
            await self._compact(outcome.revision)

    async def keep(self) -> None:
        """Renew it in time, until it is lost or this is cancelled."""
        while not self._lost.is_set():
            with suppress(MetadataError):
                await self.renew()
            await asyncio.sleep(self._lease_s / RENEWALS_A_LEASE)

    async def _compact(self, revision: Revision) -> None:
        before, self._seen = self._seen, revision
        if before != ABSENT:
            await self._store.compact(before)


@asynccontextmanager
async def held(
    primary: Primary, lease_s: float, clock_s: Clock = time.monotonic
) -> AsyncIterator[Primary]:
    """Hold the office of a primary while the context lasts; the primary goes by it."""
    office = Office(primary, lease_s, clock_s)
    await office.renew()
    keeping = asyncio.ensure_future(office.keep())
    try:
        yield replace(primary, office=office)
    finally:
        keeping.cancel()
        await asyncio.wait((keeping,))


class Silence:
    """How long the record has been as it is, as somebody sees it who would be primary."""

    def __init__(self, store: MetadataStore, clock_s: Clock = time.monotonic) -> None:
        """Have seen nothing yet."""
        self._store = store
        self._clock_s = clock_s
        self._seen: Entry | None = None
        self._seen_s = 0.0

    def forget(self) -> None:
        """Begin anew."""
        self._seen = None

    async def end(self) -> bool:
        """Look, and take the office of who has been silent for a lease; say whether that is done.

        MetadataError: it cannot be seen, or perhaps it is done.
        """
        entry = await self._store.get(RENEWED_KEY)
        now_s = self._clock_s()
        if entry is None or self._seen is None or entry.modified != self._seen.modified:
            self._seen, self._seen_s = entry, now_s
            return False
        token, lease_s = told_by(entry)
        if now_s - self._seen_s < lease_s:
            return False
        self._seen_s = now_s
        still = (Created(PRIMARY_KEY, token), Modified(RENEWED_KEY, entry.modified))
        return (await self._store.transaction(still, [Delete(PRIMARY_KEY)])).succeeded


def told_by(entry: Entry) -> tuple[Revision, float]:
    """Return whose record it is, and the lease that its holder counts, in seconds."""
    try:
        token, lease_ms, _ = msgpack.unpackb(entry.value)
        if type(token) is not int or type(lease_ms) is not int:
            raise ValueError(f"{token!r}, {lease_ms!r}")
        if not 0 < lease_ms <= LEASE_MS_MAX:
            raise ValueError(f"a lease of {lease_ms} ms")
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MetadataError(f"the primary's record is damaged: {error}") from error
    return Revision(token), lease_ms / 1000
