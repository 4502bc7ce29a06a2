"""One primary at a time, with an epoch that counts, on both metadata stores."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from integration.metadata.conftest import Connect
from integration.metadata.faults import Lossy, Through

from kvstore.cluster.metadata import office as office_module
from kvstore.cluster.metadata.election import (
    PRIMARY_KEY,
    Primary,
    campaign,
    current_holder,
    holder_of,
)
from kvstore.cluster.metadata.office import Office, Silence
from kvstore.cluster.metadata.port import (
    ABSENT,
    Created,
    Delete,
    Entry,
    MetadataStore,
    Modified,
    Put,
    Snapshot,
    follow,
)
from kvstore.errors import CompactedError, MetadataError, NotPrimaryError, SessionLostError

TIMEOUT_S = 30.0
TTL_S = 1.0
LONG_TTL_S = 60.0
DYING_TTL_S = 0.3
"""Of a session that a test lets run out; etcd makes it a second."""


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """No test waits for ever."""
    async with asyncio.timeout(TIMEOUT_S):
        yield


async def elect(store: MetadataStore, name: str, ttl_s: float = TTL_S) -> Primary:
    return await campaign(store, await store.session(ttl_s), name)


async def test_the_first_candidate_is_primary_of_epoch_one(store: MetadataStore) -> None:
    assert await current_holder(store) is None

    primary = await elect(store, "a:1")

    assert primary.alive()
    assert (1, "a:1") == (primary.epoch, primary.holder.name)
    assert primary.holder == await current_holder(store)


async def test_a_second_candidate_waits_until_the_first_resigns(connect: Connect) -> None:
    first = await elect(await connect(), "a")
    second_store = await connect()
    waiting = asyncio.ensure_future(elect(second_store, "b"))
    await first.transaction([], [Put(b"x", b"1")])
    assert not waiting.done()

    await first.resign()
    second = await waiting

    assert not first.alive()
    assert (2, "b") == (second.epoch, second.holder.name)


async def test_a_second_candidate_takes_over_when_the_first_has_died(connect: Connect) -> None:
    first = await elect(await connect(), "a", DYING_TTL_S)
    waiting = asyncio.ensure_future(elect(await connect(), "b"))

    await first.session.abandon()
    second = await waiting

    assert not first.alive()
    assert 2 == second.epoch


async def test_of_many_candidates_one_is_primary_at_a_time(connect: Connect) -> None:
    led: list[int] = []
    leading = 0

    async def candidate(name: str) -> None:
        nonlocal leading
        primary = await elect(await connect(), name)
        leading += 1
        assert 1 == leading
        led.append(primary.epoch)
        await primary.transaction([], [Put(b"last", name.encode())])
        leading -= 1
        await primary.resign()

    await asyncio.gather(*(candidate(f"c{index}") for index in range(6)))

    assert [1, 2, 3, 4, 5, 6] == led


async def test_a_former_primarys_write_changes_nothing(connect: Connect) -> None:
    store = await connect()
    first = await elect(store, "a")
    late = [Created(PRIMARY_KEY, first.token)]
    await first.resign()
    second = await elect(await connect(), "b")

    outcome = await store.transaction(late, [Put(b"x", b"late")])
    with pytest.raises(NotPrimaryError, match="epoch 1 has run out"):
        await first.transaction([], [Put(b"x", b"late")])

    assert not outcome.succeeded
    assert await store.get(b"x") is None
    assert (await second.transaction([], [Put(b"x", b"new")])).succeeded


async def test_a_primary_that_does_not_know_of_its_successor_is_told(connect: Connect) -> None:
    """As after a pause that the holder's clock did not count."""
    store = await connect()
    first = await elect(store, "a")
    await store.transaction([], [Delete(PRIMARY_KEY)])
    second = await elect(await connect(), "b")

    with pytest.raises(NotPrimaryError, match="epoch 1 is over: b is primary since epoch 2"):
        await first.transaction([], [Put(b"x", b"late")])
    with pytest.raises(NotPrimaryError):
        await first.transact([Modified(b"x", ABSENT)], [Put(b"x", b"late")])
    assert await store.get(b"x") is None
    assert second.alive()


async def test_a_primarys_failed_compare_is_no_loss_of_its_right(store: MetadataStore) -> None:
    primary = await elect(store, "a")
    await primary.transaction([], [Put(b"x", b"1")])

    outcome = await primary.transaction([Modified(b"x", ABSENT)], [Put(b"x", b"2")])

    assert not outcome.succeeded
    assert primary.alive()


