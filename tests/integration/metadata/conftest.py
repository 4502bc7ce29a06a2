"""Both metadata stores, each with as many connections as a test likes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from integration.metadata.etcd_cluster import EtcdCluster, etcd_cluster, installed

from kvstore.cluster.metadata.port import MetadataStore
from kvstore.cluster.metadata.rocks import open_rocks

Connect = Callable[[], Awaitable[MetadataStore]]

needs_etcd = pytest.mark.skipif(not installed(), reason="etcd-server is not installed")


@pytest.fixture(scope="session")
def etcd_member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with etcd_cluster(tmp_path_factory.mktemp("etcd"), 1) as cluster:
        yield cluster


@pytest.fixture(params=["rocks", pytest.param("etcd", marks=needs_etcd)])
async def connect(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Connect]:
    """Return connections to one store that is empty at first."""
    stores: list[MetadataStore] = []
    prefix = f"/test-{uuid4()}/".encode()

    async def connect_rocks() -> MetadataStore:
        return stores[0]

    async def connect_etcd() -> MetadataStore:
        from kvstore.cluster.metadata.etcd import EtcdStore
        from kvstore.cluster.metadata.etcd_connection import EtcdOptions

        cluster: EtcdCluster = request.getfixturevalue("etcd_member")
        stores.append(EtcdStore(EtcdOptions(cluster.endpoints, prefix, timeout_s=5.0)))
        return stores[-1]

    if request.param == "rocks":
        stores.append(await open_rocks(tmp_path / "rocks"))
    yield connect_rocks if request.param == "rocks" else connect_etcd
    for store in stores:
        await store.close()


@pytest.fixture
async def store(connect: Connect) -> MetadataStore:
    return await connect()
