"""Who is let into an etcd: users with a password, and certificates."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from integration.metadata.conftest import needs_etcd
from integration.metadata.etcd_cluster import EtcdCluster, Member, etcd_cluster, free_ports

from kvstore.cluster.metadata.connect import connect_metadata
from kvstore.cluster.metadata.port import ABSENT, Created, MetadataStore, Put
from kvstore.errors import MetadataError, MetadataUnavailableError

if TYPE_CHECKING:
    from kvstore.cluster.metadata.etcd_connection import EtcdOptions

pytestmark = needs_etcd

TIMEOUT_S = 60.0
USER_COMMANDS = (
    "user add root:rootpass",
    "role add mgmtd",
    "role grant-permission mgmtd --prefix=true readwrite /mine/",
    "user add mgmtd:secret",
    "user grant-role mgmtd mgmtd",
    "user grant-role root root",
    "auth enable",
)

needs_etcdctl = pytest.mark.skipif(
    shutil.which("etcdctl") is None, reason="etcd-client is not installed"
)
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed"
)


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """No test waits for ever."""
    async with asyncio.timeout(TIMEOUT_S):
        yield


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """An etcd where the user mgmtd may touch /mine/ and nothing else."""
    with etcd_cluster(tmp_path_factory.mktemp("etcd"), 1) as cluster:
        for command in USER_COMMANDS:
            etcdctl(cluster, command)
        yield cluster


def etcdctl(cluster: EtcdCluster, command: str) -> None:
    subprocess.run(
        ["etcdctl", f"--endpoints={cluster.endpoints[0]}", *command.split()],
        env={**os.environ, "ETCDCTL_API": "3"},
        check=True,
        capture_output=True,
        timeout=TIMEOUT_S,
    )


async def opened(options: "EtcdOptions") -> MetadataStore:
    from kvstore.cluster.metadata.etcd import EtcdStore

    return EtcdStore(options)


@needs_etcdctl
async def test_a_user_is_let_in_to_its_prefix_only(guarded: EtcdCluster) -> None:
    url = f"etcd://{guarded.endpoints[0]}/mine?user=mgmtd"
    store = await connect_metadata(url, {"KVSTORE_ETCD_PASSWORD": "secret"})
    other = await connect_metadata(
        url.replace("/mine", "/other"), {"KVSTORE_ETCD_PASSWORD": "secret"}
    )

    made = await store.transaction([Created(b"a", ABSENT)], [Put(b"a", b"1")])
    session = await store.session(5)
    changes = await anext(store.watch(b"", ABSENT))
    with pytest.raises(MetadataError, match="PERMISSION_DENIED"):
        await other.get(b"a")
    with pytest.raises(MetadataError, match="PERMISSION_DENIED"):
        await other.transaction([], [Put(b"a", b"1")])
    with pytest.raises(MetadataError, match="refuses the watch"):
        await anext(other.watch(b"", ABSENT))

    assert made.succeeded
    assert made.revision == changes.revision
    assert session.alive()
    await session.close()
    await store.close()
    await other.close()


@needs_etcdctl
async def test_a_wrong_password_is_refused(guarded: EtcdCluster) -> None:
    url = f"etcd://{guarded.endpoints[0]}/mine?user=mgmtd"
    for environment in ({"KVSTORE_ETCD_PASSWORD": "guess"}, {}):
        store = await connect_metadata(url, environment)
        with pytest.raises(MetadataError, match=r"authentication failed|password"):
            await store.get(b"a")
        await store.close()


@needs_etcdctl
async def test_a_token_that_etcd_forgot_is_asked_for_again(guarded: EtcdCluster) -> None:
    url = f"etcd://{guarded.endpoints[0]}/mine/again?user=mgmtd"
    store = await connect_metadata(url, {"KVSTORE_ETCD_PASSWORD": "secret"})
    await store.transaction([], [Put(b"a", b"1")])

    (member,) = guarded.members
    member.kill()
    member.restart()
    entry = await store.get(b"a")
    outcome = await store.transaction([], [Put(b"a", b"2")])
    await store.close()

    assert entry is not None
    assert outcome.succeeded


@needs_openssl
async def test_certificates_are_checked_on_both_sides(tmp_path: Path) -> None:
    from kvstore.cluster.metadata.etcd_connection import EtcdOptions

    authority, other = Authority(tmp_path, "authority"), Authority(tmp_path, "other")
    server, mgmtd = authority.issue("etcd"), authority.issue("mgmtd")
    stranger = other.issue("stranger")
    with secured_etcd(tmp_path, authority.certificate, server) as member:
        endpoints = (f"localhost:{member.client_port}", f"127.0.0.1:{member.client_port}")
        good = EtcdOptions(
            endpoints,
            timeout_s=20.0,
            authority=authority.certificate.read_bytes(),
            certificate=mgmtd.certificate.read_bytes(),
            private_key=mgmtd.private_key.read_bytes(),
        )
        store = await opened(good)
        assert await store.get(b"a") is None  # waits until the member is ready
        assert (await store.transaction([], [Put(b"a", b"1")])).succeeded
        await store.close()
        url = (
            f"etcd://{endpoints[0]}/kvstore?ca={authority.certificate}"
            f"&cert={mgmtd.certificate}&key={mgmtd.private_key}"
        )
        store = await connect_metadata(url, {})
        assert await store.get(b"a") is not None
        await store.close()

        strangers = (
            replace(good, certificate=None, private_key=None),
            replace(good, authority=other.certificate.read_bytes()),
            replace(
                good,
                certificate=stranger.certificate.read_bytes(),
                private_key=stranger.private_key.read_bytes(),
            ),
            replace(good, authority=None),
        )
        await asyncio.gather(*map(is_not_let_in, strangers))


async def is_not_let_in(options: "EtcdOptions") -> None:
    store = await opened(replace(options, timeout_s=0.5))
    with pytest.raises(MetadataUnavailableError):
        await store.transaction([], [Put(b"a", b"2")])
    await store.close()


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.certificate = folder / f"{name}.pem"
        self.private_key = folder / f"{name}.key"
        openssl(
            *("req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-keyout", str(self.private_key), "-out", str(self.certificate)),
        )

    def issue(self, name: str) -> "Identity":
        identity = Identity(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request = self.folder / f"{name}.csr"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost\n")
        openssl(
            *("req", "-nodes", "-subj", f"/CN={name}", "-out", str(request)),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-keyout", str(identity.private_key)),
        )
        openssl(
            *("x509", "-req", "-days", "2", "-in", str(request), "-CAcreateserial"),
            *("-CA", str(self.certificate), "-CAkey", str(self.private_key)),
            *("-extfile", str(extensions), "-out", str(identity.certificate)),
        )
        return identity


class Identity:
    """A certificate and its key."""

    def __init__(self, certificate: Path, private_key: Path) -> None:
        self.certificate = certificate
        self.private_key = private_key


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=TIMEOUT_S)


@contextmanager
def secured_etcd(folder: Path, authority: Path, server: Identity) -> Iterator[Member]:
    """Run one member that takes TLS with a certificate of the authority, and nothing else."""
    client, other = free_ports(2)
    command = [
        *("etcd", "--name", "n0", "--data-dir", str(folder / "n0"), "--logger", "zap"),
        *("--listen-client-urls", f"https://127.0.0.1:{client}"),
        *("--advertise-client-urls", f"https://127.0.0.1:{client}"),
        *("--listen-peer-urls", f"http://127.0.0.1:{other}"),
        *("--initial-advertise-peer-urls", f"http://127.0.0.1:{other}"),
        *("--initial-cluster", f"n0=http://127.0.0.1:{other}"),
        *("--cert-file", str(server.certificate), "--key-file", str(server.private_key)),
        *("--client-cert-auth", "--trusted-ca-file", str(authority)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    member = Member("n0", client, process, command)
    try:
        yield member
    finally:
        member.kill()
