"""URLs of metadata stores: what opens, what is refused, and what is imported for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from kvstore.cluster.metadata.connect import connect_metadata
from kvstore.cluster.metadata.rocks import RocksStore
from kvstore.errors import InvalidURLError, MetadataError

IMPORTS = """
import sys
import kvstore.cluster.metadata.connect, kvstore.cluster.metadata.election
assert not {"grpc", "google.protobuf"} & set(sys.modules)
"""


async def test_a_directory_opens_the_embedded_store(tmp_path: Path) -> None:
    store = await connect_metadata(f"file://{tmp_path}/a%20store", {})
    await store.close()

    assert isinstance(store, RocksStore)
    assert (tmp_path / "a store").is_dir()


async def test_an_etcd_without_a_port_is_at_its_usual_one() -> None:
    from kvstore.cluster.metadata.etcd import EtcdStore

    store = await connect_metadata("etcd://one,two:99,[::1],[::1]:98/of/mine/?user=mgmtd", {})
    assert isinstance(store, EtcdStore)
    await store.close()

    assert b"/of/mine/" == store.prefix
    assert ("one:2379", "two:99", "[::1]:2379", "[::1]:98") == store.endpoints


async def test_without_its_packages_an_etcd_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in [name for name in sys.modules if "cluster.metadata.etcd" in name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "grpc", None)

    with pytest.raises(MetadataError, match=r"\(grpc\): pip install 'craq-kvstore\[etcd\]'"):
        await connect_metadata("etcd://localhost", {})


def test_nothing_of_etcd_is_imported_before_it_is_asked_for() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)


@pytest.mark.parametrize(
    "url",
    ["", "etcd:///prefix", "redis://there", "file:///", "file://there/x", "etcd://a?colour=red"],
)
async def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidURLError):
        await connect_metadata(url, {})


async def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match=r"cannot read .*missing\.pem"):
        await connect_metadata(f"etcd://localhost?ca={tmp_path}/missing.pem", {})
