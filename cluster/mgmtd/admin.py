"""What an operator can ask of mgmtd: the operations of `MgmtdClient.admin`, and what they answer.

    operation        parameters                                  answer
    ---------------  ------------------------------------------  -----------------------------------
    status           -                                           see `status`
    create_chains    replicas=3 spares=0 slots=1024 seed=1       chains, spares, slot_table
    drain_node       node, force=False (True: room or not)       replacements, dissolved: [chain],
                                                                 left: to be asked for again
    resume_node      node                                        given_up: [target]
    remove_node      node (it is down, and in no chain)          node, targets
    replace_target   target, by=ID (unless given: the best)      replacements
    remove_target    target, drop=False (True: no replacement)   replacements, forgotten
    restart_chain    chain, target, lose=False                   chain (what others held is lost)
    rebalance        apply=False                                 replacements, formed, slot_moves
    move_slots       from, to (chains), count (of slots)         slots: how many move
    slot_plan        slot_table=1                                slot_moves: [{slot, from, to}]
    ns_list          -                                           namespaces: [policy]
    ns_create        name + any of a policy's fields             namespace: policy
    ns_set           name + any of a policy's fields             namespace: policy

A policy's fields: name, replicas, durability ("memory", "disk", "sync"), eviction ("none",
"cache"), ttl_ms, size_max, objects_max. Replacements are lists of {chain, leaves, joins}.

Operations are answered when they are stored. What takes time (replacements) goes on afterwards, and
shows in the status. Nothing here gives up the last copy of anything, but for restart_chain, which
has to be told so. A slot plan says which slots are to move; rebalance with apply moves them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from kvstore.cluster.chains import remove_target as without_target
from kvstore.cluster.ids import ID_MAX, ChainId, NodeId, SlotTableId, TargetId
from kvstore.cluster.mgmtd.balance import moves_of, targets_of
from kvstore.cluster.mgmtd.dissolving import keep, may_dissolve
from kvstore.cluster.mgmtd.forming import Wanted
from kvstore.cluster.mgmtd.ledger import DISSOLVES, NO_TARGET
from kvstore.cluster.mgmtd.namespaces import create_namespace, list_namespaces, set_namespace
from kvstore.cluster.mgmtd.new_chains import next_chain_id, put_row
from kvstore.cluster.mgmtd.parameters import Parameters
from kvstore.cluster.mgmtd.restart import restart_chain
from kvstore.cluster.mgmtd.room import check_room
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.mgmtd.situation import Situation
from kvstore.cluster.mgmtd.slot_moves import key_of, planned, record_moves
from kvstore.cluster.mgmtd.spares import Spares, row_of
from kvstore.cluster.mgmtd.status import status
from kvstore.cluster.placement.changes import Move, Plan, drain, grow
from kvstore.cluster.placement.layout import Row
from kvstore.cluster.routing import (
    CHAIN_TARGETS_MAX,
    SLOTS_MAX,
    Chain,
    Node,
    is_power_of_two,
)
from kvstore.cluster.states import NodeState
from kvstore.errors import ChainChangeError, InvalidOptionError, PlacementError

CREATE_CHAINS = "create_chains"
"""The one operation that goes on over many drafts; see `forming`."""
DISSOLVED_MAX = 16
"""Chains that one operation dissolves."""
MOVES_MAX = 64
"""Replacements that one operation records; the rest follows when these are done."""

Operation = Callable[[Situation, Parameters], dict[str, object]]


def operate(
    situation: Situation, operation: str, parameters: Mapping[str, object]
) -> dict[str, object]:
    """Do an operation on the situation's draft, and return its answer."""
    found = OPERATIONS.get(operation)
    if found is None:
        raise InvalidOptionError(
            f"{operation!r} is no operation; there is"
            f" {', '.join(sorted((*OPERATIONS, CREATE_CHAINS)))}"
        )
    taken = Parameters(operation, parameters)
    answer = found(situation, taken)
    taken.check_all_used()
    return answer


