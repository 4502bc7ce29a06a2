"""mgmtd with real sockets and a real store; the nodes are real but for their data."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from integration.mgmtd.world import (
    LOOPBACK,
    SECRET,
    TIMEOUT_S,
    FakeNode,
    Lines,
    running,
    states_of,
    until,
)

from kvstore.addresses import Address
from kvstore.cluster.ids import ChainId, NodeId
from kvstore.cluster.leases import LeaseTerms
from kvstore.cluster.metadata.port import MetadataStore
from kvstore.cluster.metadata.rocks import open_rocks
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.cluster.mgmtd.server import Mgmtd
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.states import LocalState, NodeState
from kvstore.errors import (
    ChainChangeError,
    InvalidOptionError,
    MetadataError,
    NotMgmtdError,
    NotRegisteredError,
    RegistrationError,
    RpcError,
    StoreAccessError,
)

THREE = Settings(expected_nodes=3, replicas=3, slots=8)


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """No test waits for ever."""
    async with asyncio.timeout(TIMEOUT_S):
        yield


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[MetadataStore]:
    opened = await open_rocks(tmp_path / "metadata")
    yield opened
    await opened.close()


async def three_nodes(address: Address) -> list[FakeNode]:
    """Return nodes whose chain serves."""
    nodes = [FakeNode(id, [address]) for id in (1, 2, 3)]
    for node in nodes:
        await node.start()
        await node.beat()
    await until(nodes[0].client, lambda routing: bool(routing.chains))
    for node in nodes:
        await node.beat()
        node.local = LocalState.UPTODATE
        assert (await node.beat()).lease_ms
    return nodes


async def close_all(nodes: list[FakeNode]) -> None:
    for node in nodes:
        await node.close()


async def test_nodes_register_and_a_chain_is_made(store: MetadataStore) -> None:
    async with running(store, THREE) as (_, address):
        nodes = await three_nodes(address)

        async with MgmtdClient([address], secret=SECRET) as operator:
            status = await operator.admin("status")

        assert str(address) == status["primary"]
        assert str(nodes[0].routing.cluster) == status["cluster"]
        assert [] == status["problems"]
        targets = status["targets"]
        assert isinstance(targets, list)
        assert [11000, 21000, 31000] == [target["used_bytes"] for target in targets]
        assert {"serving"} == {target["state"] for target in targets}
        await close_all(nodes)


async def test_a_process_that_is_gone_is_out_without_waiting_for_its_lease(
    store: MetadataStore,
) -> None:
    """The lease is an hour: only the refused connection tells."""
    terms = LeaseTerms(heartbeat_ms=200, lease_ms=3_600_000)
    settings = Settings(expected_nodes=3, replicas=3, slots=8, terms=terms)
    async with running(store, settings) as (mgmtd, address):
        nodes = await three_nodes(address)

        await nodes[2].die()
        routing = await until(
            nodes[0].client, lambda found: found.nodes[NodeId(3)].state is NodeState.FAILED
        )

        assert (31, "offline") == states_of(routing.chains[ChainId(1)])[-1]
        assert 1 <= mgmtd.counts.probes
        await close_all(nodes[:2])


async def test_a_node_that_leaves_is_out_when_that_is_answered(store: MetadataStore) -> None:
    async with running(store, THREE) as (_, address):
        nodes = await three_nodes(address)

        await nodes[1].client.leave(nodes[1].id, nodes[1].incarnation)
        routing = await nodes[0].client.routing()

        assert NodeState.FAILED is routing.nodes[NodeId(2)].state
        # It changes its mind: by what it knows it would still serve, so it gets no lease.
        assert not (await nodes[1].beat()).lease_ms
        assert (await nodes[1].beat()).lease_ms
        await close_all(nodes)


async def test_what_is_stored_outlives_mgmtd(tmp_path: Path) -> None:
    directory = tmp_path / "metadata"
    store = await open_rocks(directory)
    async with running(store, THREE) as (_, address):
        nodes = await three_nodes(address)
        before = await nodes[0].client.routing()
        await close_all(nodes)
    await store.close()

    store = await open_rocks(directory)
    async with running(store, THREE) as (_, address):
        client = MgmtdClient([address], secret=SECRET)
        after = await client.routing()
        nodes[0].client = client
        nodes[0].routing = after

        assert before.cluster == after.cluster
        assert before.chains.keys() == after.chains.keys()
        assert before.slot_tables == after.slot_tables
        # A node goes on without registering again, in a later epoch.
        assert (await nodes[0].beat()).lease_ms
        assert 2 == nodes[0].epoch
        await client.close()
    other = Mgmtd(store, THREE, secret=b"another", log=Lines())
    await other.listen(LOOPBACK)
    with pytest.raises(StoreAccessError, match="made with another secret"):
        await other.run()
    await other.close()
    await store.close()


async def test_subscribers_get_every_change_in_order(store: MetadataStore) -> None:
    async with running(store, THREE) as (_, address):
        nodes = await three_nodes(address)
        operator = MgmtdClient([address], secret=SECRET)
        async with aclosing(operator.subscribe()) as versions:
            first = await anext(versions)
            for size in (1, 2, 3):
                await nodes[0].client.admin("ns_set", name="default", size_max=size)
            sizes = []
            async for routing in versions:
                sizes.append(routing.namespaces["default"].size_max)
                if sizes[-1] == 3:
                    break

        assert nodes[0].routing == first
        assert 0 == first.namespaces["default"].size_max
        assert sorted(set(sizes)) == sizes
        async with aclosing(operator.subscribe(routing)) as newer:
            fresh = asyncio.ensure_future(anext(newer))
            await nodes[0].client.admin("ns_set", name="default", size_max=4)
            assert 4 == (await fresh).namespaces["default"].size_max
        await operator.close()
        await close_all(nodes)


async def test_refusals_come_as_what_they_are(store: MetadataStore) -> None:
    async with running(store, THREE) as (_, address):
        nodes = await three_nodes(address)
        client = nodes[0].client

        with pytest.raises(InvalidOptionError, match="is no operation"):
            await client.admin("frobnicate")
        with pytest.raises(ChainChangeError, match="add one first"):
            await client.admin("remove_target", target=11)
        nodes[1].incarnation = 99
        with pytest.raises(NotRegisteredError, match="register"):
            await nodes[1].beat()
        twin = FakeNode(4, [address])
        twin.targets = dict(nodes[0].targets)
        with pytest.raises(RegistrationError, match="known on node 1"):
            await twin.start()
        await close_all([*nodes, twin])


async def test_a_wrong_secret_and_a_wrong_port_are_told_at_once(store: MetadataStore) -> None:
    async with running(store, THREE) as (_, address):
        with pytest.raises(StoreAccessError, match="secret"):
            await MgmtdClient([address], secret=b"wrong").routing()

        async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.close()

        async with await asyncio.start_server(other, "127.0.0.1", 0) as listening:
            port = Address("127.0.0.1", listening.sockets[0].getsockname()[1])
            with pytest.raises(NotMgmtdError, match="is it mgmtd"):
                await MgmtdClient([port], secret=SECRET).routing()
            # One that is right is found among those that are not.
            async with MgmtdClient([port, address], secret=SECRET) as client:
                assert 1 == (await client.routing()).version


async def test_a_second_mgmtd_cannot_open_the_same_directory(
    store: MetadataStore, tmp_path: Path
) -> None:
    with pytest.raises(MetadataError):
        await open_rocks(tmp_path / "metadata")


async def test_a_bug_ends_the_reign_and_the_next_goes_on_from_what_is_stored(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(store, THREE) as (mgmtd, address):
        nodes = await three_nodes(address)
        reign = mgmtd.reign
        assert reign is not None
        monkeypatch.setattr(reign.core, "_on_suspect", None)

        with pytest.raises(RpcError, match="mgmtd failed"):
            await nodes[0].client.suspect(nodes[1].id, None, "no answer")

        assert (await nodes[0].beat()).lease_ms
        assert 2 == nodes[0].epoch
        await close_all(nodes)
