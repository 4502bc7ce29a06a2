"""Starting a chain anew when what it held is lost: the one operation that may lose data."""

from kvstore.cluster.ids import ID_MAX, ChainId, TargetId
from kvstore.cluster.mgmtd.ledger import Identity
from kvstore.cluster.mgmtd.parameters import Parameters
from kvstore.cluster.mgmtd.situation import Situation
from kvstore.cluster.routing import ChainTarget
from kvstore.cluster.states import PublicState
from kvstore.cluster.transitions import changed_chain
from kvstore.errors import ChainChangeError, InvalidOptionError


def restart_chain(situation: Situation, parameters: Parameters) -> dict[str, object]:
    """Let a target serve what it has, when nobody who held all of the chain comes back.

    The other targets give up every claim, and are brought in line with it when they are back.
    """
    draft = situation.draft
    chain = draft.chains.get(ChainId(parameters.count("chain", None, 1, ID_MAX)))
    target = TargetId(parameters.count("target", None, 1, ID_MAX))
    lose = parameters.flag("lose")
    if chain is None or target not in {place.target for place in chain.targets}:
        raise InvalidOptionError(f"target {target} is not in that chain: kvstore status lists them")
    if chain.in_state(PublicState.SERVING):
        raise ChainChangeError(f"chain {chain.id} serves: there is nothing to restart")
    node = draft.targets[target].node
    member = situation.members.get(node)
    if member is None or not member.alive(situation.now_ns):
        raise ChainChangeError(f"node {node} of target {target} is down: start it first")
    if not lose:
        held = [id for id in chain.in_state(PublicState.LASTSRV) if id != target]
        raise ChainChangeError(
            f"what chain {chain.id} held is lost if it starts with what target {target} has; the"
            f" targets {held or [target]} held all of it: start them, or say lose"
        )
    places = [
        ChainTarget(
            place.target,
            PublicState.SERVING if place.target == target else PublicState.OFFLINE,
        )
        for place in chain.targets
    ]
    draft.put_chain(changed_chain(chain, places))
    identity = draft.identities.get(target)
    if identity is not None and identity.replaced_by is not None:
        draft.put_identity(target, Identity(identity.replaced_by))
    return {"chain": chain.id}