def wanted_chains(settings: Settings, given: Mapping[str, object]) -> Wanted:
    """Return what chains an operator wants made of the targets that are in none."""
    parameters = Parameters(CREATE_CHAINS, given)
    replicas = parameters.count("replicas", settings.replicas, 1, CHAIN_TARGETS_MAX)
    spares = parameters.count("spares", settings.spares, 0, ID_MAX)
    slots = parameters.count("slots", settings.slots, 1, SLOTS_MAX)
    seed = parameters.count("seed", settings.seed, 0, ID_MAX)
    if not is_power_of_two(slots):
        raise InvalidOptionError(f"slots: a power of two, not {slots}")
    parameters.check_all_used()
    return Wanted(replicas, spares, slots, seed)


def drain_node(situation: Situation, parameters: Parameters) -> dict[str, object]:
    """Have each target of a node replaced by a spare of another, or its chain go without one."""
    draft = situation.draft
    node = _node(situation, parameters)
    force = parameters.flag("force")
    rows = _rows(situation)
    plan = drain(rows, Spares(draft, situation.is_open).free, node.id, situation.settings.seed)
    going = plan.dissolved[:DISSOLVED_MAX]
    for id in going:
        chain = draft.chains[id]
        leaves = next(on for on in targets_of(chain) if draft.targets[on].node == node.id)
        draft.leaving[leaves] = DISSOLVES
    if stuck := [id for id in going if not may_dissolve(draft, id, situation.members.used)]:
        raise PlacementError(
            f"node {node.id} cannot leave: no other node can take its targets, and no other chain"
            f" the slots of chains {_some(stuck)}; add targets to other nodes first"
        )
    if not force:
        check_room(draft, node.id, plan.moves[:MOVES_MAX], going, situation.members.measures())
    draft.put_node(replace(node, state=NodeState.DRAINING))
    left = len(plan.moves) + len(plan.dissolved) - len(going) - len(plan.moves[:MOVES_MAX])
    return {
        "replacements": _record(situation, plan.moves),
        "dissolved": list(going),
        "left": left,
    }


def resume_node(situation: Situation, parameters: Parameters) -> dict[str, object]:
    """Let a node that is drained, or disabled, take part again."""
    draft = situation.draft
    node = _node(situation, parameters)
    if node.state not in (NodeState.DRAINING, NodeState.DISABLED):
        raise InvalidOptionError(f"node {node.id} is {node.state.name.lower()}, not draining")
    member = situation.members.get(node.id)
    alive = member is not None and member.alive(situation.now_ns)
    draft.put_node(replace(node, state=NodeState.ACTIVE if alive else NodeState.FAILED))
    given_up = [
        target
        for target, joins in draft.leaving.items()
        if draft.targets[target].node == node.id and draft.chain_of(joins) is None
    ]
    for target in given_up:
        chain = draft.chain_of(target)
        if draft.leaving[target] == DISSOLVES and chain is not None:
            keep(draft, chain.id)
        draft.leaving.remove(target)
    return {"given_up": sorted(given_up)}


def remove_node(situation: Situation, parameters: Parameters) -> dict[str, object]:
    """Forget a node that is down and holds nothing that counts."""
    draft = situation.draft
    node = _node(situation, parameters)
    member = situation.members.get(node.id)
    if member is not None and member.alive(situation.now_ns):
        raise ChainChangeError(f"node {node.id} is alive: stop it first")
    targets = draft.targets_on(node.id)
    if used := [target for target in targets if draft.chain_of(target) is not None]:
        raise ChainChangeError(
            f"node {node.id} has targets in chains ({_some(used)}): kvstore admin drain-node"
            f" {node.id}, and wait until it is done"
        )
    for target in targets:
        _forget(situation, target)
    draft.forget_node(node.id)
    return {"node": node.id, "targets": sorted(targets)}


def replace_target(situation: Situation, parameters: Parameters) -> dict[str, object]:
    """Have another target take the place of one."""
    draft = situation.draft
    target = _target(situation, parameters, "target")
    chain = draft.chain_of(target)
    if chain is None:
        raise ChainChangeError(f"target {target} is in no chain: there is nothing to replace")
    by = parameters.count("by", 0, 0, ID_MAX)
    spares = Spares(draft, situation.is_open)
    joins = _chosen(situation, spares, chain, target, TargetId(by)) if by else None
    joins = joins or spares.best(chain, target)
    if joins is None:
        raise PlacementError(
            f"no spare can take the place of target {target} in chain {chain.id}: add a target on"
            " a node that has none of this chain"
        )
    draft.leaving[target] = joins
    return {"replacements": [_replacement(chain.id, target, joins)]}


