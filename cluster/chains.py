"""What operators and repair may do to a chain: make it, add a target, remove one. Pure.

Each returns the next version of the chain or raises ChainChangeError, whose message says what to do
instead. No function here takes away the last copy, whoever asks.
"""

from collections.abc import Mapping, Sequence

from kvstore.cluster.ids import ChainId, ChainVersion, NodeId, TargetId
from kvstore.cluster.routing import CHAIN_TARGETS_MAX, Chain, ChainTarget, Target
from kvstore.cluster.states import PublicState
from kvstore.cluster.transitions import changed_chain
from kvstore.errors import ChainChangeError


def new_chain(id: ChainId, targets: Sequence[Target]) -> Chain:
    """Return version 1 of a chain of empty targets, all of them serving."""
    if not targets:
        raise ChainChangeError(f"chain {id} would have no target: name at least one")
    if len(targets) > CHAIN_TARGETS_MAX:
        raise ChainChangeError(
            f"chain {id} would have {len(targets)} targets: {CHAIN_TARGETS_MAX} is the limit"
        )
    nodes: dict[NodeId, TargetId] = {}
    for target in targets:
        _check_node(id, nodes, target)
        nodes[target.node] = target.id
    places = tuple(ChainTarget(target.id, PublicState.SERVING) for target in targets)
    return Chain(id, ChainVersion(1), places)


def add_target(chain: Chain, target: Target, known: Mapping[TargetId, Target]) -> Chain:
    """Return the chain with one more target, offline until its node reports it.

    `known` names the nodes of the chain's targets.
    """
    if len(chain.targets) == CHAIN_TARGETS_MAX:
        raise ChainChangeError(
            f"chain {chain.id} has {CHAIN_TARGETS_MAX} targets, the limit: remove one first"
        )
    nodes = {known[place.target].node: place.target for place in chain.targets}
    _check_node(chain.id, nodes, target)
    return changed_chain(chain, [*chain.targets, ChainTarget(target.id, PublicState.OFFLINE)])


def remove_target(chain: Chain, target: TargetId) -> Chain:
    """Return the chain without a target; refused while it holds the last copy."""
    place = next((place for place in chain.targets if place.target == target), None)
    if place is None:
        raise ChainChangeError(f"target {target} is not in chain {chain.id}")
    others = [other for other in chain.targets if other is not place]
    if not others:
        raise ChainChangeError(
            f"target {target} is all of chain {chain.id}: add another target and wait until it"
            " serves, or move the chain's slots away and delete the chain"
        )
    holds = (PublicState.SERVING, PublicState.LASTSRV)
    if place.state in holds and not any(other.state is PublicState.SERVING for other in others):
        raise ChainChangeError(
            f"target {target} has the last copy of chain {chain.id}, version {chain.version}:"
            " wait until another target of the chain serves"
        )
    return changed_chain(chain, others)


def _check_node(chain: ChainId, nodes: Mapping[NodeId, TargetId], target: Target) -> None:
    if target.node in nodes:
        raise ChainChangeError(
            f"chain {chain} would have targets {nodes[target.node]} and {target.id} on node"
            f" {target.node}, and lose both at once: take a target of another node"
        )
