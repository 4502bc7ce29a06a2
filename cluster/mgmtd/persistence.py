"""Routing info and ledger in the metadata store: a base, the deltas since, and one record each.

    routing/head                    [format, base version, version, cluster, verifier]
    routing/VERSION/PAGE            the base, or a delta, as the codec has it, in pages
    ledger/...                      see `ledger`

A version counts when the head names it: pages are written before, so that a change of any size
takes effect by one small transaction. A primary that died in between leaves pages that the next one
clears away. Every write is guarded by the primary's key, and by the head that it replaces.
"""

import asyncio
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from uuid import UUID

import msgpack

from kvstore.cluster.codec import decode_delta, decode_routing, encode_delta, encode_routing
from kvstore.cluster.delta import Delta, apply_delta
from kvstore.cluster.fields import Fields
from kvstore.cluster.ids import ROUTING_VERSION_MAX, RoutingVersion
from kvstore.cluster.metadata.election import Primary
from kvstore.cluster.metadata.port import (
    ABSENT,
    Delete,
    Entry,
    MetadataStore,
    Modified,
    Operation,
    Put,
    Revision,
)
from kvstore.cluster.mgmtd.basis import Basis, basis_of
from kvstore.cluster.mgmtd.draft import Proposal
from kvstore.cluster.mgmtd.feed import Base
from kvstore.cluster.mgmtd.ledger import PREFIX as LEDGER
from kvstore.cluster.mgmtd.ledger import Ledger, ledger_of
from kvstore.cluster.routing import RoutingInfo
from kvstore.errors import KVStoreError, MetadataError, NotPrimaryError, StoreAccessError

FORMAT_VERSION = 1
ROUTING = b"routing/"
HEAD_KEY = b"routing/head"
PAGE_SIZE = 256 << 10
PAGES_AT_ONCE_MAX = 2
"""In one transaction, beside the records of a proposal."""
DELTAS_MAX = 256
DELTAS_SIZE_MAX = 1 << 20
"""Versions between two bases, and bytes: whoever loads reads all of them."""
DELETES_AT_ONCE_MAX = 64
CHAINS_BESIDE_MIN = 200
"""A delta of so many chains takes milliseconds to encode."""


@dataclass(frozen=True, slots=True)
class Head:
    """What is in force."""

    base: RoutingVersion
    version: RoutingVersion
    cluster: UUID
    verifier: bytes
    """Proves that a secret is the cluster's, without telling it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a proposal has become."""

    delta: bytes
    """As encoded; empty where there is none."""
    base: Base | None
    """The whole, where that was stored in the place of the delta."""


