"""Three members of an etcd: one is killed, one hangs, all hang; a holder dies; names change."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from integration.metadata.conftest import needs_etcd
from integration.metadata.etcd_cluster import EtcdCluster, etcd_cluster
from integration.metadata.etcd_cluster import Member as EtcdMember

from kvstore.cluster.metadata.election import PRIMARY_KEY, campaign, current_holder
from kvstore.cluster.metadata.port import ABSENT, Created, Modified, Put, Revision, transact
from kvstore.errors import AmbiguousError, MetadataUnavailableError, NotPrimaryError

if TYPE_CHECKING:
    from kvstore.cluster.metadata.etcd import EtcdStore
    from kvstore.cluster.metadata.etcd_connection import Address

OpenStore = Callable[..., Awaitable["EtcdStore"]]

pytestmark = needs_etcd

TIMEOUT_S = 60.0
TTL_S = 1
SLACK_S = 3.0
"""What a busy machine may add."""
WRITES = 60

HOLDER = """
import asyncio, sys
from kvstore.cluster.metadata.election import campaign
from kvstore.cluster.metadata.etcd import EtcdStore
from kvstore.cluster.metadata.etcd_connection import EtcdOptions

async def main():
    store = EtcdStore(EtcdOptions(tuple(sys.argv[1].split(",")), sys.argv[3].encode()))
    primary = await campaign(store, await store.session(int(sys.argv[2])), "holder")
    print(primary.token, flush=True)
    await primary.session.lost()

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """No test waits for ever."""
    async with asyncio.timeout(TIMEOUT_S):
        yield


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """A cluster whose members hang at times."""
    with etcd_cluster(tmp_path_factory.mktemp("etcd"), 3) as cluster:
        yield cluster


@pytest.fixture
def mortal(lasting: EtcdCluster) -> Iterator[EtcdCluster]:
    """The same, for a test that kills members; they start again with what they have on disk."""
    yield lasting
    lasting.restart()


@pytest.fixture
async def open_store() -> AsyncIterator[OpenStore]:
    """Return stores whose turn begins with the member that leads; hung members go on in the end."""
    async with AsyncExitStack() as stack:

        async def open_one(cluster: EtcdCluster, timeout_s: float = 4.0) -> "EtcdStore":
            from kvstore.cluster.metadata.etcd import EtcdStore
            from kvstore.cluster.metadata.etcd_connection import EtcdOptions

            leader = await asyncio.to_thread(cluster.leader)
            members = sorted(cluster.members, key=lambda member: member is not leader)
            endpoints = tuple(f"127.0.0.1:{member.client_port}" for member in members)
            prefix = f"/{uuid4()}/".encode()
            options = EtcdOptions(
                endpoints, prefix, timeout_s=timeout_s, attempt_s=0.7, heartbeat_s=0.3
            )
            store = EtcdStore(options)
            stack.push_async_callback(store.close)
            stack.callback(cluster.resume)
            return store

        yield open_one


async def write_counts(store: "EtcdStore", first: int, end: int) -> list[int]:
    """Count a key up, each write in place of the one before; return what was answered."""
    answered: list[int] = []
    for count in range(first, end):
        entry = await store.get(b"n")
        compare = Modified(b"n", ABSENT if entry is None else entry.modified)
        outcome = await transact(store, [compare], [Put(b"n", b"%d" % count)])
        assert outcome.succeeded
        answered.append(count)
    return answered


async def watch_counts(store: "EtcdStore", last: int) -> list[int]:
    seen: list[int] = []
    async with aclosing(store.watch(b"n", ABSENT)) as found:
        async for changes in found:
            seen.extend(int(getattr(change, "value", b"-1")) for change in changes.changes)
            if seen[-1] == last:
                break
    return seen


async def test_a_killed_leader_takes_no_write_and_no_event_along(
    mortal: EtcdCluster, open_store: OpenStore
) -> None:
    store = await open_store(mortal)
    await lose_leader(mortal, store, EtcdMember.kill)


async def test_a_hung_leader_takes_no_write_and_no_event_along(
    lasting: EtcdCluster, open_store: OpenStore
) -> None:
    store = await open_store(lasting)
    await lose_leader(lasting, store, EtcdMember.pause)


