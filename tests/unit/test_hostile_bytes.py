"""Whatever comes over the wire of the control plane decodes, or is refused as malformed.

A grammar, not noise: valid messages of which a few parts are left out, doubled, exchanged or
replaced by what does not belong there, and bytes of which a few are changed, cut or pushed in.
"""

from collections.abc import Callable, Iterable
from functools import partial
from uuid import UUID

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.routing_values import routing_infos

from kvstore.cluster.codec import decode_delta, decode_routing, encode_delta, encode_routing
from kvstore.cluster.delta import apply_delta, delta_between
from kvstore.cluster.ids import ChainVersion, Epoch, NodeId, RoutingVersion, TargetId
from kvstore.cluster.leases import LeaseTerms
from kvstore.cluster.mgmtd import wire
from kvstore.cluster.mgmtd.messages import (
    HeartbeatAnswer,
    MoveFlag,
    MoveState,
    NodeRegistration,
    Order,
    TargetRegistration,
    TargetReport,
)
from kvstore.cluster.routing import RoutingInfo
from kvstore.cluster.rpc.frame import HEAD_SIZE, MAGIC, FrameReader, decode_body, encode_frame
from kvstore.cluster.rpc.hello import NONCE_SIZE, ClientHello, MgmtdHello
from kvstore.cluster.states import LocalState, NodeKind
from kvstore.errors import KVStoreError, MalformedRoutingError

EXAMPLES = 150
NONCE = bytes(range(NONCE_SIZE))
SECRET = b"a secret of the cluster"

atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 255, 256, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]),
    st.floats(),
    st.binary(max_size=40),
    st.text(max_size=20),
    st.just(msgpack.ExtType(7, b"ext")),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=2),
)
"""What does not belong where it is put."""

REPORTS = (
    TargetReport(
        target=TargetId(4),
        local=LocalState.UPTODATE,
        chain_version=ChainVersion(9),
        error="slow",
        used_bytes=1,
        settled=False,
        move=3,
        move_state=MoveState.WORKING,
        move_objects=7,
    ),
    TargetReport(target=TargetId(5), local=LocalState.ONLINE, objects=12),
)
ORDER = Order(
    id=8,
    source=TargetId(4),
    target=TargetId(6),
    chain_version=ChainVersion(2),
    address="10.0.0.1:7000",
    flags=MoveFlag.LAST,
    table_size=8,
    slots=(1, 5),
)
TARGET = TargetRegistration(
    id=TargetId(4),
    uuid=UUID(int=1),
    disk=0,
    capacity_bytes=1 << 30,
    empty=True,
    cluster=UUID(int=2),
)
REGISTRATION = NodeRegistration(
    id=NodeId(1),
    kind=NodeKind.STORAGE,
    incarnation=3,
    addresses=("10.0.0.1:7000",),
    rack="a",
    targets=(TARGET,),
)
ROUTING = encode_routing(RoutingInfo())

MESSAGES: dict[str, tuple[object, Callable[[object], object]]] = {
    "registration": (wire.encode_registration(REGISTRATION), wire.decode_registration),
    "answer to a registration": (
        wire.encode_register_answer(LeaseTerms(), Epoch(1), [ROUTING]),
        lambda raw: wire.decode_register_answer(raw, SECRET),
    ),
    "answer to a heartbeat": (
        wire.encode_heartbeat_answer(
            HeartbeatAnswer(Epoch(1), RoutingVersion(2), 1500, (TargetId(4),), (ORDER,), True)
        ),
        wire.decode_heartbeat_answer,
    ),
}
ENCODED: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "states": (wire.encode_states(REPORTS), wire.decode_states),
    "measures": (wire.encode_measures(REPORTS), wire.decode_measures),
    "body": (encode_frame([1, "name", {"a": 1}])[HEAD_SIZE:], decode_body),
}


@st.composite
def altered(draw: st.DrawFn, valid: object) -> object:
    """A message of which one to three parts are not as they should be."""
    message = valid
    for _ in range(draw(st.integers(1, 3))):
        message = _altered_once(draw, message)
    return message


def _altered_once(draw: st.DrawFn, part: object) -> object:
    if not isinstance(part, list) or not part or draw(st.integers(0, 5)) == 0:
        return _replaced(draw, part)
    index = draw(st.integers(0, len(part) - 1))
    verb = draw(st.sampled_from(["into", "into", "into", "drop", "double", "exchange"]))
    if verb == "drop":
        return part[:index] + part[index + 1 :]
    if verb == "double":
        return part[: index + 1] + part[index:]
    if verb == "exchange":
        other = draw(st.integers(0, len(part) - 1))
        swapped = list(part)
        swapped[index], swapped[other] = swapped[other], swapped[index]
        return swapped
    return [*part[:index], _altered_once(draw, part[index]), *part[index + 1 :]]


def _replaced(draw: st.DrawFn, part: object) -> object:
    if type(part) is int and draw(st.booleans()):
        return min(max(0, part + draw(st.integers(-2, 2))), 2**64 - 1)  # off by one, or by two
    if isinstance(part, bytes) and part and draw(st.booleans()):
        return draw(damaged(part))
    return draw(atoms)


