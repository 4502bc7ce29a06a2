"""mgmtd's core, as transcripts.

settings NAME=VALUE ...               of the cluster, before anything else
at MS, paused until MS                time passes; or passes while mgmtd does not run
register NODE [start N] [at ADDRESS] [rack R]: TARGET ...
                                      a target is ID, ID/UUID where its directory is not the one
                                      of its name, with + where it is not empty, and with @CLUSTER
beat NODE [start N] [knows VERSION]: TARGET LOCAL [of VERSION] [unsettled] [moves STATE], ...
                                      the chain's version unless one is named, and the newest
                                      routing info unless it says what it knows; how far it is with
                                      the last order that it got
leave NODE, disconnect NODE, suspect NODE, probed NODE OUTCOME
admin OPERATION NAME=VALUE ...        chains: shows the chains
hold, saved                           what is to be saved waits; it is saved
takeover                              another mgmtd becomes primary, with what was saved
"""

from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_OID, UUID, uuid5

import pytest
from scenarios.transcripts import replay, scenarios

from kvstore.cluster.delta import Delta
from kvstore.cluster.ids import ChainVersion, Epoch, NodeId, RoutingVersion, TargetId
from kvstore.cluster.leases import LeaseTerms
from kvstore.cluster.mgmtd.basis import basis_of
from kvstore.cluster.mgmtd.core import Core
from kvstore.cluster.mgmtd.draft import Proposal
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
    Save,
    Saved,
    Suspect,
    Tick,
)
from kvstore.cluster.mgmtd.ledger import Ledger, ledger_of
from kvstore.cluster.mgmtd.messages import (
    HeartbeatAnswer,
    MoveState,
    NodeRegistration,
    Order,
    TargetRegistration,
    TargetReport,
)
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.mgmtd.wire import encode_measures, encode_states
from kvstore.cluster.routing import NIL_UUID, Chain, RoutingInfo, problems_of
from kvstore.cluster.states import LocalState

FOLDER = Path(__file__).parent / "mgmtd"
NS_A_MS = 1_000_000
CLUSTER = uuid5(NAMESPACE_OID, "cluster")
REQUEST_MS = 5000
TICK_MS = 50
SHOWN = frozenset(("node failed", "node is back", "chains made", "was not running"))


