"""Routing info with chains on three nodes, and the states that a node's core tells, for tests."""

from dataclasses import replace

from kvstore.cluster.ids import ChainId, ChainVersion, NodeId, RoutingVersion, TargetId
from kvstore.cluster.routing import Chain, ChainTarget, Node, RoutingInfo, Target
from kvstore.cluster.states import LocalState, NodeKind, NodeState, PublicState
from kvstore.types import ChainState

LETTERS = {
    "S": PublicState.SERVING,
    "L": PublicState.LASTSRV,
    "Y": PublicState.SYNCING,
    "W": PublicState.WAITING,
    "O": PublicState.OFFLINE,
}


def routing(version: int, **chains: str) -> RoutingInfo:
    """Routing info of chains such as c1="v3 1S 2S 13Y": targets 1 ... 9 are on node 1 ... 9, 13 too
    on node 3, and so on."""
    made: dict[ChainId, Chain] = {}
    targets: dict[TargetId, Target] = {}
    for name, text in chains.items():
        chain_version, *places = text.split()
        line = [ChainTarget(TargetId(int(p[:-1])), LETTERS[p[-1]]) for p in places]
        id = ChainId(int(name[1:]))
        made[id] = Chain(id, ChainVersion(int(chain_version[1:])), tuple(line))
        for place in line:
            targets[place.target] = Target(place.target, NodeId(place.target % 10), 0, 0)
    nodes = {target.node: node(target.node) for target in targets.values()}
    return RoutingInfo(RoutingVersion(version), nodes=nodes, targets=targets, chains=made)


def node(id: int) -> Node:
    return Node(NodeId(id), NodeKind.STORAGE, NodeState.ACTIVE, (f"n{id}:7400",))


def state(target: int, local: LocalState = LocalState.UPTODATE, **changes: int) -> ChainState:
    """What the core tells of a target."""
    names = [name for name in ChainState.__slots__ if name not in ("resyncing", "settled")]
    nothing = ChainState(**dict.fromkeys(names, 0), resyncing=False, settled=True)
    return replace(nothing, target=target, local=local, **changes)  # type: ignore[arg-type]
