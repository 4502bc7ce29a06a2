"""What every metadata store does alike: one suite, run against both."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from random import Random

import pytest
from integration.metadata.conftest import Connect
from integration.metadata.faults import Behind, Lossy

from kvstore.cluster.metadata.port import (
    ABSENT,
    OPERATIONS_MAX,
    VALUE_SIZE_MAX,
    Changes,
    Compare,
    Created,
    Delete,
    Deleted,
    Entry,
    MetadataStore,
    Modified,
    Operation,
    Outcome,
    Put,
    Revision,
    Snapshot,
    follow,
    transact,
)
from kvstore.errors import CompactedError, MetadataError, SessionLostError

TIMEOUT_S = 30.0
TTL_S = 1.0
DYING_TTL_S = 0.3
"""Of a session that a test lets run out; etcd makes it a second."""


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """No test waits for ever."""
    async with asyncio.timeout(TIMEOUT_S):
        yield


async def test_a_key_that_is_not_there_is_none(store: MetadataStore) -> None:
    assert await store.get(b"a") is None


async def test_a_put_tells_value_and_revisions(store: MetadataStore) -> None:
    first = await store.transaction([], [Put(b"a", b"1")])
    second = await store.transaction([], [Put(b"a", b"2")])

    assert first.succeeded
    assert second.revision > first.revision
    assert Entry(b"a", b"2", first.revision, second.revision) == await store.get(b"a")


async def test_a_key_that_comes_again_was_created_again(store: MetadataStore) -> None:
    await store.transaction([], [Put(b"a", b"1")])
    await store.transaction([], [Delete(b"a")])
    outcome = await store.transaction([], [Put(b"a", b"2")])

    assert Entry(b"a", b"2", outcome.revision, outcome.revision) == await store.get(b"a")


async def test_keys_and_values_are_any_bytes(store: MetadataStore) -> None:
    pairs = {b"\0": b"", b"\xff\xff": b"\xff" * 1000, bytes(range(256)): bytes(range(256))}
    for key, value in pairs.items():
        await store.transaction([], [Put(key, value)])

    assert pairs == {entry.key: entry.value for entry in (await store.range(b"")).entries}


async def test_a_transaction_does_all_or_nothing(store: MetadataStore) -> None:
    before = await store.transaction([], [Put(b"a", b"1"), Put(b"b", b"1")])

    failed = await store.transaction(
        [Modified(b"a", before.revision), Created(b"b", ABSENT)],
        [Put(b"a", b"2"), Delete(b"b"), Put(b"c", b"2")],
    )

    assert Outcome(False, before.revision) == failed
    assert [b"1", b"1"] == [entry.value for entry in (await store.range(b"")).entries]


@pytest.mark.parametrize("kind", [Created, Modified])
async def test_a_compare_with_absent_holds_without_the_key(
    store: MetadataStore, kind: type[Created | Modified]
) -> None:
    made = await store.transaction([kind(b"a", ABSENT)], [Put(b"a", b"1")])
    again = await store.transaction([kind(b"a", ABSENT)], [Put(b"a", b"2")])

    assert (True, False) == (made.succeeded, again.succeeded)


async def test_created_and_modified_are_compared_apart(store: MetadataStore) -> None:
    made = (await store.transaction([], [Put(b"a", b"1")])).revision
    changed = (await store.transaction([], [Put(b"a", b"2")])).revision

    async def holds(compare: Compare) -> bool:
        return (await store.transaction([compare], [])).succeeded

    assert await holds(Created(b"a", made))
    assert await holds(Modified(b"a", changed))
    assert not await holds(Created(b"a", changed))
    assert not await holds(Modified(b"a", made))


async def test_a_delete_of_nothing_changes_nothing(store: MetadataStore) -> None:
    before = await store.transaction([], [Put(b"a", b"1")])
    after = await store.transaction([], [Delete(b"b")])

    assert Outcome(True, before.revision) == after


async def test_a_range_is_sorted_and_keeps_to_its_prefix(store: MetadataStore) -> None:
    keys = [b"a", b"b", b"b\0", b"b\xff", b"b\xff\xff", b"c"]
    await store.transaction([], [Put(key, key) for key in reversed(keys)])

    snapshot = await store.range(b"b")
    last = await store.range(b"b\xff")

    assert keys[1:5] == [entry.key for entry in snapshot.entries]
    assert keys[3:5] == [entry.key for entry in last.entries]


async def test_a_range_is_of_one_revision_while_others_write(store: MetadataStore) -> None:
    keys = [b"k/%04d" % index for index in range(2500)]
    for first in range(0, len(keys), 100):
        await store.transaction([], [Put(key, b"0") for key in keys[first : first + 100]])
    ends = [keys[0], keys[-1]]

    async def write() -> None:
        for count in range(1, 30):
            await store.transaction([], [Put(key, b"%d" % count) for key in ends])

    writing = asyncio.ensure_future(write())
    while not writing.done():
        entries = (await store.range(b"k/")).entries
        assert len(keys) == len(entries)
        assert entries[0].value == entries[-1].value
    await writing


async def test_concurrent_increments_are_all_counted(store: MetadataStore) -> None:
    async def increment() -> None:
        for _ in range(5):
            while True:
                entry = await store.get(b"n")
                count, revision = (
                    (0, ABSENT) if entry is None else (int(entry.value), entry.modified)
                )
                put = Put(b"n", b"%d" % (count + 1))
                if (await store.transaction([Modified(b"n", revision)], [put])).succeeded:
                    break

    await asyncio.gather(*(increment() for _ in range(8)))

    entry = await store.get(b"n")
    assert entry is not None
    assert b"40" == entry.value


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        ([Put(b"a", b""), Delete(b"a")], "only once"),
        ([Put(b"%d" % index, b"") for index in range(OPERATIONS_MAX + 1)], "at most 128"),
        ([Put(b"", b"")], "1 to 1024"),
        ([Put(b"a" * 1025, b"")], "1 to 1024"),
        ([Put(b"a", bytes(VALUE_SIZE_MAX + 1))], "a value has at most"),
        ([Put(b"a", bytes(1 << 19)), Put(b"b", bytes(1 << 19))], "a transaction has at most"),
    ],
)
async def test_what_is_too_much_is_refused(
    store: MetadataStore, operations: Sequence[Operation], message: str
) -> None:
    with pytest.raises(MetadataError, match=message):
        await store.transaction([], operations)


async def test_the_largest_transaction_is_taken(store: MetadataStore) -> None:
    size = ((1 << 20) - 3 * OPERATIONS_MAX) // OPERATIONS_MAX
    operations = [Put(b"%03d" % index, bytes(size)) for index in range(OPERATIONS_MAX)]

    assert (await store.transaction([], operations)).succeeded


async def test_a_watch_yields_every_later_change_once_in_order(connect: Connect) -> None:
    writer, watcher = await connect(), await connect()
    start = await writer.transaction([], [Put(b"w/a", b"0")])
    wanted: list[Changes] = []

    async def write() -> None:
        for count in range(1, 60):
            await writer.transaction([], [Put(b"x", b"%d" % count)])
            made = await writer.transaction([], [Put(b"w/a", b"%d" % count)])
            entry = Entry(b"w/a", b"%d" % count, start.revision, made.revision)
            wanted.append(Changes(made.revision, (entry,)))

    writing = asyncio.ensure_future(write())
    seen = await take(watcher, b"w/", start.revision, 59)
    await writing

    assert wanted == seen


async def test_a_watch_shows_puts_and_deletes_of_one_transaction_together(
    store: MetadataStore,
) -> None:
    start = await store.transaction([], [Put(b"a", b"1"), Put(b"b", b"1")])
    made = await store.transaction([], [Put(b"a", b"2"), Delete(b"b"), Put(b"c", b"1")])

    (changes,) = await take(store, b"", start.revision, 1)

    assert made.revision == changes.revision
    by_key = {change.key: change for change in changes.changes}
    assert {
        b"a": Entry(b"a", b"2", start.revision, made.revision),
        b"b": Deleted(b"b", made.revision),
        b"c": Entry(b"c", b"1", made.revision, made.revision),
    } == by_key


async def test_a_watch_resumes_from_any_revision(connect: Connect) -> None:
    writer = await connect()
    revisions = [(await writer.transaction([], [Put(b"a", b"")])).revision for _ in range(20)]

    for index in (0, 7, 18):
        seen = await take(await connect(), b"a", revisions[index], 19 - index)
        assert revisions[index + 1 :] == [changes.revision for changes in seen]


async def test_a_watch_of_what_is_forgotten_says_so(store: MetadataStore) -> None:
    revisions = [(await store.transaction([], [Put(b"a", b"")])).revision for _ in range(9)]

    await store.compact(revisions[5])
    await store.compact(revisions[5])

    with pytest.raises(CompactedError):
        await take(store, b"a", revisions[1], 1)
    assert revisions[6:] == [
        changes.revision for changes in await take(store, b"a", revisions[5], 3)
    ]
    assert await store.get(b"a") is not None
    with pytest.raises(MetadataError, match="future"):
        await store.compact(Revision(revisions[-1] + 1000))


async def test_whoever_follows_lists_first_and_then_sees_every_change(
    store: MetadataStore,
) -> None:
    await store.transaction([], [Put(b"f/a", b"1")])

    async with aclosing(follow(store, b"f/")) as found:
        first = await anext(found)
        made = await store.transaction([], [Delete(b"f/a")])
        second = await anext(found)

    assert isinstance(first, Snapshot)
    assert [b"f/a"] == [entry.key for entry in first.entries]
    assert Changes(made.revision, (Deleted(b"f/a", made.revision),)) == second


async def test_whoever_follows_lists_again_after_forgotten_changes(store: MetadataStore) -> None:
    behind = await store.transaction([], [Put(b"f/a", b"1")])
    for _ in range(3):
        last = await store.transaction([], [Put(b"f/a", b"2")])
    await store.compact(last.revision)

    async with aclosing(follow(Behind(store, behind.revision), b"f/")) as found:
        first, second = await anext(found), await anext(found)

    assert isinstance(first, Snapshot)
    assert isinstance(second, Snapshot)
    assert last.revision == second.entries[0].modified


async def test_the_keys_of_a_session_go_when_it_is_closed(connect: Connect) -> None:
    holder, other = await connect(), await connect()
    session = await holder.session(TTL_S)
    made = await holder.transaction([], [Put(b"a", b"1", session.id), Put(b"b", b"1")])
    assert Entry(b"a", b"1", made.revision, made.revision, session.id) == await other.get(b"a")

    await session.close()

    assert not session.alive()
    await session.lost()
    assert [b"b"] == [entry.key for entry in (await other.range(b"")).entries]


async def test_the_keys_of_a_dead_session_go_when_its_time_is_over_and_those_of_others_stay(
    connect: Connect,
) -> None:
    holder, other = await connect(), await connect()
    renewed, dying = await holder.session(TTL_S), await holder.session(DYING_TTL_S)
    await holder.transaction([], [Put(b"a", b"", renewed.id)])
    made = await holder.transaction([], [Put(b"b", b"", dying.id)])

    await dying.abandon()
    (changes,) = await take(other, b"", made.revision, 1)

    assert (Deleted(b"b", changes.revision),) == changes.changes
    assert (True, False) == (renewed.alive(), dying.alive())
    assert await other.get(b"a") is not None


async def test_a_key_that_is_put_without_the_session_stays(store: MetadataStore) -> None:
    session = await store.session(TTL_S)
    await store.transaction([], [Put(b"a", b"1", session.id)])
    await store.transaction([], [Put(b"a", b"2")])

    await session.close()

    assert await store.get(b"a") is not None


async def test_a_put_with_an_ended_session_is_refused(store: MetadataStore) -> None:
    session = await store.session(TTL_S)
    await session.close()

    with pytest.raises(SessionLostError):
        await store.transaction([], [Put(b"a", b"1", session.id)])
    assert await store.get(b"a") is None


async def test_a_closed_store_refuses(connect: Connect) -> None:
    store = await connect()
    await store.close()
    await store.close()

    with pytest.raises(MetadataError, match="closed"):
        await store.get(b"a")
    with pytest.raises(MetadataError, match="closed"):
        await take(store, b"", ABSENT, 1)


async def test_closing_ends_what_is_under_way(connect: Connect) -> None:
    store = await connect()
    start = await store.transaction([], [Put(b"a", b"1")])
    session = await store.session(TTL_S)
    seen: list[Changes] = []
    written = asyncio.Event()

    async def watch() -> None:
        async with aclosing(store.watch(b"a", start.revision)) as found:
            async for changes in found:
                seen.append(changes)
                await written.wait()  # a change may be seen before its writer has the answer
                await store.close()

    watching = asyncio.ensure_future(watch())
    await store.transaction([], [Put(b"a", b"2")])
    written.set()
    with pytest.raises(MetadataError, match="closed"):
        await watching

    assert 1 == len(seen)
    await session.lost()


@pytest.mark.parametrize("applied", [False, True])
async def test_a_lost_answer_is_settled(store: MetadataStore, applied: bool) -> None:
    lossy = Lossy(store, applied=applied)
    made = await transact(lossy, [Modified(b"a", ABSENT)], [Put(b"a", b"1")])
    lossy.losses = 1
    changed = await transact(
        lossy,
        [Modified(b"a", made.revision), Created(b"b", ABSENT)],
        [Put(b"a", b"2"), Put(b"b", b"2")],
    )
    lossy.losses = 1
    gone = await transact(lossy, [Modified(b"b", changed.revision)], [Delete(b"b")])
    lossy.losses = 1
    late = await transact(lossy, [Modified(b"a", made.revision)], [Put(b"a", b"3")])

    assert (True, True, True, False) == tuple(
        outcome.succeeded for outcome in (made, changed, gone, late)
    )
    assert [(b"a", b"2")] == [
        (entry.key, entry.value) for entry in (await store.range(b"")).entries
    ]


@pytest.mark.parametrize("seed", range(3))
async def test_random_transactions_leave_what_a_model_says(store: MetadataStore, seed: int) -> None:
    random = Random(seed)
    model: dict[bytes, Entry] = {}
    start = (await store.range(b"")).revision
    last = start
    for _ in range(120):
        compares, operations = drawn(random, model)
        wanted = all(
            compare.revision == revision_of(model.get(compare.key), compare) for compare in compares
        )
        outcome = await store.transaction(compares, operations)
        assert wanted == outcome.succeeded
        if wanted:
            last = max(last, outcome.revision)
            apply(model, operations, outcome.revision)

    entries = (await store.range(b"")).entries
    assert [model[key] for key in sorted(model)] == list(entries)
    replayed: dict[bytes, Entry] = {}
    async with aclosing(store.watch(b"", start)) as found:
        async for changes in found:
            for change in changes.changes:
                if isinstance(change, Entry):
                    replayed[change.key] = change
                else:
                    del replayed[change.key]
            if changes.revision == last:
                break
    assert model == replayed


def drawn(random: Random, model: dict[bytes, Entry]) -> tuple[list[Compare], list[Operation]]:
    keys = [b"%d" % index for index in range(8)]
    compares: list[Compare] = []
    for key in random.sample(keys, random.randrange(3)):
        kind = Created if random.random() < 0.5 else Modified
        right = revision_of(model.get(key), kind(key, ABSENT))
        compares.append(kind(key, Revision(right + random.choice([0, 0, 1]))))
    operations: list[Operation] = [
        Put(key, b"%d" % random.randrange(9)) if random.random() < 0.6 else Delete(key)
        for key in random.sample(keys, random.randrange(1, 4))
    ]
    return compares, operations


def revision_of(entry: Entry | None, compare: Compare) -> Revision:
    if entry is None:
        return ABSENT
    return entry.created if isinstance(compare, Created) else entry.modified


def apply(model: dict[bytes, Entry], operations: Sequence[Operation], revision: Revision) -> None:
    for operation in operations:
        before = model.pop(operation.key, None)
        if isinstance(operation, Put):
            created = before.created if before else revision
            model[operation.key] = Entry(operation.key, operation.value, created, revision)


async def take(store: MetadataStore, prefix: bytes, after: Revision, count: int) -> list[Changes]:
    """Return the next changes of a watch."""
    seen: list[Changes] = []
    async with aclosing(store.watch(prefix, after)) as found:
        async for changes in found:
            seen.append(changes)
            if len(seen) == count:
                break
    return seen