async def lose_leader(
    cluster: EtcdCluster, store: "EtcdStore", fault: Callable[[EtcdMember], None]
) -> None:
    """Write, watch and hold a session while the leader is lost; check that all goes on."""
    session = await store.session(5)
    await store.transaction([], [Put(b"held", b"", session.id)])
    watching = asyncio.ensure_future(watch_counts(store, WRITES - 1))
    answered = await write_counts(store, 0, WRITES // 2)

    leader = await asyncio.to_thread(cluster.leader)
    fault(leader)
    answered += await write_counts(store, WRITES // 2, WRITES)

    assert list(range(WRITES)) == answered
    assert list(range(WRITES)) == await watching
    assert session.alive()
    assert await store.get(b"held") is not None


async def test_a_holder_steps_down_before_etcd_lets_anybody_in(
    lasting: EtcdCluster, open_store: OpenStore
) -> None:
    store = await open_store(lasting)
    sent_s = time.monotonic()
    session = await store.session(TTL_S)
    primary = await campaign(store, session, "a")
    lasting.pause()
    await session.lost()
    lost_s = time.monotonic()

    assert not primary.alive()
    assert lost_s - sent_s < TTL_S + SLACK_S
    with pytest.raises(NotPrimaryError):
        await primary.transaction([], [Put(b"x", b"late")])

    lasting.resume()
    second = await campaign(store, await store.session(TTL_S), "b")
    assert 2 == second.epoch


async def test_without_any_member_reads_fail_and_writes_are_doubtful(
    lasting: EtcdCluster, open_store: OpenStore
) -> None:
    store = await open_store(lasting, 1.0)
    await store.transaction([], [Put(b"a", b"1")])
    lasting.pause()

    async def read() -> None:
        with pytest.raises(MetadataUnavailableError):
            await store.get(b"a")

    async def write() -> None:
        with pytest.raises((AmbiguousError, MetadataUnavailableError)):
            await store.transaction([], [Put(b"a", b"2")])

    await asyncio.gather(read(), write())


async def test_when_all_are_gone_a_write_has_certainly_not_happened(
    mortal: EtcdCluster, open_store: OpenStore
) -> None:
    store = await open_store(mortal, 0.5)
    mortal.close()

    with pytest.raises(MetadataUnavailableError, match=r"no etcd at 127\.0\.0\.1"):
        await store.transaction([], [Put(b"a", b"2")])


async def test_a_killed_holder_is_followed_and_fenced(
    lasting: EtcdCluster, open_store: OpenStore
) -> None:
    store = await open_store(lasting)
    token, killed_s = await asyncio.to_thread(killed_holder, lasting, store.prefix)
    second = await campaign(store, await store.session(TTL_S), "b")

    assert time.monotonic() - killed_s < TTL_S + SLACK_S
    assert 2 == second.epoch
    late = await store.transaction([Created(PRIMARY_KEY, token)], [Put(b"x", b"late")])
    assert not late.succeeded
    assert second.holder == await current_holder(store)


async def test_all_addresses_of_a_name_are_tried_and_names_are_looked_up_again(
    mortal: EtcdCluster,
) -> None:
    from kvstore.cluster.metadata.etcd import EtcdStore
    from kvstore.cluster.metadata.etcd_connection import EtcdOptions

    names = Names(mortal)
    options = EtcdOptions(("etcd.test:2379",), b"/names/", timeout_s=5.0, attempt_s=0.7)
    store = EtcdStore(options, resolve=names.addresses)
    names.members = [None, 0]
    await store.transaction([], [Put(b"a", b"1")])

    mortal.members[0].kill()
    names.members = [None, 2]
    outcome = await transact(store, [Modified(b"b", ABSENT)], [Put(b"b", b"2")])
    await store.close()

    assert outcome.succeeded
    assert {"etcd.test:2379"} == names.asked


class Names:
    """A name whose addresses change: of members by index, or of nobody."""

    def __init__(self, cluster: EtcdCluster) -> None:
        self.cluster = cluster
        self.members: list[int | None] = []
        self.asked: set[str] = set()

    async def addresses(self, endpoint: str) -> list["Address"]:
        from kvstore.cluster.metadata.etcd_connection import Address

        self.asked.add(endpoint)
        ports = [1 if index is None else self.port(index) for index in self.members]
        return [Address(f"ipv4:127.0.0.1:{port}", "etcd.test") for port in ports]

    def port(self, index: int) -> int:
        return self.cluster.members[index].client_port


async def test_every_address_of_an_endpoint_is_found() -> None:
    from kvstore.cluster.metadata.etcd_connection import Address, addresses_of

    assert [Address("ipv4:127.0.0.1:2379", "127.0.0.1")] == await addresses_of("127.0.0.1:2379")
    assert [Address("ipv6:[::1]:2379", "::1")] == await addresses_of("[::1]:2379")
    assert [] == await addresses_of("no-such-name.invalid:2379")
    assert [] == await addresses_of("127.0.0.1:no-port")


def killed_holder(cluster: EtcdCluster, prefix: bytes) -> tuple[Revision, float]:
    """Let another process become primary, and kill it; return its token, and when."""
    command = [sys.executable, "-c", HOLDER, ",".join(cluster.endpoints), str(TTL_S)]
    command.append(prefix.decode())
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        token = Revision(int(holder.stdout.readline()))
        holder.kill()
    return token, time.monotonic()


async def test_a_session_that_has_run_out_is_not_waited_for(
    lasting: EtcdCluster, open_store: OpenStore
) -> None:
    """Whoever stands again does not lose time by giving back to a silent etcd what is over."""
    store = await open_store(lasting)
    session = await store.session(TTL_S)
    lasting.pause()
    await session.lost()
    began_s = time.monotonic()

    await session.close()

    assert time.monotonic() - began_s < 0.5
