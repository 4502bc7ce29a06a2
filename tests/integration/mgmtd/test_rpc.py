"""Control messages between two ends, and what a hostile one can do: nothing."""

import asyncio
from collections.abc import AsyncIterator

import msgpack
import pytest
from integration.mgmtd.rpc_ends import (
    SECRET,
    TIMEOUT_S,
    Echo,
    Raw,
    address_of,
    connected,
    refused,
    service,
)

from kvstore.addresses import Address
from kvstore.cluster.rpc.connection import connect
from kvstore.cluster.rpc.frame import MAGIC, REQUEST_SIZE_MAX, encode_frame
from kvstore.cluster.rpc.hello import NONCE_SIZE, Refused, Step, proof_of, transcript_of
from kvstore.cluster.rpc.message import REQUESTS_IN_FLIGHT_MAX, Kind
from kvstore.cluster.rpc.service import Peer, Service
from kvstore.errors import (
    BusyError,
    ConnectionLostError,
    InvalidOptionError,
    KVTimeoutError,
    NotMgmtdError,
    RpcError,
    RpcVersionError,
    StoreAccessError,
)

HELLO: list[object] = [Step.HELLO, 1, 1, bytes(NONCE_SIZE), "raw"]


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """No test waits for ever."""
    async with asyncio.timeout(TIMEOUT_S):
        yield


async def test_calls_are_answered_in_any_order() -> None:
    echo = Echo()
    async with service(echo) as made:
        connection = await connected(made)
        later = asyncio.ensure_future(connection.call("later", ["first"], TIMEOUT_S))

        assert {"a": 1} == await connection.call("echo", {"a": 1}, TIMEOUT_S)
        echo.release.set()
        assert ["first"] == await later

        connection.abort()
        await connection.until_closed()


async def test_pushes_come_before_the_answer_that_follows_them() -> None:
    pushes: list[object] = []
    async with service(Echo()) as made:
        connection = await connected(made, pushes=pushes)

        await connection.call("push", [b"news"], TIMEOUT_S)

        assert [(7, [b"news"])] == pushes
        connection.abort()


async def test_failures_cross_by_their_type() -> None:
    echo = Echo()
    async with service(echo) as made:
        connection = await connected(made)

        with pytest.raises(InvalidOptionError, match="not that one"):
            await connection.call("refuse", None, TIMEOUT_S)
        with pytest.raises(RpcError, match="RuntimeError: a bug"):
            await connection.call("whatever", None, TIMEOUT_S)

        assert ["whatever: a bug"] == echo.bugs
        connection.abort()


async def test_a_call_has_a_deadline_and_the_late_answer_is_dropped() -> None:
    echo = Echo()
    async with service(echo) as made:
        connection = await connected(made)

        with pytest.raises(KVTimeoutError, match="did not answer later"):
            await connection.call("later", None, 0.001)
        echo.release.set()

        assert 1 == await connection.call("echo", 1, TIMEOUT_S)
        connection.abort()


async def test_more_requests_than_may_be_in_flight_are_refused() -> None:
    echo = Echo()
    async with service(echo) as made:
        raw = await proven(made)
        for id in range(REQUESTS_IN_FLIGHT_MAX + 1):
            raw.send(encode_frame([Kind.REQUEST, id, "later", 1000, None]))

        kind, failed, code, *_ = await raw.message()

        assert (Kind.FAILURE, REQUESTS_IN_FLIGHT_MAX, "BusyError") == (kind, failed, code)
        connection = await connected(made)
        calls = [
            asyncio.ensure_future(connection.call("later", None, TIMEOUT_S))
            for _ in range(REQUESTS_IN_FLIGHT_MAX)
        ]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await connection.call("echo", None, TIMEOUT_S)
        echo.release.set()
        await asyncio.gather(*calls)
        connection.abort()
        raw.close()


async def test_calls_end_when_the_connection_does() -> None:
    echo = Echo()
    async with service(echo) as made:
        connection = await connected(made)
        waiting = asyncio.ensure_future(connection.call("later", None, TIMEOUT_S))
        await connection.call("echo", None, TIMEOUT_S)

        echo.peers[0].abort()

        with pytest.raises(ConnectionLostError):
            await waiting
        with pytest.raises(ConnectionLostError):
            await connection.call("echo", None, TIMEOUT_S)
        assert ["test"] == echo.gone


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        (SECRET, b"another", "not that of this cluster"),
        (SECRET, b"", "wants a secret"),
        (b"", SECRET, "mgmtd has no secret"),
    ],
)
async def test_who_does_not_have_the_secret_is_refused(
    ours: bytes, theirs: bytes, why: str
) -> None:
    async with service(Echo(), ours) as made:
        error = await refused(made, theirs)

    assert isinstance(error, StoreAccessError)
    assert why in str(error)


