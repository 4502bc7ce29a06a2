"""What Python repeats of the C interface says the same as the C interface."""

import pytest

import kvstore
from kvstore._native import ffi, lib
from kvstore.client import failures
from kvstore.errors import KVStoreError
from kvstore.native.checksum import checksum
from kvstore.native.listing import PINNED
from kvstore.native.request import Operation
from kvstore.options import Driver, Durability, Eviction, OpenMode
from kvstore.types import SetStatus, Stats, Status


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

    assert durability == {member.name: member.value for member in Durability}
    assert eviction == {member.name: member.value for member in Eviction}
    assert set(driver.values()) == {member.value for member in Driver}
    assert mode == {member.name: member.value for member in OpenMode}


def test_statistics() -> None:
    fields = [name for name, _ in ffi.typeof("kv_store_statistics").fields]

    assert ["description", *fields] == list(Stats.__slots__)


def test_the_flag_of_a_pinned_object() -> None:
    assert lib.KV_ITEM_PINNED == PINNED


def test_every_failure_has_its_exception() -> None:
    found = {Status.OK, Status.EXISTS, Status.NOT_FOUND, Status.BUFFER_TOO_SMALL}

    assert set(Status) - found == set(failures.FAILURES)
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
