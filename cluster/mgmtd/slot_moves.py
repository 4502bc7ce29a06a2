"""Slots on their way from one chain to another: what each step waits for, and whom it tells. Pure.

    WAITING ──► CLEARING ──► COPYING ──► FROZEN ──► CLEANING ──► gone
                the taker    the giver's the slots  the slots lead to the taker;
                deletes what tail sends  lead       the giver deletes what it
                it has of    what it     nowhere    held of them
                them         has of them

1. Slots lead to one chain at most, always: while they are frozen to none, and clients wait.
2. They lead to the taker only when every serving target of the giver goes by a chain version in
   which they are frozen, nothing that came before is under way there, and the tail has sent all.
3. Whatever changes either chain before that begins the move anew, by a later version of the taker,
   so that it takes nothing any more that was sent before. That version is above the giver's: no
   object that moved has a version that the taker gives out itself.
Nodes are told by answers to their heartbeats what to do (Order), and say how far they are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from kvstore.cluster.ids import ChainId, ChainVersion, NodeId, TargetId
from kvstore.cluster.leases import NS_A_MS
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.mgmtd.ledger import MoveKey, MovePhase, SlotMove
from kvstore.cluster.mgmtd.messages import MoveFlag, MoveState, Order, TargetReport
from kvstore.cluster.routing import NO_CHAIN, Chain, SlotTable
from kvstore.cluster.states import PublicState

FROZEN_MAX_MS = 5000
"""Longer than that and the slots lead to the giver again; the move begins anew."""
FAILED_REST_MS = 5000
"""Before a move begins anew that failed at a node, as where a value cannot be read."""
PHASE_BITS = 3
ANEW = (MovePhase.CLEARING, MovePhase.COPYING, MovePhase.FROZEN)

Said = Callable[[TargetId], TargetReport | None]
"""What a target's node says of it; None where it is not alive."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A move, and its chains as they are."""

    key: MoveKey
    move: SlotMove
    gives: Chain
    takes: Chain

    @property
    def order_id(self) -> int:
        """What the nodes know this step by; copying goes on while the slots are frozen."""
        phase = min(self.move.phase, MovePhase.COPYING)
        if self.move.phase is MovePhase.CLEANING:
            phase = MovePhase.CLEANING
        return self.move.serial << PHASE_BITS | phase


def key_of(gives: ChainId, takes: ChainId) -> MoveKey:
    """Return the key of the moves between two chains."""
    return MoveKey(gives << 32 | takes)


def chains_of(key: MoveKey) -> tuple[ChainId, ChainId]:
    """Return the chain that gives and the one that takes."""
    return ChainId(key >> 32), ChainId(key & 0xFFFFFFFF)


def record_moves(draft: Draft, table: SlotTable, moves: Mapping[int, ChainId], most: int) -> int:
    """Have slots move to other chains; return how many do. `most`: of pairs of chains."""
    pairs: dict[MoveKey, list[int]] = {}
    for slot, takes in sorted(moves.items()):
        gives = table.chains[slot]
        if gives != NO_CHAIN and gives != takes:
            pairs.setdefault(key_of(gives, takes), []).append(slot)
    count = 0
    for key, slots in sorted(pairs.items())[:most]:
        known = draft.slot_moves.get(key)
        if known is None:
            draft.slot_moves[key] = SlotMove(table.id, tuple(slots))
            count += len(slots)
    return count


def planned(draft: Draft, table: SlotTable) -> list[ChainId]:
    """Return the chain of each slot as it is to be when all moves are done."""
    slots = list(table.chains)
    for key, move in draft.slot_moves.items():
        if move.table == table.id and move.phase is not MovePhase.CLEANING:
            for slot in move.slots:
                slots[slot] = chains_of(key)[1]
    return slots