class Cluster:
    """One core after another, a store that holds what they save, and a clock."""

    def __init__(self) -> None:
        self.settings = Settings(slots=4)
        self.now_ms = 0
        self.epoch = 1
        self.basis = basis_of(RoutingInfo(RoutingVersion(1), CLUSTER), Ledger())
        self.records: dict[bytes, bytes] = {}
        self.core: Core | None = None
        self.starts: dict[int, int] = {}
        self.probed: dict[int, int] = {}
        self.holding = False
        self.saving: Proposal | None = None
        self.ticket = 0
        self.orders: dict[int, Order] = {}

    def perform(self, line: str) -> Iterator[str]:
        words, _, rest = line.partition(": ")
        match words.removesuffix(":").split():
            case ["settings", *pairs]:
                self.configure(dict(pair.split("=") for pair in pairs))
            case ["at", now_ms]:
                yield from self.go_to(int(now_ms))
            case ["paused", "until", now_ms]:
                self.now_ms = int(now_ms)
                yield from self.step(Tick())
            case ["register", node, *more]:
                yield from self.register(NodeId(int(node)), options(more), rest)
            case ["beat", node, *more]:
                yield from self.beat(NodeId(int(node)), options(more), rest)
            case ["leave", node]:
                start = self.starts[int(node)]
                yield from self.step(Leave(self.next_ticket(), NodeId(int(node)), start))
            case ["disconnect", node]:
                yield from self.step(Disconnected(session(int(node), self.starts[int(node)])))
            case ["suspect", node]:
                yield from self.step(Suspect(NodeId(int(node)), None, "no answer"))
            case ["probed", node, outcome]:
                found = ProbeOutcome[outcome.upper()]
                start = self.probed[int(node)]
                yield from self.step(Probed(NodeId(int(node)), start, found))
            case ["admin", operation, *pairs]:
                given = {name: value_of(text) for name, text in (on.split("=") for on in pairs)}
                deadline_ns = (self.now_ms + REQUEST_MS) * NS_A_MS
                yield from self.step(Ask(self.next_ticket(), operation, given, deadline_ns))
            case ["chains"]:
                yield from (told(chain) for chain in self.basis.routing.chains.values())
            case ["hold"]:
                self.holding = True
            case ["saved"]:
                self.holding = False
                yield from self.save()
            case ["takeover"]:
                yield from self.take_over()
            case _:
                raise AssertionError(f"no such event: {line}")

    def go_to(self, now_ms: int) -> Iterator[str]:
        """Let time pass; mgmtd looks at the clock at every multiple of TICK_MS."""
        while self.now_ms < now_ms:
            self.now_ms = min(now_ms, self.now_ms - self.now_ms % TICK_MS + TICK_MS)
            if self.now_ms % TICK_MS == 0:
                lines = list(self.step(Tick()))
                if lines and self.now_ms != now_ms:
                    yield f"at {self.now_ms}"
                yield from lines

    def configure(self, given: dict[str, str]) -> None:
        numbers = {name: int(text) for name, text in given.items()}
        terms = {name: numbers.pop(name) for name in ("heartbeat_ms", "lease_ms") if name in given}
        self.settings = Settings(terms=LeaseTerms(**terms), **{"slots": 4, **numbers})

    def take_over(self) -> Iterator[str]:
        """Begin with what is stored, as records and routing info."""
        self.epoch += 1
        ledger = ledger_of(self.records.items())
        assert ledger == self.basis.ledger
        self.basis = basis_of(self.basis.routing, ledger)
        self.core, self.saving, self.holding = None, None, False
        yield from self.step(Tick())

    def register(self, id: NodeId, given: dict[str, str], rest: str) -> Iterator[str]:
        start = int(given.get("start", "1"))
        registration = NodeRegistration(
            id=id,
            incarnation=start,
            addresses=(given.get("at", f"node{id}:1"),),
            rack=given.get("rack", ""),
            targets=tuple(map(target_of, rest.split())),
        )
        deadline_ns = (self.now_ms + REQUEST_MS) * NS_A_MS
        came = given.get("from", "127.0.0.1")
        before = self.starts.get(id)
        self.starts[id] = start
        lines = list(
            self.step(
                Register(self.next_ticket(), session(id, start), registration, deadline_ns, came)
            )
        )
        if before is not None and any(line.startswith("refused") for line in lines):
            self.starts[id] = before
        yield from lines

    def beat(self, id: NodeId, given: dict[str, str], rest: str) -> Iterator[str]:
        start = int(given.get("start", self.starts[id]))
        knows = int(given.get("knows", self.basis.routing.version))
        reports = [self.report_of(text.split()) for text in rest.split(",") if text.strip()]
        yield from self.step(
            Beat(
                self.next_ticket(),
                session(id, start),
                id,
                start,
                knows,
                encode_states(reports),
                encode_measures(reports),
            )
        )

    def report_of(self, words: list[str]) -> TargetReport:
        target = TargetId(int(words[0]))
        chain = self.basis.chain_of.get(target)
        version = self.basis.routing.chains[chain].version if chain else ChainVersion(0)
        if "of" in words:
            version = ChainVersion(int(words[words.index("of") + 1]))
        local = LocalState[words[1].upper()]
        state = MoveState.NONE
        if "moves" in words:
            state = MoveState[words[words.index("moves") + 1].upper()]
        used_mib = capacity_mib = 0
        if "holds" in words:
            at = words.index("holds")
            used_mib, capacity_mib = int(words[at + 1]), int(words[at + 3])
        return TargetReport(
            target=target,
            local=local,
            chain_version=version,
            settled="unsettled" not in words,
            used_bytes=used_mib << 20,
            capacity_bytes=capacity_mib << 20,
            move=self.orders[target].id if state else 0,
            move_state=state,
        )

    def step(self, event: Event) -> Iterator[str]:
        if self.core is None:
            now_ns = self.now_ms * NS_A_MS
            self.core = Core(self.settings, Epoch(self.epoch), self.basis, now_ns)
        effects = self.core.step(event, self.now_ms * NS_A_MS)
        for effect in effects:
            yield from self.told(effect)
        if Continue() in effects:
            yield from self.step(Proceed())
        if self.saving is not None and not self.holding:
            yield from self.save()

    def save(self) -> Iterator[str]:
        """Store what is to be saved, and say so."""
        assert isinstance(self.saving, Proposal)
        proposal, self.saving = self.saving, None
        for key, value in proposal.records.items():
            if value is None:
                del self.records[key]
            else:
                self.records[key] = value
        self.basis = proposal.after
        yield from self.step(Saved())

    def told(self, effect: Effect) -> Iterator[str]:
        match effect:
            case Answer(_, HeartbeatAnswer() as answer):
                lease = f"lease {answer.lease_ms}" if answer.lease_ms else "no lease"
                retire = f", retire {list(answer.retire)}" if answer.retire else ""
                haste = ", haste" if answer.haste else ""
                yield f"{lease}, version {answer.routing_version}{retire}{haste}"
                for order in answer.orders:
                    self.orders[order.source] = order
                    yield (
                        f"{order.source} {order.flags.name or 'copy'} slots {list(order.slots)} to"
                        f" {order.target}, version {order.chain_version} of its chain"
                    )
            case Answer(_, result):
                yield "done" + (f": {result}" if isinstance(result, dict) else "")
            case Refuse(_, error):
                yield f"refused: {type(error).__name__}: {error}"
            case Save(proposal):
                assert self.saving is None
                self.saving = proposal
                if self.holding:
                    yield "save"
            case Publish(proposal):
                assert proposal.delta is not None
                assert proposal.after.routing == self.basis.routing
                assert not list(problems_of(proposal.after.routing))
                yield f"version {proposal.after.routing.version}"
                yield from changes_of(proposal.delta)
            case Probe(node, start, addresses):
                self.probed[node] = start
                yield f"probe {node} at {', '.join(addresses)}"
            case Note(text, about):
                if text in SHOWN:
                    yield ", ".join([text, *(f"{name} {value}" for name, value in about.items())])

    def next_ticket(self) -> int:
        self.ticket += 1
        return self.ticket


