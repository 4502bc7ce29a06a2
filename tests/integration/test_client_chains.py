"""The client of the C core with chains, as Python drives it."""

import select
import socket

import pytest

from kvstore.addresses import Address
from kvstore.errors import InvalidOptionError
from kvstore.native.client import NativeClient
from kvstore.native.request import Operation, Request
from kvstore.options import ClientOptions
from kvstore.types import SetStatus

DEADLINE_S = 0.2


def client_of(address: Address) -> NativeClient:
    return NativeClient(ClientOptions(addresses=(address,), timeout_s=DEADLINE_S))


def closed_port() -> Address:
    """Return an address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Address("127.0.0.1", listener.getsockname()[1])


def is_readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def test_an_unreachable_member_is_trouble_once() -> None:
    address = closed_port()
    client = client_of(address)
    client.route_chains(1, [str(address)], [(0, 1)], [(7, 0, 1)], [0])
    assert not is_readable(client.trouble_descriptor)

    with Request.of_keys(Operation.EXISTS, [b"key"]) as request:
        client.run(request)
        assert SetStatus.UNAVAILABLE == request.status

    assert is_readable(client.trouble_descriptor)
    assert (0, [str(address)]) == client.trouble()
    client.close(1.0)


def test_a_chain_of_nobody_is_counted() -> None:
    client = client_of(closed_port())
    client.route_chains(1, [], [], [(7, 0, 0)], [0, 0])

    with Request.of_keys(Operation.EXISTS, [b"key"]) as request:
        client.run(request)
        assert SetStatus.UNAVAILABLE == request.status

    count, unreachable = client.trouble()
    assert count > 0
    assert [] == unreachable
    assert not is_readable(client.trouble_descriptor)
    client.close(1.0)


@pytest.mark.parametrize(
    "slot_chains", [[], [0, 0, 0], [1]], ids=["no slot", "three slots", "an unknown chain"]
)
def test_routes_that_make_no_sense_are_refused(slot_chains: list[int]) -> None:
    client = client_of(closed_port())

    with pytest.raises(InvalidOptionError, match="slots are a power of two"):
        client.route_chains(1, ["127.0.0.1:1"], [(0, 1)], [(7, 0, 1)], slot_chains)

    client.close(1.0)
