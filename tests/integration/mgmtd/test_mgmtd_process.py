"""mgmtd as processes: started, stopped, killed, and taken over from."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from integration.metadata.etcd_cluster import EtcdCluster, etcd_cluster, installed
from integration.mgmtd.world import SECRET, TIMEOUT_S, FakeNode, MgmtdProcess, until

from kvstore.addresses import Address
from kvstore.cluster.leases import LeaseTerms
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.cluster.states import LocalState
from kvstore.errors import KVStoreError, MgmtdUnavailableError, StoreAccessError
from kvstore.node.agent import HEARTBEATS_A_LEASE

needs_etcd = pytest.mark.skipif(not installed(), reason="etcd-server is not installed")
COMMAND = (sys.executable, "-m", "kvstore", "mgmtd", "--log", "json")
NEW = ("--expected-nodes", "2", "--replicas", "2", "--slots", "8")


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """No test waits for ever."""
    async with asyncio.timeout(TIMEOUT_S):
        yield


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path_factory.mktemp("etcd"), 1) as cluster:
        yield cluster


async def two_nodes(addresses: list[Address]) -> list[FakeNode]:
    nodes = [FakeNode(id, addresses) for id in (1, 2)]
    for node in nodes:
        await node.start()
        await node.beat()
    await until(nodes[0].client, lambda routing: bool(routing.chains))
    for node in nodes:
        await node.beat()
        node.local = LocalState.UPTODATE
        await node.beat()
    return nodes


async def test_a_process_on_a_directory_stops_and_goes_on(tmp_path: Path) -> None:
    metadata = str(tmp_path / "metadata")
    process = MgmtdProcess(tmp_path, metadata, *NEW)
    try:
        nodes = await two_nodes([await process.address()])
        before = nodes[0].routing
        for node in nodes:
            await node.client.close()
        assert 0 == process.stop()
        assert not process.ready.exists()

        process = MgmtdProcess(tmp_path, metadata)
        nodes[0].client = MgmtdClient([await process.address()], secret=SECRET)
        nodes[0].routing = await nodes[0].client.routing()

        assert before.chains == nodes[0].routing.chains
        assert (await nodes[0].beat()).lease_ms
        for node in nodes:
            await node.close()
    finally:
        process.kill()
    lines = [json.loads(line)["event"] for line in process.log.read_text().splitlines()]
    assert ["listening", "primary"] == lines[:2]
    assert "stopped" in lines


async def test_a_directory_in_use_ends_in_one_line(tmp_path: Path) -> None:
    process = MgmtdProcess(tmp_path, str(tmp_path / "metadata"))
    try:
        await process.address()
        run = await asyncio.to_thread(
            subprocess.run,
            [*COMMAND, "--metadata", str(tmp_path / "metadata"), "--listen", "127.0.0.1:0"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert 1 == run.returncode
        assert "LOCK" in run.stderr
        assert "Traceback" not in run.stderr
    finally:
        process.kill()


@needs_etcd
async def test_another_mgmtd_takes_over_from_one_that_was_killed(
    etcd: EtcdCluster, tmp_path: Path
) -> None:
    """Nodes go on by their own: no chain changes, nobody registers again."""
    metadata = f"etcd://{etcd.endpoints[0]}/takeover"
    processes = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        processes.append(MgmtdProcess(folder, metadata, *NEW))
        addresses = [await process.address() for process in processes]
    try:
        nodes = await two_nodes(addresses)
        primary = await primary_of(nodes[0])
        before = nodes[0].routing

        processes[addresses.index(primary)].kill()

        for node in nodes:
            assert (await node.beat()).lease_ms
            assert 2 == node.epoch
        assert before.chains == (await nodes[0].client.routing()).chains
        assert primary != await primary_of(nodes[0])
        for node in nodes:
            await node.close()
    finally:
        for process in processes:
            process.kill()


@needs_etcd
async def test_nodes_keep_their_leases_while_a_primary_hangs(
    etcd: EtcdCluster, tmp_path: Path
) -> None:
    """It keeps its connections and its port, and answers nothing: nobody sees it die.

    All times are four times what they are by default, for machines that have much else to do.
    """
    terms = LeaseTerms(heartbeat_ms=800, lease_ms=6000, drift_ms_max=200)
    times = ("--heartbeat-ms", "800", "--lease-ms", "6000", "--primary-lease-s", "2.4")
    metadata = f"etcd://{etcd.endpoints[0]}/hangs"
    processes = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        processes.append(MgmtdProcess(folder, metadata, *NEW, *times))
    addresses = [await process.address() for process in processes]
    hanging: MgmtdProcess | None = None
    try:
        nodes = await two_nodes(addresses)
        for node in nodes:
            await node.client.close()
            node.client = MgmtdClient(addresses, secret=SECRET, connect_timeout_s=1.2)
        before = nodes[0].epoch
        keeping = [asyncio.ensure_future(longest_gap(node, terms, before)) for node in nodes]
        primary = await primary_of(nodes[0])
        hanging = processes[addresses.index(primary)]

        hanging.process.send_signal(signal.SIGSTOP)
        gaps_s = await asyncio.gather(*keeping)

        assert max(gaps_s) < terms.lease_ms / 1000
        hanging.process.send_signal(signal.SIGCONT)
        async with MgmtdClient([primary], secret=SECRET, timeout_s=TIMEOUT_S) as client:
            status = await client.admin("status")
        assert str(primary) != status["primary"]
        assert nodes[0].epoch == status["epoch"]
        lines = [json.loads(line)["event"] for line in hanging.log.read_text().splitlines()]
        assert "primary no more" in lines
        for node in nodes:
            await node.close()
    finally:
        for process in processes:
            process.kill()


async def longest_gap(node: FakeNode, terms: LeaseTerms, before: int) -> float:
    """Beat as nodes do until a later epoch answers; the longest time between answered beats."""
    answered_s, longest_s = time.monotonic(), 0.0
    while node.epoch <= before:
        sent_s = time.monotonic()
        with suppress(MgmtdUnavailableError):
            await node.beat(terms.lease_ms / 1000 / HEARTBEATS_A_LEASE)
            longest_s, answered_s = max(longest_s, time.monotonic() - answered_s), sent_s
        await asyncio.sleep(max(0.0, sent_s + terms.heartbeat_ms / 1000 - time.monotonic()))
    return longest_s


@needs_etcd
async def test_a_primary_that_is_stopped_gives_its_office_up(
    etcd: EtcdCluster, tmp_path: Path
) -> None:
    metadata = f"etcd://{etcd.endpoints[0]}/resign"
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    leading = MgmtdProcess(first, metadata)
    client = MgmtdClient([await leading.address()], secret=SECRET, timeout_s=TIMEOUT_S)
    await client.routing()
    standing = MgmtdProcess(second, metadata)
    try:
        # Who asks the one that is not primary is sent to the one that is.
        other = MgmtdClient([await standing.address()], secret=SECRET, timeout_s=TIMEOUT_S)
        status = await other.admin("status")
        assert str(await leading.address()) == status["primary"]

        assert 0 == leading.stop()

        assert 2 == (await other.admin("status"))["epoch"]
        await other.close()
        await client.close()
    finally:
        leading.kill()
        standing.kill()


@needs_etcd
async def test_two_mgmtd_with_different_secrets_do_not_take_turns(
    etcd: EtcdCluster, tmp_path: Path
) -> None:
    metadata = f"etcd://{etcd.endpoints[0]}/secrets"
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    leading = MgmtdProcess(tmp_path / "first", metadata)
    try:
        async with MgmtdClient([await leading.address()], secret=SECRET) as client:
            await client.routing()
        leading.stop()

        other = MgmtdProcess(tmp_path / "second", metadata, "--secret-file", str(wrong(tmp_path)))
        code = await asyncio.to_thread(other.process.wait, TIMEOUT_S)

        assert 1 == code
        assert "was made with another secret" in other.log.read_text()
    finally:
        leading.kill()


async def test_the_secret_is_changed_without_a_restart(tmp_path: Path) -> None:
    metadata = f"file://{tmp_path / 'metadata'}"
    process = MgmtdProcess(tmp_path, metadata)
    new = wrong(tmp_path).read_bytes()
    try:
        address = await process.address()
        async with MgmtdClient([address], secret=SECRET, timeout_s=TIMEOUT_S) as connected:
            await connected.routing()
            (tmp_path / "secret").write_bytes(new)
            process.process.send_signal(signal.SIGHUP)
            await process.logged("reloaded")

            async with MgmtdClient([address], secret=new, timeout_s=TIMEOUT_S) as client:
                await client.routing()
            with pytest.raises(StoreAccessError):
                async with MgmtdClient([address], secret=SECRET, timeout_s=1.0) as client:
                    await client.routing()
            await connected.admin("status")  # what is connected stays so

        # It is the cluster's secret for good.
        assert 0 == process.stop()
        process = MgmtdProcess(tmp_path, metadata, "--secret-file", str(tmp_path / "wrong"))
        async with MgmtdClient(
            [await process.address()], secret=new, timeout_s=TIMEOUT_S
        ) as client:
            await client.routing()
    finally:
        process.kill()


def wrong(folder: Path) -> Path:
    path = folder / "wrong"
    path.write_bytes(b"another secret")
    path.chmod(0o600)
    return path


async def primary_of(node: FakeNode) -> Address:
    status = await node.client.admin("status")
    assert isinstance(status["primary"], str)
    return Address.parse(status["primary"])


async def test_a_client_without_any_mgmtd_says_so() -> None:
    client = MgmtdClient([Address("127.0.0.1", 1)], timeout_s=0.05)

    with pytest.raises(KVStoreError, match=r"no mgmtd answers: 127\.0\.0\.1:1"):
        await client.routing()
    await client.close()