async def test_a_primary_settles_lost_answers(store: MetadataStore) -> None:
    elected = await elect(store, "a")
    lossy = Primary(Lossy(store, applied=True), elected.session, elected.holder, elected.token)

    assert (await lossy.transact([Modified(b"x", ABSENT)], [Put(b"x", b"1")])).succeeded


@pytest.mark.parametrize("applied", [False, True])
async def test_a_lost_answer_to_a_candidacy_is_settled(store: MetadataStore, applied: bool) -> None:
    primary = await campaign(Lossy(store, applied=applied), await store.session(TTL_S), "a")

    assert (1, "a") == (primary.epoch, primary.holder.name)
    entry = await store.get(PRIMARY_KEY)
    assert entry is not None
    assert primary.token == entry.created


async def test_a_candidate_whose_session_ends_gives_up(connect: Connect) -> None:
    first = await elect(await connect(), "a")
    store = await connect()
    session = await store.session(TTL_S)
    waiting = asyncio.ensure_future(campaign(store, session, "b"))

    await session.close()
    with pytest.raises(SessionLostError, match="before b was elected"):
        await waiting
    assert first.alive()


async def test_followers_see_each_primary(connect: Connect) -> None:
    store = await connect()
    names: list[str] = []

    async def watch() -> None:
        async for found in follow(store, PRIMARY_KEY):
            entries = found.entries if isinstance(found, Snapshot) else found.changes
            names.extend(holder_of(entry).name for entry in entries if isinstance(entry, Entry))
            if len(names) == 2:
                return

    watching = asyncio.ensure_future(watch())
    first = await elect(await connect(), "a")
    await first.resign()
    await elect(await connect(), "b")
    await watching

    assert ["a", "b"] == names


async def test_a_damaged_key_of_the_primary_is_reported(store: MetadataStore) -> None:
    await store.transaction([], [Put(PRIMARY_KEY, b"\xc1")])

    with pytest.raises(MetadataError, match="is damaged"):
        await current_holder(store)


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_primary_that_does_not_renew_its_office_loses_it(connect: Connect) -> None:
    primary = await elect(await connect(), "a", LONG_TTL_S)
    clock = Clock()
    office = Office(primary, 0.5, clock)
    silence = Silence(await connect(), clock)
    assert not office.alive()
    await office.renew()
    assert not await silence.end()

    clock.now_s += 0.4
    assert office.alive()
    await office.renew()
    clock.now_s += 0.4
    assert not await silence.end()  # it changed since it was seen
    clock.now_s += 0.4
    assert not office.alive()
    assert not await silence.end()
    clock.now_s += 0.1
    assert await silence.end()

    assert await current_holder(primary.store) is None
    with pytest.raises(NotPrimaryError):
        await office.renew()
    clock.now_s -= 1.0
    assert not office.alive()
    await office.lost()


async def test_a_late_renewal_is_one_as_long_as_nobody_took_the_office(connect: Connect) -> None:
    primary = await elect(await connect(), "a", LONG_TTL_S)
    clock = Clock()
    office = Office(primary, 0.5, clock)
    silence = Silence(await connect(), clock)
    await office.renew()
    assert not await silence.end()

    clock.now_s += 9.0
    assert not office.alive()
    await office.renew()

    assert office.alive()
    assert not await silence.end()
    assert primary.holder == await current_holder(primary.store)


async def test_a_renewal_that_nobody_saw_keeps_the_office(connect: Connect) -> None:
    """Who looks has seen the record before, and takes the office by what it saw."""
    primary = await elect(await connect(), "a", LONG_TTL_S)
    clock = Clock()
    office = Office(primary, 0.5, clock)
    store = Renewing(await connect(), office)
    silence = Silence(store, clock)
    await office.renew()
    assert not await silence.end()

    clock.now_s += 1.0
    store.between = True
    assert not await silence.end()

    assert primary.holder == await current_holder(primary.store)


class Renewing(Through):
    """The primary renews between a look at its record and what follows from it."""

    def __init__(self, store: MetadataStore, office: Office) -> None:
        super().__init__(store)
        self.office = office
        self.between = False

    async def get(self, key: bytes) -> Entry | None:
        entry = await self.store.get(key)
        if self.between:
            await self.office.renew()
        return entry


async def test_what_etcd_remembers_of_an_office_is_compacted(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(office_module, "COMPACT_AFTER", 3)
    store = await connect()
    office = Office(await elect(store, "a", LONG_TTL_S), 0.5)
    before = (await store.range(b"")).revision

    for _ in range(7):
        await office.renew()

    with pytest.raises(CompactedError):
        async with aclosing(store.watch(b"renewed", before)) as found:
            await anext(found)
