"""The routing info that a node publishes: that of a file, or without one its own targets alone."""

import socket
import time
from collections.abc import Sequence

from kvstore.addresses import Address
from kvstore.cluster.routing import RoutingInfo
from kvstore.cluster.routing_file import read_routing_file
from kvstore.cluster.static_routing import even_slots, static_routing
from kvstore.errors import InvalidOptionError
from kvstore.node.config import NodeConfig


def routing_to_publish(config: NodeConfig, listening: Sequence[Address]) -> RoutingInfo:
    """Return the routing info for a node that listens there."""
    if config.routing is None:
        return own_routing(config, listening)
    routing = read_routing_file(config.routing)
    missing = sorted(set(targets_of(routing, config.node)) - set(config.targets))
    if missing:
        raise InvalidOptionError(
            f"{config.routing}: slots belong to target {missing[0]} of node {config.node}, "
            f"which has the targets {', '.join(map(str, sorted(config.targets)))}"
        )
    return routing


def targets_of(routing: RoutingInfo, node: int) -> list[int]:
    """Return the targets that a node is said to have."""
    return [target.id for target in routing.targets.values() if target.node == node]


def own_routing(config: NodeConfig, listening: Sequence[Address]) -> RoutingInfo:
    """Return all slots spread over the node's own targets; a later start is a newer version."""
    targets = sorted(config.targets)
    return static_routing(
        time.time_ns() // 1_000_000,
        {config.node: advertised(config, listening)},
        dict.fromkeys(targets, config.node),
        even_slots(targets),
    )


def advertised(config: NodeConfig, listening: Sequence[Address]) -> Address:
    """Return where clients reach the node: as told, or else the address that reaches furthest."""
    if config.advertise is not None:
        return Address(config.advertise.name, config.advertise.port or listening[0].port)
    for address in listening:
        if not address.wildcard and not address.loopback:
            return address
    for address in listening:
        if address.wildcard:
            return Address(socket.gethostname(), address.port)
    return listening[0]
