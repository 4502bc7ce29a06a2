"""Everything that an operator sees of a cluster, as plain values.

status: {
  cluster: uuid text, epoch, primary: "host:port", routing_version,
  terms: {heartbeat_ms, lease_ms, drift_ms_max}, replicas (0: no chains yet), expected_targets,
  nodes: [{id, kind, state, addresses, rack, incarnation, connected, lease_ms (what is left; 0:
      none), silent_ms, suspicions, targets: [id]}],
  targets: [{id, node, disk, capacity_bytes, used_bytes, free_bytes, objects, chain (None: spare),
      state ("serving", "lastsrv", "syncing", "waiting", "offline", "spare"), local, error,
      chain_version, resync_done, resync_total, retiring, leaving, joins (who replaces it, or None),
      dissolves (whether its chain gives its slots away, and goes)}],
  chains: [{id, version, wanted, slots, targets: [{target, node, state}]}],
  slot_tables: [{id, slots}], namespaces: [policy],
  slot_moves: [{from, to, slots, phase, objects}]   slots on their way, see `slot_moves`
  problems: [text]                         what an operator should look at; empty: all is well
}
"""

from collections.abc import Iterator
from dataclasses import asdict

from kvstore.cluster.ids import NodeId, TargetId
from kvstore.cluster.leases import NS_A_MS
from kvstore.cluster.mgmtd.ledger import DISSOLVES
from kvstore.cluster.mgmtd.members import NO_SESSION, longest_silence_ms, measured
from kvstore.cluster.mgmtd.namespaces import policy_fields
from kvstore.cluster.mgmtd.parameters import Parameters
from kvstore.cluster.mgmtd.situation import Situation
from kvstore.cluster.mgmtd.slot_moves import moves_shown
from kvstore.cluster.mgmtd.wire import NO_MEASURES, Measures
from kvstore.cluster.routing import Chain, Node, Target
from kvstore.cluster.states import LocalState, NodeState, PublicState

MIB = 1 << 20
PROBLEMS_MAX = 100
SPARE = "spare"


def status(situation: Situation, parameters: Parameters) -> dict[str, object]:
    """Return all of it."""
    del parameters  # there are none; what is given is refused
    draft, settings = situation.draft, situation.settings
    routing = draft.basis.routing
    slots = _slot_counts(situation)
    return {
        "cluster": str(routing.cluster),
        "epoch": situation.epoch,
        "routing_version": routing.version,
        "terms": asdict(settings.terms),
        "replicas": max(draft.basis.ledger.replicas.values(), default=0),
        "expected_nodes": settings.expected_nodes,
        "expected_targets": settings.expected_targets,
        "nodes": _nodes(situation),
        "targets": _targets(situation),
        "chains": [
            {
                "id": chain.id,
                "version": chain.version,
                "wanted": situation.wanted.get(chain.id, len(chain.targets)),
                "slots": slots.get(chain.id, 0),
                "targets": [
                    {
                        "target": place.target,
                        "node": draft.targets[place.target].node,
                        "state": place.state.name.lower(),
                    }
                    for place in chain.targets
                ],
            }
            for _, chain in sorted(routing.chains.items())
        ],
        "slot_tables": [
            {"id": table.id, "slots": len(table.chains)} for table in routing.slot_tables.values()
        ],
        "namespaces": [policy_fields(policy) for _, policy in sorted(routing.namespaces.items())],
        "slot_moves": moves_shown(draft, situation.said),
        "problems": list(_first(problems(situation), PROBLEMS_MAX)),
    }


def problems(situation: Situation) -> Iterator[str]:
    """Name what an operator should look at."""
    draft = situation.draft
    for node in draft.nodes.values():
        if node.state is NodeState.FAILED:
            yield f"node {node.id} is down"
        if node.state is NodeState.DRAINING and (left := _left_on(situation, node)):
            yield f"node {node.id} is draining: {left} of its targets wait for a spare"
    for target in sorted(situation.blocked):
        chain = draft.chain_of(target)
        yield (
            f"target {target} came back empty, and chain {chain.id if chain else 0} still counts on"
            " what it held: start the other targets of the chain, put the directory before back,"
            " or give up what it held (restart-chain)"
        )
    for chain in draft.chains.values():
        yield from _chain_problems(situation, chain)
    for member in situation.members:
        if member.alive(situation.now_ns):
            for report in member.reports.values():
                if report.error:
                    yield f"target {report.target} of node {member.id}: {report.error}"


