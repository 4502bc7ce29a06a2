"""Routes: what a client makes of routing info, static or not; and static routing itself."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from unit.routing_values import large_routing, routing_infos

from kvstore.addresses import Address
from kvstore.cluster.codec import decode_routing, encode_routing
from kvstore.cluster.ids import ChainId, ChainVersion, NodeId, SlotTableId, TargetId
from kvstore.cluster.routes import SLOT_COUNT_MAX, RoutedChain, Routes, routes_of
from kvstore.cluster.routing import (
    Chain,
    ChainTarget,
    NamespacePolicy,
    Node,
    RoutingInfo,
    SlotTable,
    problems_of,
)
from kvstore.cluster.states import NodeKind, NodeState, PublicState
from kvstore.cluster.static_routing import even_slots, static_routing
from kvstore.errors import MalformedRoutingError

NODES = {1: Address("10.0.0.1", 7400), 2: Address("::1", 7401)}
STATIC = static_routing(7, NODES, {1: 1, 2: 1, 3: 2}, even_slots([1, 2, 3], 4))


def with_node(node: int, **changes: object) -> RoutingInfo:
    changed = replace(STATIC.nodes[NodeId(node)], **changes)  # type: ignore[arg-type]
    return replace(STATIC, nodes={**STATIC.nodes, changed.id: changed})


def test_static_routing_leads_every_slot_to_the_target_that_was_named() -> None:
    assert [] == list(problems_of(STATIC))
    chains = {target: RoutedChain(1, (target,)) for target in (1, 2, 3)}
    slots = (1, 1, 2, 3)

    assert Routes(7, NODES, {1: 1, 2: 1, 3: 2}, chains, slots) == routes_of(STATIC)
    assert (1, 2) == routes_of(STATIC).targets_of(1)


def test_static_routing_travels_as_any_other() -> None:
    assert STATIC == decode_routing(encode_routing(STATIC))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64])
def test_slots_are_spread_evenly(count: int) -> None:
    slots = even_slots(list(range(1, count + 1)))

    sizes = {slots.count(target) for target in range(1, count + 1)}
    assert 1024 == len(slots)
    assert max(sizes) - min(sizes) <= 1


def test_the_members_of_a_chain_are_those_that_serve() -> None:
    routing = large_routing(node_count=30, chain_count=60, slot_count=64)
    routes = routes_of(routing)

    (table,) = routing.slot_tables.values()
    assert table.chains == routes.slots
    assert 180 == len(routes.targets)
    assert 179 == len(routes.members)
    for id, chain in routing.chains.items():
        found = routes.chains[id]
        assert (chain.version, chain.head, chain.tail) == (
            found.version,
            found.members[0],
            found.members[-1],
        )
        assert 3 == len(found.members + found.others)


def test_of_a_chain_that_nobody_serves_the_first_target_is_asked() -> None:
    chain = Chain(ChainId(1), ChainVersion(2), (ChainTarget(TargetId(1), PublicState.LASTSRV),))

    routes = routes_of(replace(STATIC, chains={**STATIC.chains, chain.id: chain}))

    assert RoutedChain(2, (), (1,)) == routes.chains[1]
    assert 1 == routes.chains[1].first
    assert [2, 3] == routes.members


def test_a_namespace_has_its_own_slots_and_others_the_first_table() -> None:
    own = SlotTable(SlotTableId(2), (ChainId(3), ChainId(2)))
    routing = replace(
        STATIC,
        slot_tables={own.id: own, **STATIC.slot_tables},
        namespaces={"pages": NamespacePolicy("pages", own.id)},
    )

    assert ((3, 2), {2: 1, 3: 2}) == (
        (pages := routes_of(routing, "pages")).slots,
        pages.targets,
    )
    assert (1, 1, 2, 3) == routes_of(routing, "other").slots


def test_clients_go_to_storage_nodes_only() -> None:
    mgmtd = Node(NodeId(9), NodeKind.MGMTD, NodeState.ACTIVE, ("a:1",))

    assert NODES == routes_of(replace(STATIC, nodes={**STATIC.nodes, mgmtd.id: mgmtd})).nodes


TOO_MANY = SlotTable(SlotTableId(1), (ChainId(1),) * (2 * SLOT_COUNT_MAX))


@pytest.mark.parametrize(
    ("routing", "says"),
    [
        (RoutingInfo(), "has no slots"),
        (replace(STATIC, slot_tables={TOO_MANY.id: TOO_MANY}), "65536 is the limit"),
        (with_node(2, addresses=()), "node 2 has no address"),
        (with_node(2, addresses=("a:b",)), "node 2: .*a port is a number"),
        (with_node(2, kind=NodeKind.MGMTD), "target 3 is on node 2, which stores nothing"),
    ],
)
def test_what_no_client_can_go_by_is_refused(routing: RoutingInfo, says: str) -> None:
    with pytest.raises(MalformedRoutingError, match=says):
        routes_of(routing)


@settings(max_examples=40)
@given(routing_infos())
def test_routes_are_whole_or_refused(routing: RoutingInfo) -> None:
    try:
        routes = routes_of(routing)
    except MalformedRoutingError:
        return
    assert set(routes.slots) == set(routes.chains)
    assert set(routes.members) <= set(routes.targets)
    assert set(routes.targets.values()) <= set(routes.nodes)