async def test_without_secrets_nobody_is_proven_and_everybody_heard() -> None:
    async with service(Echo(), b"") as made:
        connection = await connected(made, b"")

        assert 1 == await connection.call("echo", 1, TIMEOUT_S)
        connection.abort()


async def test_a_recorded_hello_is_worth_nothing() -> None:
    """The challenge has a fresh nonce, so the proof of another hello does not fit."""
    async with service(Echo()) as made:
        first = await Raw.to(made)
        first.greet(HELLO)
        await first.magic()
        proof = proof_to(await first.frame())
        second = await Raw.to(made)
        second.greet(HELLO)
        await second.magic()
        await second.frame()

        second.send(proof)
        first.send(proof)

        assert [Step.REFUSAL, Refused.SECRET] == (await second.message())[:2]
        assert Step.WELCOME == (await first.message())[0]
        first.close()
        second.close()


async def test_an_mgmtd_that_does_not_prove_the_secret_is_refused() -> None:
    """An impostor that sends back what it gets."""

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(MAGIC + encode_frame([Step.CHALLENGE, 1, bytes(NONCE_SIZE), 1]))
        await reader.readexactly(4)
        head = await reader.readexactly(4)
        await reader.readexactly(int.from_bytes(head, "little"))
        head = await reader.readexactly(4)
        body = await reader.readexactly(int.from_bytes(head, "little"))
        writer.write(encode_frame([Step.WELCOME, msgpack.unpackb(body)[1]]))
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(impostor, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(StoreAccessError, match="another one"):
            await to(port)


async def test_a_version_that_is_not_spoken_is_refused_by_name() -> None:
    async with service(Echo()) as made:
        raw = await Raw.to(made)
        raw.greet([Step.HELLO, 2, 9, bytes(NONCE_SIZE), "later", "and more"])
        await raw.magic()

        kind, why, text = await raw.message()

        assert (Step.REFUSAL, Refused.VERSION) == (kind, why)
        assert "speaks versions 2 to 9: this release speaks 1" == str(text).partition("client ")[2]
        assert b"" == await raw.rest()
        raw.close()


async def test_a_client_understands_a_refusal() -> None:
    async def later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(MAGIC + encode_frame([Step.REFUSAL, Refused.VERSION, "speak 2"]))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(later, "127.0.0.1", 0) as listening:
        with pytest.raises(RpcVersionError, match="speak 2"):
            await to(listening.sockets[0].getsockname()[1])


@pytest.mark.parametrize("said", [b"", b"SSH-2.0\r\n", b"KVR2", MAGIC[:2]])
async def test_something_else_than_mgmtd_is_told_apart(said: bytes) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await reader.read(4)
        writer.close()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as listening:
        with pytest.raises(NotMgmtdError, match=r"127\.0\.0\.1"):
            await to(listening.sockets[0].getsockname()[1])


async def test_an_address_where_nothing_listens_says_so() -> None:
    async with service(Echo()) as made:
        address = address_of(made)

    with pytest.raises(RpcError, match="refused"):
        await to(address.port)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"KVR2" + bytes(64),
        MAGIC + b"\xff\xff\xff\xff",
        MAGIC + (2000).to_bytes(4, "little") + bytes(2000),
        MAGIC + encode_frame([Step.PROOF, bytes(32)]),
        MAGIC + encode_frame([Step.HELLO]),
        MAGIC + encode_frame([Step.HELLO, 1, 1, b"short", "x"]),
        MAGIC + encode_frame([Step.HELLO, 1, 1, bytes(NONCE_SIZE), "x" * 500]),
        MAGIC + encode_frame([Kind.REQUEST, 1, "echo", 1000, None]),
        MAGIC + encode_frame(["hello"]),
        MAGIC + (4).to_bytes(4, "little") + b"\xc1\xc1\xc1\xc1",
        MAGIC + (5).to_bytes(4, "little") + b"\xdd\xff\xff\xff\xff",
        MAGIC + (600).to_bytes(4, "little") + b"\x91" * 600,
    ],
)
async def test_garbage_before_the_proof_ends_the_connection(garbage: bytes) -> None:
    echo = Echo()
    async with service(echo) as made:
        raw = await Raw.to(made)
        raw.send(garbage)

        left = await raw.rest()

        assert MAGIC == left[: len(MAGIC)]
        assert [] == echo.peers
        raw.close()
        await still_serves(made)


