"""Whether what a node holds has room where it is to go. Pure.

A joiner is to hold what its chain does, and chains that take slots what these hold besides their
own; both as last reported. What nobody has reported yet is taken to be empty.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from kvstore.cluster.ids import ChainId, NodeId, TargetId
from kvstore.cluster.mgmtd.balance import MIB, moves_from, sizes_of, targets_of
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.mgmtd.wire import Measures
from kvstore.cluster.placement.changes import Move
from kvstore.errors import PlacementError

Measured = Mapping[TargetId, Measures]


def check_room(
    draft: Draft, node: NodeId, moves: Iterable[Move], dissolved: Iterable[ChainId], said: Measured
) -> None:
    """Raise PlacementError for a node that cannot leave by these replacements and dissolved chains.

    `dissolved` are marked as such in the draft.
    """
    lacks = [*_joiners_lack(draft, moves, said), *_takers_lack(draft, dissolved, said)]
    if lacks:
        raise PlacementError(
            f"node {node} cannot leave: {lacks[0]}; add larger targets to other nodes or delete"
            " objects first, or say force where targets evict what has no room"
        )


def _joiners_lack(draft: Draft, moves: Iterable[Move], said: Measured) -> Iterator[str]:
    for move in moves:
        joins, chain = move.joins.target, draft.chains[move.chain]
        held = max((said[id].used_bytes for id in targets_of(chain) if id in said), default=0)
        room = _capacity(draft, joins, said)
        if held > room:
            yield (
                f"target {joins}, which would replace target {move.leaves.target}, has room for"
                f" {_mib(room)} MiB, and chain {chain.id} holds {_mib(held)} MiB"
            )


def _takers_lack(draft: Draft, dissolved: Iterable[ChainId], said: Measured) -> Iterator[str]:
    used = {target: measures.used_bytes for target, measures in said.items()}
    wanted: Counter[ChainId] = Counter()
    for gives in dissolved:
        for table in draft.slot_tables.values():
            if gives in table.chains:
                sizes = sizes_of(draft, table, used)
                for slot, takes in moves_from(draft, table, used, gives).items():
                    wanted[takes] += sizes[slot]
    for takes, size in wanted.items():
        targets = targets_of(draft.chains[takes])
        free = min(_capacity(draft, id, said) - used.get(id, 0) for id in targets)
        if size > free:
            yield (
                f"chain {takes} would take {_mib(size)} MiB of chains that go, and has"
                f" {_mib(max(free, 0))} MiB free"
            )


def _capacity(draft: Draft, target: TargetId, said: Measured) -> int:
    reported = said[target].capacity_bytes if target in said else 0
    return reported or draft.targets[target].capacity_mib * MIB


def _mib(size: int) -> int:
    return size // MIB
