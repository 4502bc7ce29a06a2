"""What Python repeats of the C interface says the same as the C interface."""

import struct

import pytest

import kvstore
from kvstore._native import ffi, lib
from kvstore.client import failures
from kvstore.client.url import NAME_PATTERN
from kvstore.cluster.routing import CHAIN_TARGETS_MAX
from kvstore.cluster.states import LocalState
from kvstore.errors import KVStoreError
from kvstore.native.checksum import checksum
from kvstore.native.listing import PINNED
from kvstore.native.request import Operation
from kvstore.native.statistics import NODE_STATISTICS_SIZE, node_statistics_of
from kvstore.options import Driver, Durability, Eviction, OpenMode, ReactorDriver
from kvstore.shared_secret import SECRET_SIZE_MAX
from kvstore.types import (
    ChainFlag,
    ChainState,
    ControlKind,
    NodeEventKind,
    NodeStatistics,
    SetStatus,
    Stats,
    Status,
)


def members(kind: str, prefix: str) -> dict[str, int]:
    """Return the members of a C enum without their prefix."""
    names: dict[str, int] = ffi.typeof(kind).relements
    return {name.removeprefix(prefix): value for name, value in names.items()}


def test_statuses() -> None:
    assert members("kv_status", "KV_") == {s.name: s.value for s in Status}
    assert all(Status[status.name].value == status.value for status in SetStatus)


def test_operations() -> None:
    assert members("kv_operation_kind", "KV_OP_") == {o.name: o.value for o in Operation}


def test_options() -> None:
    durability = members("kv_durability", "KV_DURABILITY_")
    eviction = members("kv_eviction_mode", "KV_EVICTION_")
    driver = members("kv_driver", "KV_DRIVER_")
    mode = members("kv_open_mode", "KV_OPEN_")
    reactor = members("kv_reactor_driver", "KV_REACTOR_")

    assert durability == {member.name: member.value for member in Durability}
    assert eviction == {member.name: member.value for member in Eviction}
    assert set(driver.values()) == {member.value for member in Driver}
    assert set(reactor.values()) == {member.value for member in ReactorDriver}
    assert mode == {member.name: member.value for member in OpenMode}


def test_statistics() -> None:
    fields = [name for name, _ in ffi.typeof("kv_store_statistics").fields]

    assert ["description", *fields] == list(Stats.__slots__)


def test_the_statistics_of_a_node() -> None:
    fields = [name for name, _ in ffi.typeof("kv_node_statistics").fields]

    assert fields == list(NodeStatistics.__slots__)
    count = NODE_STATISTICS_SIZE // 8
    found = node_statistics_of(struct.pack(f"<{count}Q", *range(count)))
    assert (0, 1, count - 1) == (found.connections, found.connections_total, found.controls)
    assert len(Operation) + 1 == len(found.requests) == len(found.latency_sum_ns)
    assert len(Status) == len(found.key_statuses)
    assert len(NodeEventKind) + 1 == len(found.events)
    assert found.latency[64:96] == found.latency_of(Operation.GET)


def test_events_of_a_node() -> None:
    events = members("kv_node_event_kind", "KV_EVENT_")

    assert events.pop("KIND_COUNT") == len(NodeEventKind) + 1
    assert events == {kind.name: kind.value for kind in NodeEventKind}


def test_control_requests() -> None:
    controls = members("kv_control_kind", "KV_CONTROL_")

    assert controls == {kind.name: kind.value for kind in ControlKind}


def test_chains() -> None:
    flags = members("kv_chain_flag", "KV_CHAIN_")
    local_states = members("kv_local_state", "KV_LOCAL_")

    assert flags == {flag.name: flag.value for flag in ChainFlag}
    assert local_states == {state.name: state.value for state in LocalState if state.value}
    fields = [name for name, _ in ffi.typeof("kv_chain_state").fields]
    assert fields == list(ChainState.__slots__)
    assert lib.KV_CHAIN_TARGETS_LIMIT == CHAIN_TARGETS_MAX


def test_limits() -> None:
    assert lib.KV_NODE_SECRET_SIZE_LIMIT == SECRET_SIZE_MAX
    assert NAME_PATTERN.fullmatch("n" * lib.KV_NAMESPACE_SIZE_LIMIT)
    assert not NAME_PATTERN.fullmatch("n" * (lib.KV_NAMESPACE_SIZE_LIMIT + 1))


def test_the_flag_of_a_pinned_object() -> None:
    assert lib.KV_ITEM_PINNED == PINNED


def test_every_failure_has_its_exception() -> None:
    found = {Status.OK, Status.EXISTS, Status.NOT_FOUND, Status.BUFFER_TOO_SMALL}
    between_nodes = {Status.WRONG_TARGET, Status.BUSY, Status.DIRTY}

    assert set(Status) - found - between_nodes == set(failures.FAILURES)
    for status in failures.FAILURES:
        assert "key b'k': " in str(failures.failure(status, b"k"))
    assert "…" in str(failures.failure(Status.QUOTA, b"x" * 1000))
    assert len(str(failures.failure(Status.QUOTA, b"x" * 1000))) < 200


def test_the_checksum_is_crc32c() -> None:
    assert checksum(b"123456789") == 0xE3069283
    assert checksum(b"6789", checksum(b"12345")) == 0xE3069283


def test_the_public_names_are_those_of_the_client() -> None:
    assert kvstore.connect.__module__ == "kvstore.client.connect"
    assert issubclass(kvstore.StoreLockedError, kvstore.KVStoreError)
    assert "connect_sync" in dir(kvstore)
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        _ = kvstore.conect  # type: ignore[attr-defined]


def test_one_tree_of_errors() -> None:
    names = [name for name in dir(kvstore) if name.endswith("Error")]

    assert len(names) > 20
    assert all(issubclass(getattr(kvstore, name), KVStoreError) for name in names)