@pytest.mark.parametrize(
    "garbage",
    [
        (REQUEST_SIZE_MAX + 1).to_bytes(4, "little"),
        encode_frame([Kind.REPLY, 1, None]),
        encode_frame([Kind.REQUEST, 1, "echo", 1000]),
        encode_frame([Kind.REQUEST, -1, "echo", 1000, None]),
        encode_frame([Kind.REQUEST, 1, "x" * 100, 1000, None]),
        encode_frame([Kind.REQUEST, 1, "echo", 2**40, None]),
        encode_frame([Kind.REQUEST, True, "echo", 1000, None]),
        encode_frame([None]),
        (6).to_bytes(4, "little") + b"\xdf\xff\xff\xff\xff\xc0",
        (1000).to_bytes(4, "little") + b"\x81" * 1000,
    ],
)
async def test_garbage_after_the_proof_ends_the_connection(garbage: bytes) -> None:
    echo = Echo()
    async with service(echo) as made:
        raw = await proven(made)
        raw.send(garbage)

        assert b"" == await raw.rest()
        raw.close()
        await still_serves(made)


async def test_bytes_that_come_one_by_one_are_understood() -> None:
    async with service(Echo()) as made:
        raw = await proven(made)
        for byte in encode_frame([Kind.REQUEST, 5, "echo", 1000, "slowly"]):
            raw.send(bytes([byte]))
            await asyncio.sleep(0)

        assert [Kind.REPLY, 5, "slowly"] == await raw.message()
        raw.close()


async def test_who_takes_no_answers_is_not_read_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests whose answers nobody takes wait in the kernel, not in memory."""
    echo = Echo()
    stalled = asyncio.Event()
    pause = Peer.pause_writing

    def told(peer: Peer) -> None:
        pause(peer)
        stalled.set()

    monkeypatch.setattr(Peer, "pause_writing", told)
    async with service(echo) as made:
        raw = await proven(made)
        request = encode_frame([Kind.REQUEST, 1, "echo", 1000, bytes(900_000)])
        sending = asyncio.ensure_future(send_all(raw, request, 40))
        await stalled.wait()

        assert echo.peers[0].overdue(asyncio.get_running_loop().time() + 3600)
        for _ in range(40):
            assert Kind.REPLY == (await raw.message())[0]
        await sending
        assert not echo.peers[0].stalled
        raw.close()


async def test_who_is_silent_is_cut() -> None:
    echo = Echo()
    async with service(echo) as made:
        raw = await Raw.to(made)
        await raw.magic()
        (peer,) = made.connected
        now_s = asyncio.get_running_loop().time()

        assert not peer.overdue(now_s)
        assert peer.overdue(now_s + 6)
        raw.close()
        greeted = await proven(made)
        (peer,) = (each for each in made.connected if each.greeted)
        assert not peer.overdue(now_s + 6)
        assert peer.overdue(now_s + 60)
        greeted.close()


async def to(port: int) -> None:
    connection = await connect(
        Address("127.0.0.1", port),
        secret=SECRET,
        name="test",
        timeout_s=TIMEOUT_S,
        pushed=lambda number, news: None,
    )
    connection.abort()


async def send_all(raw: Raw, request: bytes, count: int) -> None:
    for _ in range(count):
        raw.send(request)
        await raw.drain()


async def proven(made: Service) -> Raw:
    raw = await Raw.to(made)
    raw.greet(HELLO)
    await raw.magic()
    raw.send(proof_to(await raw.frame()))
    assert Step.WELCOME == (await raw.message())[0]
    return raw


def proof_to(challenge: bytes) -> bytes:
    transcript = transcript_of(encode_frame(HELLO)[4:], challenge)
    return encode_frame([Step.PROOF, proof_of(SECRET, b"client", transcript)])


async def still_serves(made: Service) -> None:
    connection = await connected(made)
    assert 1 == await connection.call("echo", 1, TIMEOUT_S)
    connection.abort()
