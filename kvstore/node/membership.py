"""A node's part in the cluster: its places by the routing info, and its word on its targets. Pure.

    routing info ──► configuration_of ──► places, for the core
    core's states ──► reports_of ──► heartbeat, for mgmtd

A target is withheld, as if its node did not have it, in three cases:
1. The node has just started, and routing info does not show yet that mgmtd took note of it: what
   its targets held in memory is gone, so they must not go on where they were.
2. mgmtd asked the node to retire the target, until routing info shows it in no chain, or mgmtd
   needs it again.
3. Its device does not answer.
"""

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from kvstore.cluster.ids import ChainVersion, NodeId, RoutingVersion, TargetId
from kvstore.cluster.mgmtd.messages import MoveState, Order, TargetReport
from kvstore.cluster.routing import Chain, RoutingInfo
from kvstore.cluster.states import LocalState, PublicState
from kvstore.node.devices import remark_on
from kvstore.types import NO_FLAG, ChainFlag, ChainPlace, ChainState, SlotMoveOrder

IN_USE = (PublicState.SERVING, PublicState.SYNCING)
SILENT = "its device does not answer"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the core of a node goes by."""

    routing_version: RoutingVersion
    places: tuple[ChainPlace, ...]
    addresses: tuple[str, ...]
    """Of the nodes that successors are on."""

    def same_places(self, other: "Configuration") -> bool:
        """Whether nothing but the version of the routing info differs."""
        return (self.places, self.addresses) == (other.places, other.addresses)


NOT_CONFIGURED = Configuration(RoutingVersion(0), (), ())
"""No target serves anybody."""


def configuration_of(
    routing: RoutingInfo, node: NodeId, withheld: Collection[TargetId]
) -> Configuration:
    """Return the places of a node's targets, in the order of their chains."""
    addresses: list[str] = []
    places: list[ChainPlace] = []
    for id in sorted(routing.chains):
        chain = routing.chains[id]
        for target in (place.target for place in chain.targets):
            if routing.targets[target].node == node and target not in withheld:
                places.append(_place(routing, chain, target, addresses))
    return Configuration(routing.version, tuple(places), tuple(addresses))


def _place(
    routing: RoutingInfo, chain: Chain, target: TargetId, addresses: list[str]
) -> ChainPlace:
    line = in_line(chain)
    if target not in line:
        return ChainPlace(target, chain.id, chain.version, NO_FLAG, 0)
    position = list(line).index(target)
    successor = next(iter(list(line)[position + 1 :]), None)
    if successor is None:
        return ChainPlace(target, chain.id, chain.version, line[target], position)
    address = routing.nodes[routing.targets[successor].node].addresses[0]
    if address not in addresses:
        addresses.append(address)
    return ChainPlace(
        target,
        chain.id,
        chain.version,
        line[target],
        position,
        successor,
        addresses.index(address),
        line[successor],
    )


def in_line(chain: Chain) -> dict[TargetId, ChainFlag]:
    """Return the targets that updates go through, from the head on, and what each of them is."""
    serving = chain.in_state(PublicState.SERVING)
    if not serving:
        return {}
    line = dict.fromkeys(serving, ChainFlag.SERVES)
    line[serving[0]] |= ChainFlag.HEAD
    line[serving[-1]] |= ChainFlag.TAIL
    for target in chain.in_state(PublicState.SYNCING)[:1]:
        line[target] = ChainFlag.SYNCS
    return line


def in_use(routing: RoutingInfo, targets: Collection[TargetId]) -> bool:
    """Return whether routing info shows any of the targets serving or syncing."""
    return any(
        place.target in targets and place.state in IN_USE
        for chain in routing.chains.values()
        for place in chain.targets
    )


def in_chains(routing: RoutingInfo) -> frozenset[TargetId]:
    """Return the targets that are in any chain."""
    return frozenset(place.target for chain in routing.chains.values() for place in chain.targets)


def move_of(order: Order) -> SlotMoveOrder:
    """Return an order as the core takes it."""
    return SlotMoveOrder(
        id=order.id,
        source=order.source,
        target=order.target,
        chain_version=order.chain_version,
        address=order.address,
        flags=order.flags,
        table_size=order.table_size,
        slots=order.slots,
    )


def reports_of(
    states: Iterable[ChainState],
    withheld: Collection[TargetId],
    left_out: Collection[TargetId] = (),
) -> tuple[TargetReport, ...]:
    """Return a node's word on each of its targets; those left out are withheld, too."""
    return tuple(
        _report(
            state,
            TargetId(state.target) in withheld,
            SILENT if state.target in left_out else remark_on(state),
        )
        for state in states
    )


def _report(state: ChainState, withheld: bool, remark: str) -> TargetReport:
    return TargetReport(
        target=TargetId(state.target),
        local=LocalState.OFFLINE if withheld else LocalState(state.local),
        chain_version=ChainVersion(0 if withheld else state.chain_version),
        error=os.strerror(state.error) if state.error else remark,
        used_bytes=state.space_used,
        free_bytes=state.space_free,
        capacity_bytes=state.capacity,
        objects=state.objects,
        resync_done=state.resync_compared if state.resyncing else 0,
        resync_total=state.objects if state.resyncing else 0,
        settled=state.settled,
        move=state.move,
        move_state=MoveState(state.move_state),
        move_objects=state.move_objects,
    )
