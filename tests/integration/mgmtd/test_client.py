"""What a client of mgmtd meets: silence, a primary elsewhere, several addresses of one name."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from integration.mgmtd.rpc_ends import SECRET, TIMEOUT_S, Echo, address_of, service

from kvstore.addresses import Address
from kvstore.cluster.mgmtd import wire
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.cluster.rpc.failures import RedirectError
from kvstore.cluster.rpc.service import Peer
from kvstore.errors import InvalidOptionError, MgmtdUnavailableError, StoreAccessError


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """No test waits for ever."""
    async with asyncio.timeout(TIMEOUT_S):
        yield


class Scripted(Echo):
    """An mgmtd that says of itself, and of who is primary, what a test likes."""

    def __init__(self, *, primary: bool, where: str = "") -> None:
        super().__init__()
        self.primary = primary
        self.where = where
        self.asked: list[str] = []

    def request(self, peer: Peer, method: str, parameters: object, timeout_s: float) -> object:
        self.asked.append(method)
        if method == wire.WHO:
            return [int(self.primary), self.where]
        if not self.primary:
            raise RedirectError("not primary", self.where)
        return self.later(None) if method == wire.SUSPECT else {"answered": True}


async def test_a_client_follows_who_is_named_primary() -> None:
    primary, other = Scripted(primary=True), Scripted(primary=False)
    async with service(primary) as leading, service(other) as standing:
        other.where = str(address_of(leading))
        client = MgmtdClient([address_of(standing)], secret=SECRET, timeout_s=TIMEOUT_S)

        assert {"answered": True} == await client.admin("status")

        # Who was primary says that somebody else is, in the middle of a connection.
        primary.primary, primary.where = False, str(address_of(standing))
        other.primary = True
        assert {"answered": True} == await client.admin("status")
        assert [wire.WHO, wire.WHO, wire.ADMIN] == other.asked
        await client.close()


async def test_silence_ends_at_the_deadline_as_an_unavailable_mgmtd() -> None:
    async with service(Scripted(primary=True)) as made:
        client = MgmtdClient([address_of(made)], secret=SECRET, timeout_s=TIMEOUT_S)
        await client.admin("status")  # it is connected

        with pytest.raises(MgmtdUnavailableError, match="may be done yet"):
            await client.suspect(1, None, "why", timeout_s=0.01)  # type: ignore[arg-type]
        await client.close()


async def test_nobody_primary_is_told_after_the_deadline() -> None:
    async with service(Scripted(primary=False)) as made:
        client = MgmtdClient([address_of(made)], secret=SECRET, timeout_s=0.1)

        with pytest.raises(MgmtdUnavailableError, match="is not primary"):
            await client.routing()
        await client.close()


async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is resolved at every attempt; one of its addresses leads to mgmtd."""
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo
    answers = [["127.0.0.3"], ["127.0.0.2", "127.0.0.1"]]

    async def resolved(name: str, port: int, **options: object) -> object:
        if name != "mgmtd.example":
            return await resolve(name, port, **options)  # type: ignore[arg-type]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(2, 1, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(loop, "getaddrinfo", resolved)
    async with service(Scripted(primary=True)) as made:
        name = Address("mgmtd.example", made.port)
        client = MgmtdClient([name], secret=SECRET, timeout_s=TIMEOUT_S)

        assert {"answered": True} == await client.admin("status")
        await client.close()


async def test_another_secret_is_proven_from_then_on() -> None:
    async with service(Scripted(primary=True)) as made:
        client = MgmtdClient([address_of(made)], secret=b"before", timeout_s=TIMEOUT_S)
        with pytest.raises(StoreAccessError):
            await client.admin("status")

        client.change_secret(SECRET)

        assert {"answered": True} == await client.admin("status")
        # An mgmtd that has the one before yet is shown that, however long it takes.
        for secret in (b"after", b"much later"):
            client.change_secret(secret)
            assert {"answered": True} == await client.admin("status")
        await client.close()


async def test_a_client_without_addresses_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="HOST:PORT"):
        MgmtdClient([])
