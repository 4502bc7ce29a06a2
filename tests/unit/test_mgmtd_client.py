"""The client of mgmtd, where mgmtd does not do what it should."""

import asyncio

import pytest

from kvstore.addresses import Address
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.cluster.mgmtd.wire import WHO
from kvstore.cluster.rpc.service import Peer, serve
from kvstore.errors import MgmtdUnavailableError


class Hanging:
    """Says that it is primary, and answers nothing else."""

    def request(self, peer: Peer, method: str, parameters: object, timeout_s: float) -> object:
        if method == WHO:
            return [1, ""]
        return asyncio.get_running_loop().create_future()

    def writable(self, peer: Peer) -> None:
        """Has nothing to push."""

    def closed(self, peer: Peer) -> None:
        """Does not care."""

    def failed(self, peer: Peer, method: str, error: Exception) -> None:
        raise error


async def test_a_mgmtd_that_hangs_is_unavailable() -> None:
    service = await serve(Address("127.0.0.1", 0), b"", Hanging())
    try:
        async with MgmtdClient([Address("127.0.0.1", service.port)]) as client:
            with pytest.raises(MgmtdUnavailableError, match="did not answer routing"):
                await client.routing(timeout_s=0.1)
    finally:
        await service.close()