def _left_on(situation: Situation, node: Node) -> int:
    """Return how many targets of a draining node nothing is done about yet."""
    draft = situation.draft
    return sum(
        draft.chain_of(target) is not None and target not in draft.leaving
        for target in draft.targets_on(node.id)
    )


def _chain_problems(situation: Situation, chain: Chain) -> Iterator[str]:
    serving = len(chain.in_state(PublicState.SERVING))
    wanted = situation.wanted.get(chain.id, len(chain.targets))
    if not serving:
        holders = chain.in_state(PublicState.LASTSRV)
        yield f"chain {chain.id} serves nothing: start a node of targets {list(holders)}"
    elif serving < wanted:
        yield f"chain {chain.id} has {serving} of {wanted} targets serving"


def _nodes(situation: Situation) -> list[dict[str, object]]:
    targets: dict[NodeId, list[TargetId]] = {}
    for target in situation.draft.targets.values():
        targets.setdefault(target.node, []).append(target.id)
    return [
        _node_fields(situation, node, sorted(targets.get(id, [])))
        for id, node in sorted(situation.draft.nodes.items())
    ]


def _node_fields(situation: Situation, node: Node, targets: list[TargetId]) -> dict[str, object]:
    member, now_ns = situation.members.get(node.id), situation.now_ns
    alive = member is not None and member.alive(now_ns)
    return {
        "id": node.id,
        "kind": node.kind.name.lower(),
        "state": node.state.name.lower(),
        "addresses": list(node.addresses),
        "rack": node.rack,
        "incarnation": node.incarnation,
        "connected": member is not None and member.session != NO_SESSION,
        "lease_ms": (member.lease_end_ns - now_ns) // NS_A_MS if member and alive else 0,
        "silent_ms": longest_silence_ms(member, now_ns) if member else 0,
        "suspicions": member.suspicions if member else 0,
        "targets": targets,
    }


def _targets(situation: Situation) -> list[dict[str, object]]:
    measures: dict[TargetId, Measures] = {}
    for member in situation.members:
        measures.update(measured(member))
    joins = dict(situation.draft.leaving.items())
    retiring = {target for targets in situation.retiring.values() for target in targets}
    return [
        {
            **_target_fields(situation, target, measures.get(id, NO_MEASURES)),
            "retiring": id in retiring,
            "leaving": id in joins,
            "joins": None if joins.get(id) == DISSOLVES else joins.get(id) or None,
            "dissolves": joins.get(id) == DISSOLVES,
        }
        for id, target in sorted(situation.draft.targets.items())
    ]


def _target_fields(situation: Situation, target: Target, measures: Measures) -> dict[str, object]:
    chain = situation.draft.chain_of(target.id)
    member = situation.members.get(target.node)
    alive = member is not None and member.alive(situation.now_ns)
    said = member.reports.get(target.id) if member and alive else None
    state = (
        next((place.state for place in chain.targets if place.target == target.id), None)
        if (chain)
        else None
    )
    return {
        "id": target.id,
        "node": target.node,
        "disk": target.disk,
        "capacity_bytes": measures.capacity_bytes or target.capacity_mib * MIB,
        "used_bytes": measures.used_bytes,
        "free_bytes": measures.free_bytes,
        "objects": measures.objects,
        "chain": chain.id if chain else None,
        "state": state.name.lower() if state else SPARE,
        "local": (said.local if said else LocalState.UNKNOWN).name.lower(),
        "error": said.error if said else "",
        "chain_version": said.chain_version if said else 0,
        "resync_done": measures.resync_done,
        "resync_total": measures.resync_total,
    }


def _slot_counts(situation: Situation) -> dict[int, int]:
    counts: dict[int, int] = {}
    for table in situation.draft.slot_tables.values():
        for chain in table.chains:
            counts[chain] = counts.get(chain, 0) + 1
    return counts


def _first(items: Iterator[str], count: int) -> Iterator[str]:
    for _, item in zip(range(count), items, strict=False):
        yield item