class Persistence:
    """What one primary knows of what is stored. Made by `take_over`."""

    def __init__(self, primary: Primary, head: Head, revisions: dict[bytes, Revision]) -> None:
        """Go on from what is stored."""
        self.primary = primary
        self._head = head
        self._revisions = revisions
        self._deltas_size = 0
        self._storing = asyncio.Lock()

    async def save(self, proposal: Proposal) -> Stored:
        """Store a proposal, with a new base if that is due.

        NotPrimaryError where another one is primary by now.
        """
        async with self._storing:
            return await self._save(proposal)

    async def change_secret(self, secret: bytes) -> None:
        """Store that another secret is the cluster's from now on."""
        async with self._storing:
            head = replace(self._head, verifier=verifier_of(secret, self._head.cluster))
            await self._transact([Put(HEAD_KEY, encode_head(head))])
            self._head = head

    async def _save(self, proposal: Proposal) -> Stored:
        operations = [
            Delete(key) if value is None else Put(key, value)
            for key, value in proposal.records.items()
        ]
        head, old = self._head, list[bytes]()
        base: Base | None = None
        delta = b""
        if proposal.delta is not None:
            delta = encoded = await _encoded(proposal.delta)
            version = proposal.after.routing.version
            if version - head.base >= DELTAS_MAX or self._deltas_size >= DELTAS_SIZE_MAX:
                old = [key for key in self._revisions if is_page(key)]
                encoded = await asyncio.to_thread(encode_routing, proposal.after.routing)
                base = Base(version, encoded)
                self._deltas_size = 0
            else:
                self._deltas_size += len(delta)
            operations.extend(await self._write_first(version, encoded))
            head = replace(head, base=version if base else head.base, version=version)
        await self._transact([*operations, Put(HEAD_KEY, encode_head(head))])
        self._head = head
        await self.clear(old)
        return Stored(delta, base)

    async def clear(self, keys: Sequence[bytes]) -> None:
        """Delete pages that count no more."""
        for first in range(0, len(keys), DELETES_AT_ONCE_MAX):
            await self._transact([Delete(key) for key in keys[first : first + DELETES_AT_ONCE_MAX]])

    async def _write_first(self, version: int, encoded: bytes) -> list[Operation]:
        """Write all pages but the last few, and return the puts of these."""
        pages = [Put(key, page) for key, page in pages_of(version, encoded)]
        while len(pages) > PAGES_AT_ONCE_MAX:
            await self._transact([pages.pop(0)])
        return list(pages)

    async def _transact(self, operations: Sequence[Operation]) -> None:
        compares = [
            Modified(operation.key, self._revisions.get(operation.key, ABSENT))
            for operation in operations
        ]
        outcome = await self.primary.transact(compares, operations)
        if not outcome.succeeded:
            raise NotPrimaryError(
                f"what epoch {self.primary.epoch} has stored was changed by somebody else"
            )
        for operation in operations:
            if isinstance(operation, Put):
                self._revisions[operation.key] = outcome.revision
            else:
                self._revisions.pop(operation.key, None)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a new primary goes on with."""

    persistence: Persistence
    basis: Basis
    base: Base
    deltas: tuple[bytes, ...]
    """What leads from the base to the routing info in force."""


async def take_over(
    primary: Primary, secret: bytes, fresh: UUID, secret_before: bytes | None = None
) -> Loaded:
    """Load what is stored, or begin a new cluster with the uuid `fresh`.

    StoreAccessError where the cluster has another secret. Where it has still the one that this
    mgmtd had before, `secret` is stored in its place.
    """
    store: MetadataStore = primary.store
    snapshot = await store.range(ROUTING)
    entries = {entry.key: entry for entry in snapshot.entries}
    ledger_entries = (await store.range(LEDGER)).entries
    revisions = {entry.key: entry.modified for entry in (*snapshot.entries, *ledger_entries)}
    if HEAD_KEY not in entries:
        return await _begin(primary, secret, fresh, revisions)
    head = decode_head(entries[HEAD_KEY].value)
    changed = not _verifies(head, secret)
    if changed and (secret_before is None or not _verifies(head, secret_before)):
        raise StoreAccessError(
            f"cluster {head.cluster} was made with another secret: give every mgmtd the same one"
        )
    # What is large takes long to decode, and the lease has to be renewed meanwhile.
    basis, base, deltas = await asyncio.to_thread(_decode, head, entries, ledger_entries)
    persistence = Persistence(primary, head, revisions)
    stale = [key for key in entries if is_page(key) and not _counts(key, head)]
    await persistence.clear(stale)
    if changed:
        await persistence.change_secret(secret)
    return Loaded(persistence, basis, base, deltas)


async def _begin(
    primary: Primary, secret: bytes, cluster: UUID, revisions: dict[bytes, Revision]
) -> Loaded:
    """Store an empty cluster."""
    routing = RoutingInfo(version=RoutingVersion(1), cluster=cluster)
    head = Head(routing.version, routing.version, cluster, verifier_of(secret, cluster))
    persistence = Persistence(primary, head, revisions)
    await persistence.clear([key for key in revisions if is_page(key)])
    base = Base(routing.version, encode_routing(routing))
    pages = [Put(key, page) for key, page in pages_of(routing.version, base.encoded)]
    await persistence._transact([*pages, Put(HEAD_KEY, encode_head(head))])
    return Loaded(persistence, basis_of(routing, Ledger()), base, ())


async def _encoded(delta: Delta) -> bytes:
    """Return a delta as bytes; a large one is encoded beside the event loop."""
    if delta.slot_tables or len(delta.chains) >= CHAINS_BESIDE_MIN:
        return await asyncio.to_thread(encode_delta, delta)
    return encode_delta(delta)


def verifier_of(secret: bytes, cluster: UUID) -> bytes:
    """Return what is stored of a secret: enough to know it again, not to learn it."""
    return hmac.new(secret, b"kvstore mgmtd\0" + cluster.bytes, sha256).digest()


def _verifies(head: Head, secret: bytes) -> bool:
    return hmac.compare_digest(head.verifier, verifier_of(secret, head.cluster))


def encode_head(head: Head) -> bytes:
    """Return the head as bytes."""
    encoded = msgpack.packb(
        [FORMAT_VERSION, head.base, head.version, head.cluster.bytes, head.verifier]
    )
    assert isinstance(encoded, bytes)
    return encoded


def decode_head(encoded: bytes) -> Head:
    """Return the head; MetadataError where it is damaged or of a later release."""
    try:
        message = msgpack.unpackb(encoded, raw=False)
        if isinstance(message, list) and message[:1] != [FORMAT_VERSION]:
            raise MetadataError(
                f"mgmtd's records have format version {message[:1]}, this release reads"
                f" {FORMAT_VERSION}: use the release that wrote them, or a later one"
            )
        fields = Fields(message, "head", 5)
        fields.any()
        return Head(
            RoutingVersion(fields.integer("base", ROUTING_VERSION_MAX)),
            RoutingVersion(fields.integer("version", ROUTING_VERSION_MAX)),
            UUID(bytes=fields.binary("cluster", 16)),
            fields.binary("verifier", 32),
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise MetadataError(f"the record {HEAD_KEY!r} of mgmtd is damaged: {error}") from error


def pages_of(version: int, encoded: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield what is stored of a version, with its keys."""
    for page, first in enumerate(range(0, len(encoded), PAGE_SIZE)):
        yield ROUTING + f"{version:016x}/{page:04x}".encode(), encoded[first : first + PAGE_SIZE]


def is_page(key: bytes) -> bool:
    """Say whether a key is that of a page."""
    return key.startswith(ROUTING) and key != HEAD_KEY


def _counts(key: bytes, head: Head) -> bool:
    """Say whether a page is part of what the head names."""
    return head.base <= int(key.split(b"/")[1], 16) <= head.version


def _decode(
    head: Head, entries: Mapping[bytes, Entry], ledger_entries: Sequence[Entry]
) -> tuple[Basis, Base, tuple[bytes, ...]]:
    """Return what is in force, and how it is stored."""
    by_version: dict[int, list[bytes]] = {}
    for key in sorted(entries):
        if is_page(key):
            by_version.setdefault(int(key.split(b"/")[1], 16), []).append(entries[key].value)
    base = Base(head.base, b"".join(by_version.get(head.base, [])))
    deltas = [
        b"".join(by_version.get(version, [])) for version in range(head.base + 1, head.version + 1)
    ]
    try:
        routing = decode_routing(base.encoded)
        for delta in deltas:
            routing = apply_delta(decode_delta(delta), routing)
    except KVStoreError as error:
        raise MetadataError(f"the routing info of mgmtd is damaged: {error}") from error
    ledger = ledger_of((entry.key, entry.value) for entry in ledger_entries)
    return basis_of(routing, ledger), base, tuple(deltas)