def options(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def session(node: int, start: int) -> int:
    return 1000 * node + start


def target_of(text: str) -> TargetRegistration:
    text, _, cluster = text.partition("@")
    empty = not text.endswith("+")
    id, _, uuid = text.removesuffix("+").partition("/")
    return TargetRegistration(
        id=TargetId(int(id)),
        uuid=uuid_of(uuid or id),
        empty=empty,
        cluster=uuid_of(cluster) if cluster else NIL_UUID if empty else CLUSTER,
    )


def uuid_of(name: str) -> UUID:
    return uuid5(NAMESPACE_OID, name)


def value_of(text: str) -> object:
    if text in ("yes", "no"):
        return text == "yes"
    return int(text) if text.isdecimal() else text


def told(chain: Chain) -> str:
    places = ", ".join(f"{place.target} {place.state.name.lower()}" for place in chain.targets)
    return f"chain {chain.id} version {chain.version}: {places}"


def changes_of(delta: Delta) -> Iterator[str]:
    for node in delta.nodes.values():
        yield f"  node {node.id} {node.state.name.lower()}, start {node.incarnation}"
    for target in delta.targets.values():
        yield f"  target {target.id} on node {target.node}"
    for chain in delta.chains.values():
        yield f"  {told(chain)}"
    for table in delta.slot_tables.values():
        yield f"  slot table {table.id}: {list(table.chains)}"
    for policy in delta.namespaces.values():
        yield f"  namespace {policy.name} on slot table {policy.slot_table}"
    removals = {
        "node": delta.removed_nodes,
        "target": delta.removed_targets,
        "chain": delta.removed_chains,
    }
    for name, removed in removals.items():
        yield from (f"  {name} {id} is forgotten" for id in sorted(removed))


@pytest.mark.parametrize("path", scenarios(FOLDER), ids=lambda path: path.stem)
def test_the_transcript_comes_out_as_written(path: Path) -> None:
    text = path.read_text()

    assert text == replay(text, Cluster().perform)
