"""The numbers that name the parts of a cluster. Each has a type, so that none passes for another.

Node, target and chain ids are given out by mgmtd, count from 1 and are never used again.
"""

from typing import NewType

NodeId = NewType("NodeId", int)
TargetId = NewType("TargetId", int)
ChainId = NewType("ChainId", int)

ChainVersion = NewType("ChainVersion", int)
"""Counts the changes of one chain, from 1."""

RoutingVersion = NewType("RoutingVersion", int)
"""Counts the changes of the routing info, from 1; 0 is the empty routing info of a new cluster."""

SlotTableId = NewType("SlotTableId", int)

Epoch = NewType("Epoch", int)
"""Counts the leases of mgmtd's primary, from 1."""

ID_MAX = 2**32 - 1
CHAIN_VERSION_MAX = 2**23 - 1
"""Versions of objects have 23 bits for it. A chain that changes every minute reaches it after 15
years."""
ROUTING_VERSION_MAX = 2**63 - 1
"""Also the largest epoch and the largest size in bytes: what fits a signed word everywhere."""
