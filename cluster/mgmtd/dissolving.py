"""Chains that go because no target can take the place of one that leaves. Pure.

A chain gives its slots to the others of its table; when all have moved, what it had is nobody's,
and its targets are spares.
"""

from collections.abc import Callable

from kvstore.cluster.ids import ChainId
from kvstore.cluster.mgmtd.balance import Used, moves_from
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.mgmtd.ledger import MovePhase
from kvstore.cluster.mgmtd.slot_moves import chains_of, record_moves

PAIRS_A_PASS_MAX = 16
"""Chains that get slots of one chain by one draft; the rest follows when these have moved."""


def dissolve(draft: Draft, id: ChainId, used: Callable[[], Used]) -> None:
    """Take the next step, where there is one."""
    if any(id in chains_of(key) for key, _ in draft.slot_moves.items()):
        return
    for table in draft.slot_tables.values():
        if id in table.chains:
            moves = moves_from(draft, table, used(), id)
            record_moves(draft, table, moves, PAIRS_A_PASS_MAX)
            return
    draft.remove_chain(id)


def may_dissolve(draft: Draft, id: ChainId, used: Callable[[], Used]) -> bool:
    """Say whether others can take the slots of a chain."""
    tables = [table for table in draft.slot_tables.values() if id in table.chains]
    return all(moves_from(draft, table, used(), id) for table in tables)


def keep(draft: Draft, id: ChainId) -> None:
    """Let a chain keep the slots that have not begun to move."""
    for key, move in list(draft.slot_moves.items()):
        if chains_of(key)[0] == id and move.phase is MovePhase.WAITING:
            draft.slot_moves.remove(key)
