"""Slots spread by what they hold, which is known only as far as chains say what they hold."""

import random
from uuid import UUID

from kvstore.cluster.chains import new_chain
from kvstore.cluster.ids import ChainId, NodeId, RoutingVersion, SlotTableId, TargetId
from kvstore.cluster.mgmtd.balance import MIB, moves_from, moves_of
from kvstore.cluster.mgmtd.basis import basis_of
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.mgmtd.ledger import DISSOLVES, Ledger
from kvstore.cluster.placement.slots import TOLERANCE, assigned
from kvstore.cluster.routing import Node, RoutingInfo, SlotTable, Target
from kvstore.cluster.states import NodeKind, NodeState

CHAINS = 8
SLOTS = 1024
ROUNDS = 8
CAPACITY_MIB = 1000
TABLE = SlotTableId(1)


def draft_of(slots: tuple[ChainId, ...], leaving: dict[TargetId, TargetId]) -> Draft:
    """Chains of one target each, on nodes of their own; the last one can hold twice as much."""
    nodes = {
        NodeId(id): Node(NodeId(id), NodeKind.STORAGE, NodeState.ACTIVE, (f"node{id}:1",))
        for id in range(1, CHAINS + 1)
    }
    targets = {
        TargetId(id): Target(TargetId(id), NodeId(id), 0, CAPACITY_MIB * (1 + (id == CHAINS)))
        for id in range(1, CHAINS + 1)
    }
    chains = {
        ChainId(id): new_chain(ChainId(id), [targets[TargetId(id)]]) for id in range(1, CHAINS + 1)
    }
    table = SlotTable(TABLE, slots)
    routing = RoutingInfo(RoutingVersion(1), UUID(int=1), nodes, targets, chains, {TABLE: table})
    return Draft(basis_of(routing, Ledger(leaving=leaving, replicas={TABLE: 1})))


def used_by(slots: tuple[ChainId, ...], sizes: list[int]) -> dict[TargetId, int]:
    used = dict.fromkeys(map(TargetId, range(1, CHAINS + 1)), 0)
    for chain, size in zip(slots, sizes, strict=True):
        used[TargetId(chain)] += size
    return used


def utilisations(used: dict[TargetId, int]) -> list[float]:
    return [held / (1 + (target == CHAINS)) for target, held in used.items()]


def uneven(seed: int) -> list[int]:
    """Return sizes of slots; the largest tenth holds a third of what there is."""
    draws = random.Random(seed)
    return [round(draws.lognormvariate(0, 0.8) * MIB) for _ in range(SLOTS)]


def applied(slots: tuple[ChainId, ...], moves: dict[int, ChainId]) -> tuple[ChainId, ...]:
    return tuple(moves.get(slot, chain) for slot, chain in enumerate(slots))


def test_chains_are_used_evenly_after_some_rounds_whatever_slots_hold() -> None:
    for seed in range(5):
        sizes = uneven(seed)
        slots = assigned({ChainId(id): 1 for id in range(1, CHAINS)}, SLOTS, seed)
        for _ in range(ROUNDS):
            draft = draft_of(slots, {})
            moves = moves_of(draft, draft.slot_tables[TABLE], used_by(slots, sizes))
            if not moves:
                break
            slots = applied(slots, moves)

        found = utilisations(used_by(slots, sizes))
        mean = sum(sizes) / (CHAINS + 1)
        assert not moves
        assert max(abs(one - mean) for one in found) <= TOLERANCE * mean, (seed, found)


def test_nothing_moves_that_is_even_by_bytes_and_not_by_slots() -> None:
    slots = tuple(ChainId(1 + (slot >= 100) * (slot % (CHAINS - 1) + 1)) for slot in range(SLOTS))
    counts = {chain: slots.count(chain) for chain in set(slots)}
    sizes = [200 * MIB * (1 + (chain == CHAINS)) // counts[chain] for chain in slots]
    draft = draft_of(slots, {})

    assert {} == moves_of(draft, draft.slot_tables[TABLE], used_by(slots, sizes))


def test_an_almost_empty_cluster_goes_by_slots() -> None:
    slots = tuple(ChainId(1) for _ in range(SLOTS))
    draft = draft_of(slots, {})

    moves = moves_of(draft, draft.slot_tables[TABLE], {TargetId(1): 10 * MIB})

    after = applied(slots, moves)
    counts = [after.count(ChainId(id)) for id in range(1, CHAINS + 1)]
    assert {SLOTS // 9, SLOTS // 9 + 1} >= set(counts[:-1])
    assert 2 * SLOTS // 9 <= counts[-1] <= 2 * SLOTS // 9 + 1


def test_a_chain_that_goes_gives_all_of_its_slots_to_those_that_stay() -> None:
    slots = assigned({ChainId(id): 1 for id in range(1, CHAINS + 1)}, SLOTS, 1)
    draft = draft_of(slots, {TargetId(2): DISSOLVES, TargetId(3): DISSOLVES})
    sizes = uneven(1)

    moves = moves_from(draft, draft.slot_tables[TABLE], used_by(slots, sizes), ChainId(2))

    assert {slot for slot, chain in enumerate(slots) if chain == 2} == set(moves)
    assert {1, 4, 5, 6, 7, 8} == set(moves.values())
    every = moves_of(draft, draft.slot_tables[TABLE], used_by(slots, sizes))
    assert not {2, 3} & set(applied(slots, every))
