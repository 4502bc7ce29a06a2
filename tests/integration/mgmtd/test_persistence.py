"""What mgmtd stores: it is all there again, whatever ended the one before."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from kvstore.cluster.delta import delta_between
from kvstore.cluster.ids import ChainId, ChainVersion, NodeId, RoutingVersion, SlotTableId, TargetId
from kvstore.cluster.metadata.election import Primary, campaign
from kvstore.cluster.metadata.port import Delete, MetadataStore, Put
from kvstore.cluster.metadata.rocks import open_rocks
from kvstore.cluster.mgmtd import persistence
from kvstore.cluster.mgmtd.basis import Basis, basis_of
from kvstore.cluster.mgmtd.draft import Proposal
from kvstore.cluster.mgmtd.ledger import (
    IDENTITY,
    LEAVING,
    TABLE,
    Identity,
    Ledger,
    records_of,
)
from kvstore.cluster.mgmtd.persistence import HEAD_KEY, Loaded, is_page, take_over
from kvstore.cluster.routing import (
    Chain,
    ChainTarget,
    NamespacePolicy,
    Node,
    RoutingInfo,
    SlotTable,
    Target,
)
from kvstore.cluster.states import NodeKind, NodeState, PublicState
from kvstore.errors import MetadataError, NotPrimaryError, StoreAccessError

CLUSTER = UUID(int=77)
SECRET = b"secret"


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """No test waits for ever."""
    async with asyncio.timeout(60):
        yield


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[MetadataStore]:
    opened = await open_rocks(tmp_path / "metadata")
    yield opened
    await opened.close()


async def elected(store: MetadataStore) -> Primary:
    return await campaign(store, await store.session(60.0), "me")


async def again(store: MetadataStore, primary: Primary) -> Loaded:
    """Return what the next primary loads."""
    await primary.resign()
    return await take_over(await elected(store), SECRET, uuid4())


def step_of(basis: Basis, routing: RoutingInfo, ledger: Ledger | None = None) -> Proposal:
    before = basis.routing
    after = replace(routing, version=RoutingVersion(before.version + 1), cluster=before.cluster)
    ledger = ledger or basis.ledger
    records = records_between(basis.ledger, ledger)
    return Proposal(basis_of(after, ledger), delta_between(before, after), records)


def records_between(before: Ledger, after: Ledger) -> dict[bytes, bytes | None]:
    uuids = {id: after.identities.get(id) for id in {**before.identities, **after.identities}}
    leaving = {id: after.leaving.get(id) for id in {**before.leaving, **after.leaving}}
    tables = {id: after.replicas.get(id) for id in {**before.replicas, **after.replicas}}
    return {
        **records_of(IDENTITY, uuids),
        **records_of(LEAVING, leaving),
        **records_of(TABLE, tables),
    }


def sized(count: int) -> RoutingInfo:
    """Return routing info with so many chains of one target."""
    node = Node(NodeId(1), NodeKind.STORAGE, NodeState.ACTIVE, ("a:1",))
    targets = {TargetId(id): Target(TargetId(id), node.id, 0, id) for id in range(1, count + 1)}
    chains = {
        ChainId(id): Chain(
            ChainId(id), ChainVersion(1), (ChainTarget(TargetId(id), PublicState.SERVING),)
        )
        for id in range(1, count + 1)
    }
    table = SlotTable(SlotTableId(1), (ChainId(1),))
    return RoutingInfo(
        nodes={node.id: node},
        targets=targets,
        chains=chains,
        slot_tables={table.id: table},
        namespaces={"default": NamespacePolicy("default", table.id)},
    )


async def test_a_new_cluster_begins_empty_and_keeps_its_uuid(store: MetadataStore) -> None:
    primary = await elected(store)

    first = await take_over(primary, SECRET, CLUSTER)
    second = await again(store, primary)

    assert RoutingInfo(RoutingVersion(1), CLUSTER) == first.basis.routing
    assert first.basis == second.basis


async def test_every_step_is_there_again(store: MetadataStore) -> None:
    primary = await elected(store)
    loaded = await take_over(primary, SECRET, CLUSTER)
    uuid = uuid4()
    identities = {TargetId(1): Identity(uuid, used=True, replaced_by=uuid4())}
    ledger = Ledger(identities, {TargetId(1): TargetId(0)}, {SlotTableId(1): 3})
    basis = loaded.basis
    for routing, recorded in ((sized(3), ledger), (sized(2), Ledger()), (sized(5), ledger)):
        proposal = step_of(basis, routing, recorded)
        assert (await loaded.persistence.save(proposal)).base is None
        basis = proposal.after

    found = await again(store, primary)

    assert basis == found.basis
    assert 3 == len(found.deltas)


async def test_only_the_ledger_may_change(store: MetadataStore) -> None:
    primary = await elected(store)
    loaded = await take_over(primary, SECRET, CLUSTER)
    after = Ledger(leaving={TargetId(4): TargetId(5)})
    basis = basis_of(loaded.basis.routing, after)

    records = records_between(Ledger(), after)
    await loaded.persistence.save(Proposal(basis, None, records))

    assert basis == (await again(store, primary)).basis


async def test_a_change_larger_than_a_transaction_takes_effect_whole(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence, "PAGE_SIZE", 100)
    primary = await elected(store)
    loaded = await take_over(primary, SECRET, CLUSTER)
    large = step_of(loaded.basis, sized(500))

    await loaded.persistence.save(large)
    found = await again(store, primary)
    assert large.after == found.basis

    # One that dies before the last transaction leaves pages that count for nothing.
    dying = through(Mortal(store, left=3), found)
    half = await take_over(dying, SECRET, uuid4())
    with pytest.raises(MetadataError, match="dead"):
        await half.persistence.save(step_of(half.basis, sized(900)))
    pages = len([entry for entry in (await store.range(b"")).entries if is_page(entry.key)])
    after = await again(store, dying)
    assert large.after == after.basis
    fewer = [entry for entry in (await store.range(b"routing/")).entries if is_page(entry.key)]
    assert len(fewer) < pages


async def test_a_new_base_is_written_now_and_then(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence, "DELTAS_MAX", 3)
    primary = await elected(store)
    loaded = await take_over(primary, SECRET, CLUSTER)
    basis, bases = loaded.basis, []
    for count in range(1, 11):
        proposal = step_of(basis, sized(count))
        base = (await loaded.persistence.save(proposal)).base
        bases.append(None if base is None else base.version)
        basis = proposal.after

    found = await again(store, primary)

    assert [None, None, 4, None, None, 7, None, None, 10, None] == bases
    assert basis == found.basis
    assert (10, 1) == (found.base.version, len(found.deltas))
    entries = (await store.range(b"routing/")).entries
    assert 2 == sum(is_page(entry.key) for entry in entries)


async def test_a_former_primary_stores_nothing(store: MetadataStore) -> None:
    first = await elected(store)
    loaded = await take_over(first, SECRET, CLUSTER)
    await first.resign()
    second = await take_over(await elected(store), SECRET, uuid4())

    with pytest.raises(NotPrimaryError):
        await loaded.persistence.save(step_of(loaded.basis, sized(1)))

    assert RoutingVersion(1) == second.basis.routing.version


async def test_a_secret_that_was_changed_is_stored_by_the_next_primary(
    store: MetadataStore,
) -> None:
    primary = await elected(store)
    await take_over(primary, SECRET, CLUSTER)

    await take_over(primary, b"another", CLUSTER, SECRET)

    await take_over(primary, b"another", CLUSTER)
    with pytest.raises(StoreAccessError, match="another secret"):
        await take_over(primary, SECRET, CLUSTER)


async def test_another_secret_is_refused(store: MetadataStore) -> None:
    primary = await elected(store)
    await take_over(primary, SECRET, CLUSTER)

    with pytest.raises(StoreAccessError, match="another secret"):
        await take_over(primary, b"", CLUSTER)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        (HEAD_KEY, b"\xc1", "is damaged"),
        (HEAD_KEY, b"\x91\x02", "format version"),
        (b"routing/0000000000000001/0000", b"x", "is damaged"),
        (b"ledger/identity/00000001", b"\x90", "is damaged"),
        (b"ledger/nonsense/00000001", b"\x91\x01", "is damaged"),
    ],
)
async def test_damaged_records_are_named(
    store: MetadataStore, key: bytes, value: bytes, why: str
) -> None:
    primary = await elected(store)
    await take_over(primary, SECRET, CLUSTER)
    await store.transaction([], [Put(key, value)])

    with pytest.raises(MetadataError, match=why):
        await take_over(primary, SECRET, CLUSTER)


class Mortal:
    """A store whose user dies after some transactions that change routing info."""

    def __init__(self, store: MetadataStore, left: int) -> None:
        self._store = store
        self._left = left

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def transaction(
        self, compares: Sequence[object], operations: Sequence[Put | Delete]
    ) -> object:
        if any(is_page(operation.key) for operation in operations):
            self._left -= 1
            if self._left < 0:
                raise MetadataError("dead")
        return await self._store.transaction(compares, operations)  # type: ignore[arg-type]


def through(mortal: Mortal, found: Loaded) -> Primary:
    """Return the same office, used through a store that fails."""
    held = found.persistence.primary
    return Primary(mortal, held.session, held.holder, held.token)  # type: ignore[arg-type]