@st.composite
def packed(draw: st.DrawFn, valid: bytes) -> bytes:
    """An altered message, encoded as it should be."""
    encoded = msgpack.packb(draw(altered(msgpack.unpackb(valid))), use_bin_type=True)
    assert isinstance(encoded, bytes)
    return encoded


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """Bytes of which a few are changed, cut out or pushed in."""
    encoded = bytearray(valid)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(encoded)))
        match draw(st.sampled_from(["change", "cut", "push", "end"])):
            case "change" if at < len(encoded):
                encoded[at] = draw(st.integers(0, 255))
            case "cut":
                del encoded[at : at + draw(st.integers(1, 4))]
            case "push":
                encoded[at:at] = draw(st.binary(min_size=1, max_size=4))
            case _:
                del encoded[at:]
    return bytes(encoded)


def over_the_wire(message: object) -> object:
    """What msgpack makes of a message on its way."""
    try:
        return msgpack.unpackb(msgpack.packb(message, use_bin_type=True), strict_map_key=True)
    except ValueError:
        return None


def tried(decode: Callable[[], object]) -> object:
    """What is decoded; None where it is refused as it should be."""
    try:
        return decode()
    except KVStoreError:
        return None


relaxed = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("name", MESSAGES)
@relaxed
@given(st.data())
def test_an_altered_message_is_decoded_or_refused(name: str, data: st.DataObject) -> None:
    valid, decode = MESSAGES[name]
    message = over_the_wire(data.draw(altered(valid)))

    tried(lambda: decode(message))


@pytest.mark.parametrize("name", ENCODED)
@relaxed
@given(st.data())
def test_altered_bytes_are_decoded_or_refused(name: str, data: st.DataObject) -> None:
    valid, decode = ENCODED[name]
    encoded = data.draw(damaged(valid) if data.draw(st.booleans()) else packed(valid))

    tried(lambda: decode(encoded))


@pytest.mark.parametrize("index", [[], {}, "0", 2, -1, True, None])
def test_what_is_no_index_of_a_target_is_refused(index: object) -> None:
    states = msgpack.unpackb(wire.encode_states(REPORTS))
    states[4] = [index]

    with pytest.raises(MalformedRoutingError):
        wire.decode_states(msgpack.packb(states))


@relaxed
@given(routing_infos(), st.data())
def test_altered_routing_info_is_consistent_or_refused(
    routing: RoutingInfo, data: st.DataObject
) -> None:
    valid = encode_routing(routing)
    encoded = data.draw(damaged(valid) if data.draw(st.booleans()) else packed(valid))

    decoded = tried(lambda: decode_routing(encoded))

    if isinstance(decoded, RoutingInfo):
        assert decoded == decode_routing(encode_routing(decoded))


@relaxed
@given(routing_infos(), routing_infos(), st.data())
def test_an_altered_delta_leads_to_consistent_routing_info_or_is_refused(
    before: RoutingInfo, after: RoutingInfo, data: st.DataObject
) -> None:
    encoded = data.draw(packed(encode_delta(delta_between(before, after))))

    changed = tried(lambda: apply_delta(decode_delta(encoded), before))

    if isinstance(changed, RoutingInfo):
        assert changed == decode_routing(encode_routing(changed))


def _bodies(reader: FrameReader, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        reader.feed(piece)
        while (body := reader.next()) is not None:
            decode_body(body)


@relaxed
@given(st.data())
def test_a_stream_of_altered_frames_is_cut_or_refused(data: st.DataObject) -> None:
    frames = MAGIC + b"".join(encode_frame([number, "name"]) for number in range(3))
    stream = data.draw(damaged(frames))
    step = data.draw(st.integers(1, len(frames)))

    tried(
        lambda: _bodies(
            FrameReader(), [stream[at : at + step] for at in range(0, len(stream), step)]
        )
    )


PROVING_FIELDS = 2
"""The kind, and the proof."""


@pytest.mark.parametrize("secret", [b"", SECRET])
@relaxed
@given(st.data())
def test_no_altered_hello_is_proven(secret: bytes, data: st.DataObject) -> None:
    client, mgmtd = ClientHello(secret, NONCE, "client"), MgmtdHello(secret, NONCE[::-1])
    body: object = client.begin()[HEAD_SIZE:]
    altered_at = data.draw(st.integers(0, 3))
    different = False

    for turn in range(4):
        if not isinstance(body, bytes) or not body:
            return  # refused
        if turn == altered_at:
            before = body
            body = data.draw(damaged(body) if data.draw(st.booleans()) else packed(body))
            different = said(body, turn) != said(before, turn)
        body = tried(partial(client.step if turn % 2 else mgmtd.step, body))
        body = body[HEAD_SIZE:] if isinstance(body, bytes) else None

    assert not (secret and client.done and different)


def said(body: bytes, turn: int) -> object:
    """What a body says to who takes it; itself where it says nothing.

    Behind a proof there may be more, which nobody reads: it proves nothing.
    """
    try:
        fields = msgpack.unpackb(body, strict_map_key=True)
    except (ValueError, msgpack.UnpackException):
        return body
    proves = turn >= 2 and isinstance(fields, list)
    return repr(fields[:PROVING_FIELDS] if proves else fields)