def remove_target(situation: Situation, parameters: Parameters) -> dict[str, object]:
    """Take a target out of its chain; a spare, and what is dropped, is forgotten."""
    draft = situation.draft
    drop = parameters.flag("drop")
    target = _target(situation, parameters, "target")
    chain = draft.chain_of(target)
    if chain is None:
        _forget(situation, target)
        return {"replacements": [], "forgotten": [target]}
    if drop:
        without_target(chain, target)  # refuses to give up the last copy
        draft.leaving[target] = NO_TARGET
        return {"replacements": [_replacement(chain.id, target, NO_TARGET)], "forgotten": []}
    joins = Spares(draft, situation.is_open).best(chain, target)
    if joins is None:
        raise ChainChangeError(
            f"no spare can take the place of target {target}, and chain {chain.id} would have"
            f" {len(chain.targets) - 1} targets: add one first, or say drop to go without"
        )
    draft.leaving[target] = joins
    return {"replacements": [_replacement(chain.id, target, joins)], "forgotten": []}


def rebalance(situation: Situation, parameters: Parameters) -> dict[str, object]:
    """Plan, and with `apply` begin, what brings targets in no chain into new chains."""
    draft = situation.draft
    apply = parameters.flag("apply")
    replicas = max((count for _, count in draft.replicas.items()), default=0)
    if not replicas:
        raise PlacementError("there are no chains yet: kvstore admin create-chains")
    free = Spares(draft, situation.is_open).free
    settings = situation.settings
    plan = grow(_rows(situation), free, replicas, settings.spares, settings.seed)
    answer: dict[str, object] = {
        "replacements": [_replacement(*_ids(move)) for move in plan.moves[:MOVES_MAX]],
        "formed": [[on.target for on in row] for row in plan.formed],
        "slot_moves": [],
    }
    if apply:
        answer["replacements"] = _record(situation, plan.moves)
        answer["formed"] = [[on.target for on in row] for row in _form(situation, plan)]
    answer["slot_moves"] = [
        move for table in draft.slot_tables.values() for move in _slot_moves(situation, table.id)
    ]
    if apply:
        for table in list(draft.slot_tables.values()):
            record_moves(draft, table, moves_of(draft, table, situation.members.used()), MOVES_MAX)
    return answer


def move_slots(situation: Situation, parameters: Parameters) -> dict[str, object]:
    """Have some slots of one chain move to another."""
    draft = situation.draft
    gives, takes = (ChainId(parameters.count(name, None, 1, ID_MAX)) for name in ("from", "to"))
    count = parameters.count("count", None, 1, SLOTS_MAX)
    for chain in (gives, takes):
        if chain not in draft.chains:
            raise InvalidOptionError(f"chain {chain} is not known: kvstore status lists the chains")
    tables = [table for table in draft.slot_tables.values() if gives in planned(draft, table)]
    if gives == takes or not tables:
        raise InvalidOptionError(f"chain {gives} has no slots to give to chain {takes}")
    if any(takes in other.chains for other in draft.slot_tables.values() if other != tables[0]):
        raise InvalidOptionError(f"chain {takes} has slots of another table")
    if key_of(gives, takes) in draft.slot_moves:
        raise InvalidOptionError(f"slots of chain {gives} are moving to chain {takes}: wait for it")
    slots = planned(draft, tables[0])
    held = [slot for slot, chain in enumerate(slots) if chain == gives == tables[0].chains[slot]]
    moves = dict.fromkeys(held[:count], takes)
    return {"slots": record_moves(draft, tables[0], moves, 1)}


def slot_plan(situation: Situation, parameters: Parameters) -> dict[str, object]:
    """Say which slots are to move so that each chain has its share."""
    table = SlotTableId(parameters.count("slot_table", 1, 1, ID_MAX))
    if table not in situation.draft.slot_tables:
        raise InvalidOptionError(f"slot_table: there is no slot table {table}")
    return {"slot_moves": _slot_moves(situation, table)}


