"""Routing info and deltas as bytes: what goes in comes out, and nothing else comes in."""

from dataclasses import replace
from functools import cache

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.routing_values import large_routing, routing_infos

from kvstore.cluster.codec import decode_delta, decode_routing, encode_delta, encode_routing
from kvstore.cluster.columns import decode_column, decode_ids, encode_column, encode_ids
from kvstore.cluster.delta import apply_delta, delta_between
from kvstore.cluster.ids import (
    CHAIN_VERSION_MAX,
    ChainId,
    ChainVersion,
    NodeId,
    RoutingVersion,
    SlotTableId,
)
from kvstore.cluster.routing import (
    Chain,
    ChainTarget,
    NamespacePolicy,
    RoutingInfo,
    SlotTable,
    problems_of,
)
from kvstore.cluster.states import NodeState, PublicState
from kvstore.errors import MalformedRoutingError, RoutingVersionError

ROUTING_SIZE_MAX = 2 << 20
DELTA_SIZE_MAX = 1 << 10


@cache
def large() -> RoutingInfo:
    return large_routing(node_count=1000, chain_count=20_000, slot_count=1 << 18)


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_a_column_decodes_to_its_values(values: list[int]) -> None:
    assert values == decode_column(encode_column(values), "column", len(values), 2**63 - 1)


@given(st.sets(st.integers(1, 2**32 - 1)))
def test_a_column_of_ids_decodes_to_its_ids(ids: set[int]) -> None:
    assert sorted(ids) == decode_ids(encode_ids(sorted(ids)), "ids", len(ids), 2**32 - 1)


@settings(max_examples=40)
@given(routing_infos())
def test_routing_info_decodes_to_itself(routing: RoutingInfo) -> None:
    assert [] == list(problems_of(routing))
    assert routing == decode_routing(encode_routing(routing))


@settings(max_examples=40)
@given(routing_infos(), routing_infos())
def test_a_delta_leads_from_one_version_to_the_other(a: RoutingInfo, b: RoutingInfo) -> None:
    delta = delta_between(a, b)

    assert delta == decode_delta(encode_delta(delta))
    assert b == apply_delta(delta, a)


@settings(max_examples=40)
@given(routing_infos())
def test_a_delta_between_equals_changes_nothing(routing: RoutingInfo) -> None:
    again = decode_routing(encode_routing(routing))

    assert again == apply_delta(delta_between(routing, again), routing)
    assert len(encode_delta(delta_between(routing, again))) < 256


def test_a_thousand_nodes_and_twenty_thousand_chains_fit_two_mebibytes() -> None:
    encoded = encode_routing(large())

    assert len(encoded) <= ROUTING_SIZE_MAX
    assert large() == decode_routing(encoded)


def test_the_delta_of_a_change_fits_a_kibibyte() -> None:
    before = large()
    chain = before.chains[ChainId(77)]
    node = before.nodes[NodeId(5)]
    head, *others = chain.targets
    places = (*others, ChainTarget(head.target, PublicState.OFFLINE))
    after = replace(
        before,
        version=RoutingVersion(before.version + 1),
        chains={
            **before.chains,
            chain.id: Chain(chain.id, ChainVersion(chain.version + 1), places),
        },
        nodes={**before.nodes, node.id: replace(node, state=NodeState.FAILED)},
    )

    encoded = encode_delta(delta_between(before, after))

    assert len(encoded) <= DELTA_SIZE_MAX
    assert after == apply_delta(decode_delta(encoded), before)


def test_the_delta_of_a_failed_node_costs_a_few_bytes_a_chain() -> None:
    before = large()
    changed: dict[ChainId, Chain] = {}
    for chain in before.chains.values():
        if any(before.targets[place.target].node == 9 for place in chain.targets):
            version = ChainVersion(chain.version + 1)
            changed[chain.id] = replace(chain, version=version, targets=chain.targets[:2])
    after = replace(before, version=RoutingVersion(1001), chains={**before.chains, **changed})

    assert len(encode_delta(delta_between(before, after))) <= 32 * len(changed) + 256


def test_the_delta_of_moved_slots_names_only_these() -> None:
    before = large()
    (table,) = before.slot_tables.values()
    chains = list(table.chains)
    chains[3], chains[70_000] = ChainId(11), ChainId(12)
    moved = SlotTable(table.id, tuple(chains))
    after = replace(before, version=RoutingVersion(1001), slot_tables={table.id: moved})

    delta = delta_between(before, after)

    assert {table.id: {3: 11, 70_000: 12}} == delta.moves
    assert len(encode_delta(delta)) <= DELTA_SIZE_MAX
    assert after == apply_delta(delta, before)


def test_a_delta_from_another_version_is_refused() -> None:
    a = RoutingInfo(RoutingVersion(1))
    b = RoutingInfo(RoutingVersion(2))

    with pytest.raises(RoutingVersionError, match="from version 1 to 2, this is version 2"):
        apply_delta(delta_between(a, b), b)


