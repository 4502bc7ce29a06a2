"""mgmtd's decisions: what happens goes in, what is to be done comes out. Pure.

    event ──► facts ──► draft ──► Save ──► stored ──► Saved ──► Publish, answers ──► the next draft
              (members) (routing info, ledger)

Facts (who was heard, what was said) change at once. What is stored changes by one proposal at a
time, which holds everything that was due when it was made; what happens meanwhile is in the next.
A request that changes something is answered when that is stored and published.

What always holds:
1. Nothing is published, and no request answered, before it is stored.
2. A target is taken for dead only when its node's lease has run out, its process is known to be
   gone, or the node has said that it does not serve.
3. A node that was found dead gets a lease only when it names routing info that says so.
4. Of two starts of one node the later one joins when the earlier one is dead, never before.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice

from kvstore.cluster.ids import ChainId, Epoch, NodeId, TargetId
from kvstore.cluster.leases import NS_A_MS
from kvstore.cluster.mgmtd.admin import CREATE_CHAINS, READING, operate, wanted_chains
from kvstore.cluster.mgmtd.basis import Basis
from kvstore.cluster.mgmtd.challengers import Challengers, behind, late, refused
from kvstore.cluster.mgmtd.doubts import Doubts
from kvstore.cluster.mgmtd.draft import Draft, Proposal
from kvstore.cluster.mgmtd.events import (
    Answer,
    Ask,
    Beat,
    Continue,
    Disconnected,
    Effect,
    Event,
    Leave,
    Note,
    Probe,
    Probed,
    ProbeOutcome,
    Proceed,
    Publish,
    Refuse,
    Register,
    Registered,
    Save,
    Saved,
    Suspect,
    Tick,
)
from kvstore.cluster.mgmtd.forming import Forming
from kvstore.cluster.mgmtd.judging import judge_chains, judge_nodes, matters
from kvstore.cluster.mgmtd.ledger import MoveKey, blocked
from kvstore.cluster.mgmtd.members import NO_SESSION, Member, Members
from kvstore.cluster.mgmtd.messages import HeartbeatAnswer, TargetReport
from kvstore.cluster.mgmtd.registration import check_loopback, register_node, settle_identity
from kvstore.cluster.mgmtd.repair import Repair, retiring
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.mgmtd.situation import Situation
from kvstore.cluster.mgmtd.slot_moves import NOTHING_TOLD, Moving, told
from kvstore.cluster.mgmtd.spares import Open
from kvstore.cluster.mgmtd.unsettled import Unsettled
from kvstore.cluster.mgmtd.wire import decode_states
from kvstore.cluster.states import LocalState, NodeState
from kvstore.cluster.transitions import NO_REPORT, Report
from kvstore.errors import BusyError, KVStoreError, NotRegisteredError

QUEUE_MAX = 4096
"""Requests that wait for a proposal; more are refused."""
CHAINS_A_STEP = 500
"""That are judged at once, beside those of nodes that were found dead just now."""
PAUSE_MS = 500
"""Between two ticks: longer, and mgmtd itself was not running, so that silence proves nothing."""
REPAIR_MS = 1000
"""Between two looks at what has been out of order for long."""


class Core:
    """The state of a primary."""

    def __init__(self, settings: Settings, epoch: Epoch, basis: Basis, now_ns: int) -> None:
        """Begin a primary's time with what was stored."""
        self.settings = settings
        self.epoch = epoch
        self.basis = basis
        self.members = Members(settings.terms, basis.routing.nodes, now_ns)
        self._begun_ns = self._ticked_ns = now_ns
        for member in self.members:
            member.fence = basis.routing.version if member.dead else 0
        self._requests: deque[Register | Leave | Ask] = deque()
        self._challengers = Challengers()
        self._doubts = Doubts()
        self._saving: Proposal | None = None
        self._answers: list[Effect] = []
        self._blocked: set[TargetId] = set(blocked(basis.ledger))
        self._unsettled = Unsettled(basis, now_ns)
        self._dirty: set[ChainId] = set(self._unsettled.chains)  # in no other may anything change
        self._retiring: dict[NodeId, tuple[TargetId, ...]] = {}
        self._judge_due = True
        self._repair_due = True
        self._repaired_ns = now_ns
        self._effects: list[Effect] = []
        self._forming = Forming()
        self._moving_due = True
        self._moving_since_ns: dict[MoveKey, int] = {}
        self._find_retiring()

    def step(self, event: Event, now_ns: int) -> list[Effect]:
        """Take an event, and return what is to be done, in this order."""
        self._effects = []
        match event:
            case Beat():
                self._on_beat(event, now_ns)
            case Register():
                self._on_register(event, now_ns)
            case Leave() | Ask():
                self._on_request(event, now_ns)
            case Suspect():
                self._on_suspect(event, now_ns)
            case Probed():
                self._on_probed(event, now_ns)
            case Disconnected():
                self._on_disconnected(event, now_ns)
            case Saved():
                self._on_saved(now_ns)
            case Tick():
                self._on_tick(now_ns)
            case Proceed():
                self._effects.extend(self._forming.advance())
        self._advance(now_ns)
        return self._effects

    # Facts.

    def _on_beat(self, event: Beat, now_ns: int) -> None:
        member = self.members.get(event.node)
        if member is None or member.incarnation != event.incarnation:
            error = NotRegisteredError(f"node {event.node}: this start of it is not registered")
            self._effects.append(Refuse(event.ticket, error))
            return
        try:
            self._take_reports(member, event)
        except KVStoreError as error:
            self._effects.append(Refuse(event.ticket, error))
            return
        self.members.bind(member, event.session)
        member.heard, member.heard_ns = True, now_ns
        self._doubts.settle(member.id)
        member.measures = event.measures
        beat_ns = self.settings.terms.heartbeat_ms * NS_A_MS
        node = self.basis.routing.nodes.get(member.id)
        if node is not None:
            self._effects.extend(self._challengers.earlier_lives(node, beat_ns, now_ns))
        lease_ms = 0
        if self._may_serve(member, event.routing_version):
            lease_ms = self.settings.terms.lease_ms
            member.lease_end_ns = self.settings.terms.mgmtd_end_ns(now_ns)
            if member.dead:
                self._revive(member)
        retire = self._retiring.get(member.id, ())
        version = self.basis.routing.version
        moves = NOTHING_TOLD
        if self.basis.ledger.slot_moves and lease_ms:
            self._moving_due = True
            moves = told(Draft(self.basis), member.id, partial(self._said, now_ns=now_ns))
        answer = HeartbeatAnswer(self.epoch, version, lease_ms, retire, moves.orders, moves.haste)
        self._effects.append(Answer(event.ticket, answer))

    def _take_reports(self, member: Member, event: Beat) -> None:
        """Note what a node says of its targets, and which chains that may change."""
        if event.states == member.states and member.heard:
            return
        reports = decode_states(event.states)
        for target in member.reports.keys() | reports.keys():
            before, after = member.reports.get(target), reports.get(target)
            if before != after and matters(self.basis, target, before, after):
                self._touch(target)
        member.reports, member.states = reports, event.states

    def _may_serve(self, member: Member, routing_version: int) -> bool:
        node = self.basis.routing.nodes.get(member.id)
        if node is None or node.state is NodeState.DISABLED:
            return False
        return routing_version >= member.fence and self.basis.routing.version >= member.fence

    def _revive(self, member: Member) -> None:
        self.members.revive(member)
        self._judge_due = True
        for target in member.reports:
            self._touch(target)

    def _on_suspect(self, event: Suspect, now_ns: int) -> None:
        member = self.members.get(event.node)
        if member is None or member.dead:
            return
        member.suspicions += 1
        self._effects.append(
            Note("suspected", {"node": event.node, "target": event.target, "why": event.why[:200]})
        )
        if self._doubts.add(member, now_ns):
            self._probe(member, now_ns)

    def _probe(self, member: Member, now_ns: int) -> None:
        node = self.basis.routing.nodes.get(member.id)
        if node is None or member.probing:
            return
        member.probing, member.probed_ns = True, now_ns
        self._effects.append(Probe(member.id, member.incarnation, node.addresses))

    def _on_probed(self, event: Probed, now_ns: int) -> None:
        member = self.members.get(event.node)
        if member is None or member.incarnation != event.incarnation:
            return
        member.probing = False
        if event.outcome is not ProbeOutcome.REFUSED or not member.alive(now_ns):
            return
        self._doubts.settle(member.id)
        if member.session != NO_SESSION:
            # It does not listen, yet its process holds a connection: when that ends, it is asked
            # again. Until then only its lease tells.
            what = "refuses connections, but is connected"
            self._effects.append(Note(what, {"node": member.id}, warning=True))
            return
        self._gone(member, "its process is gone")

    def _gone(self, member: Member, why: str) -> None:
        self.members.gone(member, why)
        self._judge_due = True

    def _on_disconnected(self, event: Disconnected, now_ns: int) -> None:
        for member in self.members.disconnected(event.session):
            if member.alive(now_ns):
                self._doubts.add(member, now_ns)
                self._probe(member, now_ns)

    def _on_tick(self, now_ns: int) -> None:
        if now_ns - self._ticked_ns >= PAUSE_MS * NS_A_MS:
            self._effects.append(Note("was not running", warning=True))
            self.members.extend(self._ticked_ns, self.settings.terms.mgmtd_end_ns(now_ns))
        self._ticked_ns = now_ns
        for member in self._doubts.due(self.members, now_ns):
            self._probe(member, now_ns)
        unformed = self.settings.expected_nodes and not self.basis.routing.slot_tables
        self._judge_due |= bool(unformed) or self.members.due(now_ns)
        self._repair_due |= now_ns - self._repaired_ns >= REPAIR_MS * NS_A_MS
        if now_ns >= self._begun_ns + 2 * self.settings.terms.heartbeat_ms * NS_A_MS:
            for member in self.members:
                # Whoever died with the primary before has nobody who noticed.
                if not member.heard and member.alive(now_ns) and not member.probed_ns:
                    self._probe(member, now_ns)

    # Requests.

    def _on_register(self, event: Register, now_ns: int) -> None:
        id, incarnation = event.registration.id, event.registration.incarnation
        node, member = self.basis.routing.nodes.get(id), self.members.get(id)
        if node is not None and incarnation < node.incarnation:
            self._effects.extend(behind(event, node))
        elif member is None or member.incarnation == incarnation or not member.alive(now_ns):
            self._on_request(event, now_ns)
        else:
            self._effects.extend(self._challengers.add(event, now_ns))
            if member.session != NO_SESSION:
                return
            if node is not None and set(node.addresses) <= set(event.registration.addresses):
                self._gone(member, "a later start of it listens at its addresses")
            else:
                self._probe(member, now_ns)

    def _on_request(self, event: Register | Leave | Ask, now_ns: int) -> None:
        if isinstance(event, Ask) and event.operation in READING:
            try:
                situation = self._situation(Draft(self.basis), now_ns)
                result = operate(situation, event.operation, event.parameters)
                self._effects.append(Answer(event.ticket, result))
            except KVStoreError as error:
                self._effects.append(Refuse(event.ticket, error))
        elif len(self._requests) >= QUEUE_MAX:
            busy = BusyError(f"{QUEUE_MAX} requests wait for mgmtd: try again later")
            self._effects.append(Refuse(event.ticket, busy))
        else:
            self._requests.append(event)

    # Proposals.

    def _advance(self, now_ns: int) -> None:
        """Propose everything that is due, unless a proposal is on its way."""
        for event in self._admitted(now_ns):
            self._on_request(event, now_ns)
        due = (
            self._requests
            or self._dirty
            or self._judge_due
            or self._repair_due
            or self._forming.planned
            or (self._moving_due and self.basis.ledger.slot_moves)
        )
        if self._saving is not None or not due:
            return
        draft = Draft(self.basis)
        self._take_requests(draft, now_ns)
        self._judge_due = False
        fenced, effects = judge_nodes(draft, self.members.to_judge(now_ns), now_ns)
        self._effects.extend(effects)
        self._judge_chains(draft, fenced, now_ns)
        self._form_chains(draft, now_ns)
        if self._repair_due:
            self._repair(draft, now_ns)
        self._moving_due = False
        Moving(draft, partial(self._said, now_ns=now_ns), self._moving_since_ns, now_ns).run()
        proposal = draft.finish()
        routing = self.basis.routing if proposal is None else proposal.after.routing
        for member in fenced:
            member.fence = routing.version
        if proposal is None:
            self._effects.extend(self._answers)
            self._answers = []
        else:
            self._saving = proposal
            self._effects.append(Save(proposal))

    def _on_saved(self, now_ns: int) -> None:
        assert self._saving is not None
        proposal, self._saving = self._saving, None
        self.basis = proposal.after
        self._unsettled.follow(proposal, now_ns)
        if proposal.delta is not None:
            self._effects.append(Publish(proposal))
            self._dirty |= proposal.delta.chains.keys() & proposal.after.routing.chains.keys()
            for id in proposal.delta.removed_nodes:
                self.members.remove(id)
        self._repair_due = self._moving_due = True
        self._find_retiring()
        self._effects.extend(self._answers)
        self._answers = []

    def _admitted(self, now_ns: int) -> list[Register]:
        """Return the later starts of nodes whose earlier one is dead."""

        is_alive = partial(self._is_alive, now_ns=now_ns)
        registers, effects = self._challengers.admitted(is_alive, now_ns)
        self._effects.extend(effects)
        return registers

    def _take_requests(self, draft: Draft, now_ns: int) -> None:
        while self._requests and not draft.full:
            event = self._requests.popleft()
            if not isinstance(event, Leave) and now_ns >= event.deadline_ns:
                self._effects.append(late(event.ticket))
                continue
            take_back = draft.mark()
            try:
                self._take(draft, event, now_ns)
            except KVStoreError as error:
                take_back()
                if isinstance(event, Register):
                    self._effects.extend(refused(event, str(error)))
                else:
                    self._effects.append(Refuse(event.ticket, error))

    def _take(self, draft: Draft, event: Register | Leave | Ask, now_ns: int) -> None:
        match event:
            case Register():
                self._take_register(draft, event, now_ns)
            case Leave(ticket, id, incarnation):
                member = self.members.get(id)
                if member is not None and member.incarnation == incarnation:
                    self.members.gone(member, "it said that it leaves")
                self._answers.append(Answer(ticket, None))
            case Ask(ticket, operation, parameters) if operation == CREATE_CHAINS:
                wanted = wanted_chains(self.settings, parameters)
                known, is_open = self._known(now_ns)
                self._forming.begin(known, wanted, is_open, ticket)
                self._effects.extend(self._forming.advance())
            case Ask(ticket, operation, parameters):
                result = operate(self._situation(draft, now_ns), operation, parameters)
                self._effects.append(Note("operated", {"operation": operation, **parameters}))
                self._answers.append(Answer(ticket, result))

    def _take_register(self, draft: Draft, event: Register, now_ns: int) -> None:
        registration = event.registration
        register_node(draft, registration, partial(self._is_alive, now_ns=now_ns))
        check_loopback(registration, event.comes_from)
        self._answers.append(Answer(event.ticket, Registered()))
        known = self.members.get(registration.id)
        if known is not None and known.incarnation == registration.incarnation:
            self.members.bind(known, event.session)
            return
        end_ns = self.settings.terms.mgmtd_end_ns(now_ns)
        member = Member(registration.id, registration.incarnation, end_ns, heard=True)
        member.heard_ns, member.fence = now_ns, draft.version
        self.members.add(member)
        self.members.bind(member, event.session)
        for target in registration.targets:
            self._blocked.discard(target.id)
            if draft.identities[target.id].replaced_by is not None:
                self._blocked.add(target.id)
        self._touch_node(member.id)
        about = {"node": member.id, "addresses": registration.addresses}
        self._effects.append(Note("node registered", about))

    def _form_chains(self, draft: Draft, now_ns: int) -> None:
        """Begin with the first chains where they are due, and put what is planned."""
        if self.settings.expected_nodes and not self.basis.routing.slot_tables:
            known, is_open = self._known(now_ns)
            if self._forming.begin_first(known, self.settings, is_open):
                self._effects.extend(self._forming.advance())
        is_open = partial(self._open, draft, now_ns=now_ns)
        answers, effects = self._forming.put(draft, is_open)
        self._answers.extend(answers)
        self._effects.extend(effects)

    def _judge_chains(self, draft: Draft, fenced: Iterable[Member], now_ns: int) -> None:
        """Judge the chains of who was found dead, and as many others as a step may."""
        found = {chain for member in fenced for chain in self._chains_on(member.id)}
        found.update(islice(self._dirty, CHAINS_A_STEP))
        self._dirty -= found
        if self._dirty:
            self._effects.append(Continue())
        report = partial(self._report, draft, now_ns=now_ns)
        self._effects.extend(judge_chains(draft, found, report, now_ns))
        for target in sorted(self._blocked):
            if not settle_identity(draft, target):
                self._blocked.discard(target)
                self._touch(target)

    def _repair(self, draft: Draft, now_ns: int) -> None:
        self._repair_due = False
        self._repaired_ns = now_ns
        Repair(
            draft,
            partial(self._open, draft, now_ns=now_ns),
            unsettled=self._unsettled.chains,
            wanted=self._unsettled.wanted(),
            overdue=self._unsettled.overdue(self.settings.spare_after_ms, now_ns),
            copies_max=self.settings.copies_max,
            used=self.members.used,
        ).run()

    # What follows from what is in force.

    def _known(self, now_ns: int) -> tuple[Draft, Open]:
        """Return what is in force, to be read."""
        draft = Draft(self.basis)
        return draft, partial(self._open, draft, now_ns=now_ns)

    def _is_alive(self, node: NodeId, now_ns: int) -> bool:
        member = self.members.get(node)
        return member is not None and member.alive(now_ns)

    def _situation(self, draft: Draft, now_ns: int) -> Situation:
        return Situation(
            draft=draft,
            settings=self.settings,
            epoch=self.epoch,
            members=self.members,
            is_open=partial(self._open, draft, now_ns=now_ns),
            said=partial(self._said, now_ns=now_ns),
            wanted=self._unsettled.wanted(),
            blocked=frozenset(self._blocked),
            retiring=self._retiring,
            now_ns=now_ns,
        )

    def _report(self, draft: Draft, target: TargetId, now_ns: int) -> Report:
        on = draft.targets.get(target)
        member = self.members.get(on.node) if on else None
        if member is None or target in self._blocked:
            return NO_REPORT
        return member.report(target, now_ns)

    def _said(self, target: TargetId, now_ns: int) -> TargetReport | None:
        """Return the last word of a target's node, while that is alive."""
        on = self.basis.routing.targets.get(target)
        member = self.members.get(on.node) if on else None
        alive = member is not None and member.alive(now_ns)
        return member.reports.get(target) if member and alive else None

    def _open(self, draft: Draft, target: TargetId, now_ns: int) -> bool:
        """Say whether a target has been reported to be open by a node that is alive."""
        report = self._report(draft, target, now_ns)
        return report.alive(now_ns) and report.local is not LocalState.UNKNOWN

    def _find_retiring(self) -> None:
        self._retiring = retiring(Draft(self.basis)) if self.basis.ledger.leaving else {}

    def _touch(self, target: TargetId) -> None:
        chain = self.basis.chain_of.get(target)
        if chain is not None:
            self._dirty.add(chain)

    def _touch_node(self, node: NodeId) -> None:
        """Have the chains of a node's targets judged again."""
        self._dirty.update(self._chains_on(node))

    def _chains_on(self, node: NodeId) -> Iterator[ChainId]:
        chains = map(self.basis.chain_of.get, self.basis.targets_on.get(node, ()))
        return (chain for chain in chains if chain is not None)
