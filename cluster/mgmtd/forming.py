"""Many chains at once, and the slot table that leads to them: planned and put in steps. Pure.

    idle ──begin──► planning ──advance──► planned ──put──► idle
                    (in steps)            (some chains a draft, then the slot table)

With thousands of targets a plan takes seconds, in which a primary has to renew its lease and to
answer heartbeats. It reads what was in force when it began; a target that has gone meanwhile ends
it. What was put by then stays: chains of no slot table are part of the first table that is made,
and of what a rebalance gives slots to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvstore.cluster.ids import ChainId, SlotTableId, TargetId
from kvstore.cluster.mgmtd.draft import Draft
from kvstore.cluster.mgmtd.events import Answer, Continue, Effect, Note, Refuse, Ticket
from kvstore.cluster.mgmtd.new_chains import even, next_chain_id, put_row, used, weight_of
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.mgmtd.spares import Open, joinable, place_of
from kvstore.cluster.placement.design import designing
from kvstore.cluster.placement.layout import Layout, Place, Row
from kvstore.cluster.placement.slots import assigning
from kvstore.cluster.placement.steps import InSteps, Work
from kvstore.cluster.routing import NamespacePolicy, SlotTable
from kvstore.cluster.states import NodeKind, NodeState
from kvstore.errors import BusyError, PlacementError

DEFAULT_NAMESPACE = "default"
UNITS_A_STEP = 64
"""Of planning: some milliseconds."""
CHAINS_A_DRAFT = 250
NOBODY: Ticket = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What chains are to be made."""

    replicas: int
    spares: int
    slots: int
    seed: int


@dataclass(frozen=True, slots=True)
class ChainsPlan:
    """What to put."""

    wanted: Wanted
    left_over: tuple[ChainId, ...]
    """Chains that are there already, and get slots of this table."""
    layout: Layout
    slots: tuple[ChainId, ...]
    """For each slot a chain, counted from 1: first those left over, then those of the layout."""


class Forming:
    """The chains in the making."""

    def __init__(self) -> None:
        """Make none."""
        self._planning: InSteps[ChainsPlan | TargetId | None] | None = None
        self._plan: ChainsPlan | None = None
        self._chains: list[ChainId] = []
        """Of the plan, as far as they are put."""
        self._ticket = NOBODY
        self._waits_for: TargetId | None = None
        """A target that was not open when the first chains were to be made."""

    @property
    def planned(self) -> bool:
        """Whether there is something to put."""
        return self._plan is not None

    def begin(self, draft: Draft, wanted: Wanted, is_open: Open, ticket: Ticket) -> None:
        """Begin for an operator, whose ticket is answered in the end; BusyError: not now."""
        if self._planning is not None or self._plan is not None:
            raise BusyError("other chains are being made: ask again when they are there")
        self._ticket = ticket
        self._planning = InSteps(planning(draft, wanted, is_open))

    def begin_first(self, draft: Draft, settings: Settings, is_open: Open) -> bool:
        """Begin for a new cluster, unless something that it expects is still missing."""
        if self._planning is not None or self._plan is not None:
            return False
        if len(draft.basis.routing.nodes) < settings.expected_nodes:
            return False
        missing = self._waits_for
        if missing is not None and missing in draft.targets and not is_open(missing):
            return False
        self._ticket = NOBODY
        self._planning = InSteps(first_planning(draft, settings, is_open))
        return True

    def advance(self) -> list[Effect]:
        """Take a step of planning; there is another one where it says Continue."""
        if self._planning is None:
            return []
        try:
            self._planning.advance(UNITS_A_STEP)
        except PlacementError as error:
            return self._give_up(error)
        if not self._planning.done:
            return [Continue()]
        result, self._planning = self._planning.result, None
        if isinstance(result, ChainsPlan):
            self._plan, self._chains = result, list(result.left_over)
        else:
            self._waits_for = result
        return []

    def put(self, draft: Draft, is_open: Open) -> tuple[list[Answer], list[Effect]]:
        """Put what is next into a draft; the answer counts when that is stored."""
        plan = self._plan
        if plan is None:
            return [], []
        try:
            rows = plan.layout.rows[len(self._chains) - len(plan.left_over) :]
            put_rows(draft, rows[:CHAINS_A_DRAFT], is_open, self._chains)
            if len(rows) > CHAINS_A_DRAFT:
                return [], []
            answer = put_table(draft, plan, self._chains)
        except PlacementError as error:
            return [], self._give_up(error)
        self._plan = None
        if self._ticket == NOBODY:
            return [], [Note("chains made", answer)]
        return [Answer(self._ticket, answer)], []

    def _give_up(self, error: PlacementError) -> list[Effect]:
        self._planning = self._plan = None
        return [] if self._ticket == NOBODY else [Refuse(self._ticket, error)]


