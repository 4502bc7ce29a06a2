"""What becomes of nodes and chains by what is known of them, written into a draft. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from kvstore.cluster.ids import ChainId, TargetId
from kvstore.cluster.mgmtd.basis import Basis
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.mgmtd.events import Effect, Note
from kvstore.cluster.mgmtd.members import Member
from kvstore.cluster.mgmtd.messages import TargetReport
from kvstore.cluster.routing import Chain
from kvstore.cluster.states import LocalState, NodeState, PublicState
from kvstore.cluster.transitions import Change, Report, next_chain
from kvstore.errors import ChainChangeError

DOWN = (PublicState.OFFLINE, PublicState.LASTSRV)


def judge_nodes(
    draft: Draft, members: Iterable[Member], now_ns: int
) -> tuple[list[Member], list[Effect]]:
    """Write which nodes are there; return those found dead just now, and what to say of it.

    `members` are those of whom that may have changed.

    The chains of these are to be judged in the same draft: a node that is found dead has its fence
    there.
    """
    fenced: list[Member] = []
    effects: list[Effect] = []
    for member in members:
        node = draft.nodes.get(member.id)
        if node is None:
            continue
        if not member.alive(now_ns) and not member.dead:
            about = {"node": member.id, "why": member.found_dead()}
            effects.append(Note("node failed", about, warning=True))
            fenced.append(member)
            if node.state is NodeState.ACTIVE:
                draft.put_node(replace(node, state=NodeState.FAILED))
        elif not member.dead and node.state is NodeState.FAILED:
            draft.put_node(replace(node, state=NodeState.ACTIVE))
            effects.append(Note("node is back", {"node": member.id}))
    return fenced, effects


def judge_chains(
    draft: Draft, dirty: Iterable[ChainId], report: Callable[[TargetId], Report], now_ns: int
) -> list[Effect]:
    """Apply the transition table to chains that may change; return what to say of it."""
    effects: list[Effect] = []
    for id in sorted(dirty):
        chain = draft.chains.get(id)
        if chain is None or id in draft.chains.changed:
            continue
        reports = {place.target: report(place.target) for place in chain.targets}
        try:
            transition = next_chain(chain, reports, now_ns)
        except ChainChangeError as error:  # the other chains go on
            effects.append(Note("chain stays", {"chain": id, "why": str(error)}, warning=True))
            continue
        if transition.changes:
            draft.put_chain(transition.chain)
            effects.extend(_note(transition.chain, change) for change in transition.changes)
    return effects


def matters(
    basis: Basis, target: TargetId, before: TargetReport | None, after: TargetReport | None
) -> bool:
    """Say whether a chain may change by a report; a target that serves on changes none."""
    open_before = before is not None and before.local is not LocalState.OFFLINE
    open_after = after is not None and after.local is not LocalState.OFFLINE
    if open_before != open_after or before is None or after is None:
        return True
    id = basis.chain_of.get(target)
    return id is not None and target not in basis.routing.chains[id].in_state(PublicState.SERVING)


def _note(chain: Chain, change: Change) -> Note:
    about = {
        "target": change.target,
        "chain": chain.id,
        "version": chain.version,
        "before": change.before.name.lower(),
        "after": change.after.name.lower(),
        "why": change.reason,
    }
    return Note("target changes", about, warning=change.after in DOWN)