def test_a_delta_of_another_cluster_is_refused() -> None:
    mine = large_routing(3, 1, 1)
    other = RoutingInfo(mine.version)

    with pytest.raises(RoutingVersionError, match="belongs to cluster"):
        apply_delta(delta_between(other, other), mine)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_routing_info_are_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedRoutingError):
        decode_routing(encoded)
    with pytest.raises(MalformedRoutingError):
        decode_delta(encoded)


@settings(max_examples=40)
@given(routing_infos(), st.data())
def test_a_message_cut_short_is_refused(routing: RoutingInfo, data: st.DataObject) -> None:
    encoded = encode_routing(routing)
    cut = data.draw(st.integers(0, len(encoded) - 1))

    with pytest.raises(MalformedRoutingError):
        decode_routing(encoded[:cut])


@settings(max_examples=40)
@given(routing_infos(), st.data())
def test_a_message_with_a_changed_byte_is_refused_or_consistent(
    routing: RoutingInfo, data: st.DataObject
) -> None:
    encoded = bytearray(encode_routing(routing))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))

    try:
        decoded = decode_routing(bytes(encoded))
    except MalformedRoutingError:
        return
    assert [] == list(problems_of(decoded))
    assert decoded == decode_routing(encode_routing(decoded))


@given(routing_infos(), routing_infos())
@settings(max_examples=20)
def test_what_a_later_release_has_more_is_passed_over(a: RoutingInfo, b: RoutingInfo) -> None:
    delta = delta_between(a, replace(b, cluster=a.cluster))

    assert a == decode_routing(with_more_fields(encode_routing(a)))
    assert delta == decode_delta(with_more_fields(encode_delta(delta)))


def with_more_fields(encoded: bytes) -> bytes:
    """Routing info or a delta with a field more in every record."""
    message: list[object] = msgpack.unpackb(encoded)
    records, more = message[-11:] if message[0] == "delta" else message[-5:], ["more", 1]
    for place, record in enumerate(records[:5]):
        assert isinstance(record, list)
        if place < 3:
            record.append(more)
        else:
            for row in record:
                row.append(more)
    encoded = msgpack.packb([*message, more])
    assert isinstance(encoded, bytes)
    return encoded


def test_another_format_version_is_refused_by_its_number() -> None:
    message = msgpack.unpackb(encode_routing(RoutingInfo()))
    message[1] = 2

    with pytest.raises(MalformedRoutingError, match=r"format version \[2\], this release reads 1"):
        decode_routing(msgpack.packb(message))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1 << 40, 0, 0, b""], "is the limit"),
        ([2, 0, 3, b"abcdef"], "no column has values of 3 bytes"),
        ([2, 0, 2, b"abc"], "were promised"),
        ([1, -1, 0, b""], "no count"),
        ([1, True, 0, b""], "no count"),
        ([1, 99, 0, b""], "99 exceeds 10"),
        ("column", "a list of four"),
    ],
)
def test_a_malformed_column_is_refused_by_what_is_wrong(column: object, message: str) -> None:
    with pytest.raises(MalformedRoutingError, match=message):
        decode_column(column, "ids", 5, 10)


def test_inconsistent_routing_info_is_refused_by_its_problems() -> None:
    good = large_routing(3, 2, 2)
    chain = good.chains[ChainId(1)]
    bad = [
        (replace(good, nodes={}), "which is not known"),
        (replace(good, targets={}), "chain 1 has target 1, which is not known"),
        (replace(good, chains={chain.id: replace(chain, targets=())}), "chain 1 has no target"),
        (replace(good, chains={chain.id: chain}), "names chain 2"),
        (replace(good, slot_tables={}), "namespace 'default' uses slot table 1"),
        (
            replace(good, chains={**good.chains, ChainId(3): replace(chain, id=ChainId(3))}),
            "target 1 is in chain 1 and in chain 3",
        ),
        (
            replace(good, namespaces={"x" * 300: NamespacePolicy("x" * 300, chain_table(good))}),
            "a text of at most 255 bytes",
        ),
    ]
    for routing, message in bad:
        with pytest.raises(MalformedRoutingError, match=message):
            decode_routing(encode_routing(routing))


def test_two_targets_of_a_chain_on_one_node_are_a_problem() -> None:
    good = large_routing(3, 1, 1)
    first, second, _ = good.targets.values()
    crowded = replace(good, targets={**good.targets, second.id: replace(second, node=first.node)})

    assert any("on one node" in problem for problem in problems_of(crowded))


@pytest.mark.parametrize("version", [0, CHAIN_VERSION_MAX + 1])
def test_a_chain_version_that_objects_cannot_carry_is_a_problem(version: int) -> None:
    good = large_routing(3, 1, 1)
    (chain,) = good.chains.values()
    beyond = replace(good, chains={chain.id: replace(chain, version=ChainVersion(version))})

    assert any(f"version {version}: objects carry" in problem for problem in problems_of(beyond))


def chain_table(routing: RoutingInfo) -> SlotTableId:
    return next(iter(routing.slot_tables))