class Moving:
    """One pass over all moves: what can be done now is written into a draft."""

    def __init__(self, draft: Draft, said: Said, since_ns: dict[MoveKey, int], now_ns: int) -> None:
        """`since_ns` is kept from pass to pass: since when slots are frozen, or a move failed."""
        self._draft = draft
        self._said = said
        self._since_ns = since_ns
        self._now_ns = now_ns

    def run(self) -> None:
        """Take each step that can be taken."""
        busy: set[ChainId] = set()
        for key, move in sorted(self._draft.slot_moves.items()):
            if move.phase is not MovePhase.WAITING:
                busy |= set(chains_of(key))
        for key, move in sorted(self._draft.slot_moves.items()):
            gives, takes = (self._draft.chains.get(id) for id in chains_of(key))
            if gives is None or takes is None or self._draft.full:
                continue
            if {gives.id, takes.id} & self._draft.chains.changed.keys():
                continue  # it is looked at again when that is in force
            placed = Placed(key, move, gives, takes)
            if move.phase is MovePhase.WAITING:
                free = not {gives.id, takes.id} & busy and not self._rests(key)
                if free and serve(gives, takes):
                    busy |= {gives.id, takes.id}
                    self._begin(placed)
            elif move.phase is MovePhase.CLEANING:
                self._clean(placed)
            else:
                self._go_on(placed)
        for key in self._since_ns.keys() - {key for key, _ in self._draft.slot_moves.items()}:
            del self._since_ns[key]

    def _put(self, placed: Placed, move: SlotMove) -> None:
        if move.phase is not MovePhase.FROZEN:
            self._since_ns.pop(placed.key, None)
        self._draft.slot_moves[placed.key] = move

    def _begin(self, placed: Placed) -> None:
        """Begin, or begin anew, by a version of the taker above all that the giver has given."""
        version = max(placed.takes.version, placed.gives.version + 1) + 1
        self._draft.put_chain(replace(placed.takes, version=ChainVersion(version)))
        begun = replace(
            placed.move,
            phase=MovePhase.CLEARING,
            serial=self._draft.version,
            gives_version=placed.gives.version,
            takes_version=version,
        )
        self._put(placed, begun)

    def _go_on(self, placed: Placed) -> None:
        move = placed.move
        versions = (placed.gives.version, placed.takes.version)
        changed = versions != (move.gives_version, move.takes_version)
        frozen = move.phase is MovePhase.FROZEN
        if frozen:
            since_ns = self._since_ns.setdefault(placed.key, self._now_ns)
            changed = changed or self._now_ns - since_ns >= FROZEN_MAX_MS * NS_A_MS
        state = self._state(placed)
        if changed:
            self._anew(placed)
        elif state is MoveState.FAILED:
            self._fail(placed)
        elif move.phase is MovePhase.CLEARING and state is MoveState.DONE:
            self._put(placed, replace(move, phase=MovePhase.COPYING))
        elif move.phase is MovePhase.COPYING and state in (MoveState.READY, MoveState.DONE):
            self._freeze(placed)
        elif frozen and state is MoveState.DONE and is_settled(placed.gives, self._said):
            self._lead(placed, placed.takes.id)
            done = replace(move, phase=MovePhase.CLEANING, serial=self._draft.version)
            self._put(placed, done)

    def _freeze(self, placed: Placed) -> None:
        version = ChainVersion(placed.gives.version + 1)
        self._draft.put_chain(replace(placed.gives, version=version))
        self._lead(placed, NO_CHAIN)
        frozen = replace(placed.move, phase=MovePhase.FROZEN, gives_version=version)
        self._put(placed, frozen)

    def _anew(self, placed: Placed) -> None:
        if placed.move.phase is MovePhase.FROZEN:
            self._lead(placed, placed.gives.id)
        if serve(placed.gives, placed.takes):
            self._begin(placed)
        else:
            self._put(placed, replace(placed.move, phase=MovePhase.WAITING))

    def _fail(self, placed: Placed) -> None:
        if placed.move.phase is MovePhase.FROZEN:
            self._lead(placed, placed.gives.id)
        self._put(placed, replace(placed.move, phase=MovePhase.WAITING))
        self._since_ns[placed.key] = self._now_ns

    def _rests(self, key: MoveKey) -> bool:
        since_ns = self._since_ns.get(key)
        return since_ns is not None and self._now_ns - since_ns < FAILED_REST_MS * NS_A_MS

    def _clean(self, placed: Placed) -> None:
        """The slots lead elsewhere; what is deleted is nobody's any more."""
        move = placed.move
        if placed.gives.version != move.gives_version:
            version = placed.gives.version
            self._put(placed, replace(move, gives_version=version, serial=self._draft.version))
        elif self._state(placed) is MoveState.DONE:
            self._draft.slot_moves.remove(placed.key)

    def _lead(self, placed: Placed, to: ChainId) -> None:
        table = self._draft.slot_tables[placed.move.table]
        chains = list(table.chains)
        for slot in placed.move.slots:
            chains[slot] = to
        self._draft.slot_tables[table.id] = SlotTable(table.id, tuple(chains))

    def _state(self, placed: Placed) -> MoveState:
        """Return how far the target is that works on this step."""
        source = source_of(placed)
        said = None if source is None else self._said(source)
        if said is None or said.move != placed.order_id:
            return MoveState.NONE
        return said.move_state


