"""How mgmtd is reached, and looks after others: by sockets, or by what a simulation has instead."""

from collections.abc import Iterable
from typing import Protocol

from kvstore.addresses import Address
from kvstore.cluster.mgmtd.events import ProbeOutcome
from kvstore.cluster.mgmtd.probe import probe
from kvstore.cluster.rpc.connection import connect
from kvstore.cluster.rpc.service import Peers, Service, serve
from kvstore.errors import MalformedMessageError


class Network(Protocol):
    """What an mgmtd needs of the network."""

    async def serve(self, address: Address, secret: bytes, peers: Peers) -> Service:
        """Listen at an address; port 0: any."""

    async def probe(self, addresses: Iterable[str]) -> ProbeOutcome:
        """Say whether a process still listens at any of these."""

    async def watch(self, address: Address, *, secret: bytes, name: str, timeout_s: float) -> None:
        """Hold a connection to another mgmtd until it is lost: RpcError."""


class Sockets:
    """Implements Network by TCP."""

    async def serve(self, address: Address, secret: bytes, peers: Peers) -> Service:
        """Listen at an address; port 0: any."""
        return await serve(address, secret, peers)

    async def probe(self, addresses: Iterable[str]) -> ProbeOutcome:
        """Connect to each, and say what came of it."""
        return await probe(addresses)

    async def watch(self, address: Address, *, secret: bytes, name: str, timeout_s: float) -> None:
        """Connect, and ask again and again whether it is there."""
        connection = await connect(
            address, secret=secret, name=name, timeout_s=timeout_s, pushed=_no_push
        )
        await connection.hold(timeout_s)


def _no_push(subscription: int, news: object) -> None:
    raise MalformedMessageError(f"nobody subscribed to {subscription}")