OPERATIONS: Mapping[str, Operation] = {
    "status": status,
    "drain_node": drain_node,
    "resume_node": resume_node,
    "remove_node": remove_node,
    "replace_target": replace_target,
    "remove_target": remove_target,
    "restart_chain": restart_chain,
    "rebalance": rebalance,
    "move_slots": move_slots,
    "slot_plan": slot_plan,
    "ns_list": list_namespaces,
    "ns_create": create_namespace,
    "ns_set": set_namespace,
}
READING = frozenset(("status", "slot_plan", "ns_list"))
"""What changes nothing, and is answered at once."""


def _node(situation: Situation, parameters: Parameters) -> Node:
    id = NodeId(parameters.count("node", None, 1, ID_MAX))
    node = situation.draft.nodes.get(id)
    if node is None:
        raise InvalidOptionError(f"node {id} is not known: kvstore status lists the nodes")
    return node


def _target(situation: Situation, parameters: Parameters, name: str) -> TargetId:
    id = TargetId(parameters.count(name, None, 1, ID_MAX))
    if id not in situation.draft.targets:
        raise InvalidOptionError(f"target {id} is not known: kvstore status lists the targets")
    return id


def _chosen(
    situation: Situation, spares: Spares, chain: Chain, leaves: TargetId, by: TargetId
) -> TargetId:
    """Return the target that an operator chose, where it can join the chain."""
    draft = situation.draft
    if by not in {place.target for place in spares.free}:
        raise ChainChangeError(
            f"target {by} cannot join: it is not known, not open, or in a chain already"
        )
    node = draft.targets[by].node
    for place in chain.targets:
        if place.target != leaves and draft.targets[place.target].node == node:
            raise ChainChangeError(
                f"chain {chain.id} would have targets {place.target} and {by} on node {node}, and"
                " lose both at once: take a target of another node"
            )
    return by


def _forget(situation: Situation, target: TargetId) -> None:
    draft = situation.draft
    if joining := [leaves for leaves, joins in draft.leaving.items() if joins == target]:
        raise ChainChangeError(
            f"target {target} is to take the place of target {joining[0]}: name another one for"
            f" that first (replace-target {joining[0]})"
        )
    draft.forget_target(target)


def _rows(situation: Situation) -> dict[ChainId, Row]:
    """Return the chains' places, without the chains of which a target leaves already."""
    draft = situation.draft
    busy = {chain.id for id, _ in draft.leaving.items() if (chain := draft.chain_of(id))}
    return {
        chain.id: row_of(draft, chain) for chain in draft.chains.values() if chain.id not in busy
    }


def _record(situation: Situation, moves: Sequence[Move]) -> list[dict[str, object]]:
    recorded = moves[:MOVES_MAX]
    for move in recorded:
        situation.draft.leaving[move.leaves.target] = move.joins.target
    return [_replacement(*_ids(move)) for move in recorded]


def _ids(move: Move) -> tuple[ChainId, TargetId, TargetId]:
    return move.chain, move.leaves.target, move.joins.target


def _replacement(chain: ChainId, leaves: TargetId, joins: TargetId) -> dict[str, object]:
    return {"chain": chain, "leaves": leaves, "joins": joins or None}


def _form(situation: Situation, plan: Plan) -> list[Row]:
    """Make the chains of a plan whose places are all free; the others wait for replacements."""
    draft = situation.draft
    taken = {joins for _, joins in draft.leaving.items()}
    formed: list[Row] = []
    for row in plan.formed:
        free = all(draft.chain_of(on.target) is None and on.target not in taken for on in row)
        fresh = [on for on in row if not draft.identities[on.target].used]
        if free and fresh:
            put_row(draft, row, next_chain_id(draft))
            formed.append(row)
    return formed


def _slot_moves(situation: Situation, id: SlotTableId) -> list[dict[str, object]]:
    draft = situation.draft
    table = draft.slot_tables[id]
    slots = planned(draft, table)
    moves = moves_of(draft, table, situation.members.used())
    return [{"slot": slot, "from": slots[slot], "to": chain} for slot, chain in moves.items()]


def _some(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