def serve(*chains: Chain) -> bool:
    """Say whether all of the chains serve, and no resync would have to begin anew."""
    return all(
        chain.head is not None
        and not chain.in_state(PublicState.SYNCING)
        and not chain.in_state(PublicState.WAITING)
        for chain in chains
    )


def source_of(placed: Placed) -> TargetId | None:
    """Return the target that works on a step."""
    clearing = placed.move.phase is MovePhase.CLEARING
    return placed.takes.tail if clearing else placed.gives.tail


def goes_by(chain: Chain, said: Said) -> bool:
    """Say whether all targets that serve go by the chain's version."""
    reports = [said(target) for target in chain.in_state(PublicState.SERVING)]
    return all(report is not None and report.chain_version == chain.version for report in reports)


def is_settled(chain: Chain, said: Said) -> bool:
    """Say whether nothing is under way in a chain that came by an older version of it."""
    reports = [said(target) for target in chain.in_state(PublicState.SERVING)]
    return goes_by(chain, said) and all(report is not None and report.settled for report in reports)


def works(placed: Placed, said: Said) -> bool:
    """Say whether the step's target has begun with it."""
    source = source_of(placed)
    report = None if source is None else said(source)
    return report is not None and report.move == placed.order_id


@dataclass(frozen=True, slots=True)
class Told:
    """What a node is to do, and whether mgmtd waits for its word on it."""

    orders: tuple[Order, ...] = ()
    haste: bool = False


NOTHING_TOLD = Told()


def told(draft: Draft, node: NodeId, said: Said) -> Told:
    """Return what the answer to a node's heartbeat says of moves."""
    orders: list[Order] = []
    haste = False
    for key, move in draft.slot_moves.items():
        if move.phase is MovePhase.WAITING:
            continue
        gives, takes = (draft.chains.get(id) for id in chains_of(key))
        if gives is None or takes is None:
            continue
        placed = Placed(key, move, gives, takes)
        if move.phase is MovePhase.FROZEN:
            serving = gives.in_state(PublicState.SERVING)
            haste = haste or any(draft.targets[target].node == node for target in serving)
        source = source_of(placed)
        if source is not None and draft.targets[source].node == node:
            orders.extend(_order(draft, placed, said))
    return Told(tuple(orders), haste or bool(orders))


def _order(draft: Draft, placed: Placed, said: Said) -> Iterator[Order]:
    move, gives, takes = placed.move, placed.gives, placed.takes
    cleaning = move.phase is MovePhase.CLEANING
    to = gives if cleaning else takes
    source, head = source_of(placed), to.head
    versions = (gives.version, takes.version)
    if not cleaning and versions != (move.gives_version, move.takes_version):
        return
    if source is None or head is None or gives.version != move.gives_version:
        return
    flags = MoveFlag(0)
    if move.phase is MovePhase.CLEARING or cleaning:
        flags = MoveFlag.DELETE
        if not is_settled(to, said):
            return
    elif not works(placed, said) and not (goes_by(gives, said) and goes_by(takes, said)):
        return  # but what has begun is not told to end: what it noted would be lost
    elif move.phase is MovePhase.FROZEN and is_settled(gives, said):
        flags = MoveFlag.LAST
    yield Order(
        id=placed.order_id,
        source=source,
        target=head,
        chain_version=to.version,
        address=draft.nodes[draft.targets[head].node].addresses[0],
        flags=flags,
        table_size=len(draft.slot_tables[move.table].chains),
        slots=move.slots,
    )


def moves_shown(draft: Draft, said: Said) -> list[dict[str, object]]:
    """Return what an operator sees of each move."""
    rows: list[dict[str, object]] = []
    for key, move in sorted(draft.slot_moves.items()):
        gives, takes = chains_of(key)
        chains = (draft.chains.get(gives), draft.chains.get(takes))
        objects = 0
        if chains[0] is not None and chains[1] is not None:
            source = source_of(Placed(key, move, chains[0], chains[1]))
            report = said(source) if source is not None else None
            objects = report.move_objects if report is not None and report.move else 0
        rows.append(
            {
                "from": gives,
                "to": takes,
                "slots": len(move.slots),
                "phase": move.phase.name.lower(),
                "objects": objects,
            }
        )
    return rows