def first_planning(
    draft: Draft, settings: Settings, is_open: Open
) -> Work[ChainsPlan | TargetId | None]:
    """Plan the chains of a new cluster; a target that is not open yet, or None, where it waits."""
    nodes = {
        node.id
        for node in draft.nodes.values()
        if node.kind is NodeKind.STORAGE and node.state is NodeState.ACTIVE
    }
    targets = [target for node in nodes for target in draft.targets_on(node)]
    if len(targets) < max(1, settings.expected_targets):
        return None
    if sum(bool(draft.targets_on(node)) for node in nodes) < settings.expected_nodes:
        return None
    for target in targets:
        yield
        if not is_open(target):
            return target
    wanted = Wanted(settings.replicas, settings.spares, settings.slots, settings.seed)
    return (yield from planning(draft, wanted, is_open))


def planning(draft: Draft, wanted: Wanted, is_open: Open) -> Work[ChainsPlan]:
    """Plan chains of all spares that never were in one, and a slot table; PlacementError: none."""
    taken = {joins for _, joins in draft.leaving.items()}
    free: list[Place] = []
    for target in draft.targets.values():
        yield
        fresh = target.id not in taken and not used(draft, target.id)
        if fresh and joinable(draft, target.id, is_open):
            free.append(place_of(draft, target.id))
    tables = any(True for _ in draft.slot_tables.values())
    left_over = () if tables else tuple(sorted(chain.id for chain in draft.chains.values()))
    if not free and not left_over:
        raise PlacementError(
            "no chain can be made: there is no target that is open, empty and in no chain yet;"
            " start storage nodes first"
        )
    try:
        layout = yield from designing(free, wanted.replicas, wanted.spares, wanted.seed)
    except PlacementError:
        if not left_over:
            raise
        layout = Layout((), tuple(free))
    slots = yield from _slots(draft, left_over, layout, wanted)
    return ChainsPlan(wanted, left_over, layout, slots)


def put_rows(draft: Draft, rows: Sequence[Row], is_open: Open, chains: list[ChainId]) -> None:
    """Put chains into a draft, and add them to the list; PlacementError where one cannot be."""
    first = next_chain_id(draft)
    for index, row in enumerate(rows):
        for place in row:
            if not joinable(draft, place.target, is_open):
                raise PlacementError(
                    f"target {place.target} went away while chains were made: ask again"
                )
        chains.append(put_row(draft, row, first + index).id)


def put_table(draft: Draft, plan: ChainsPlan, chains: Sequence[ChainId]) -> dict[str, object]:
    """Put the slot table into a draft that has all of its chains; say how many there are."""
    assert len(chains) == len(plan.left_over) + len(plan.layout.rows)
    table = SlotTableId(max((table.id for table in draft.slot_tables.values()), default=0) + 1)
    slots = tuple(chains[number - 1] for number in plan.slots)
    draft.slot_tables[table] = SlotTable(table, slots)
    draft.replicas[table] = plan.wanted.replicas
    if DEFAULT_NAMESPACE not in draft.namespaces:
        policy = NamespacePolicy(DEFAULT_NAMESPACE, table, plan.wanted.replicas)
        draft.namespaces[DEFAULT_NAMESPACE] = policy
    spares = len(plan.layout.spares)
    return {"chains": len(chains), "spares": spares, "slot_table": table}


def _slots(
    draft: Draft, left_over: Sequence[ChainId], layout: Layout, wanted: Wanted
) -> Work[tuple[ChainId, ...]]:
    count = len(left_over) + len(layout.rows)
    if count > wanted.slots:
        raise PlacementError(
            f"{count} chains, and {wanted.slots} slots for them: ask for more slots"
        )
    rows = [[place.target for place in draft.chains[id].targets] for id in left_over]
    rows.extend([place.target for place in row] for row in layout.rows)
    weights: Mapping[ChainId, int] = {
        ChainId(number): weight_of(draft, row) for number, row in enumerate(rows, 1)
    }
    return (yield from assigning(even(weights), wanted.slots, wanted.seed))
