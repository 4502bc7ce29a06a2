"""One seed's cluster, from its start to its rest: faults, then healing, then checks.

What is checked, by its number in the promises: one order explains what clients saw (P1), nothing
acknowledged is lost (P2), nothing happens twice (P3), who lost its place has no lease (P4), chains
that no fault touches do not wait (P5), every byte is what was written (P6), replicas are equal in
the end (P7). And it comes to rest: when faults stop, every operation ends and every chain returns
to full strength.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random

from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.routing import RoutingInfo
from kvstore.cluster.rpc.service import Peer
from kvstore.cluster.states import PublicState
from kvstore.types import NodeEventKind
from simulator.faults import Injector
from simulator.library import Foreign, interface, library
from simulator.metadata import StoreState
from simulator.nodes import MgmtdProcess, StorageNode
from simulator.plan import Plan
from simulator.virtual import NOBODY, NumberedTask, Process, VirtualLoop
from simulator.wires import Decoder, Reached, Wires

FORM_WITHIN_S = 20.0
REST_WITHIN_S = 40.0
LOOK_S = 0.1
NOBODY_ANSWERS_S = 0.05
STALL_MS_MAX = 2000
GIVE_UP_MS = 2500
BOUND_LEASES = 3
BOUND_S = 2.5
"""How long after the end of a fault a chain that it touched may be slow, beside some leases."""
NS = 1_000_000_000
TALLY = (
    "events",
    "operations",
    "items",
    "unknown",
    "dirty",
    "refusals",
    "synced_keys",
    "kills",
    "power_cuts",
    "device_writes",
    "excused_reads",
    "damaged_values",
    "repaired_values",
    "undisturbed",
)


@dataclass(slots=True)
class Result:
    """What came of a seed."""

    seed: int
    failure: str = ""
    trace: int = 0
    time_s: float = 0.0
    latency_max_ms: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


class Failed(Exception):
    """A promise was broken."""


class Observer(Peer):
    """Sees what a primary publishes, at once."""

    def __init__(self, published: Callable[[], None]) -> None:
        """Call it at each version."""
        self.name = "observer"
        self._published = published

    def __hash__(self) -> int:
        """Be the last of all."""
        return 1 << 30

    @property
    def stalled(self) -> bool:
        """Whether it does not take what is sent."""
        return False

    def push(self, subscription: int, news: object) -> None:
        """Take a version."""
        self._published()

    def abort(self) -> None:
        """Do nothing."""


class Cluster:
    """Everything there is in one seed."""

    def __init__(self, plan: Plan, talks: bool = False) -> None:
        """Build it; nothing runs yet."""
        self.plan = plan
        self.talks = talks
        self.result = Result(plan.seed)
        self.lib = library()
        self.world: Foreign = self.lib.sim_open(_options(plan, talks))
        self._effect = interface().new("sim_effect *")
        NumberedTask.numbers = count(1)
        self.loop = VirtualLoop(self._advance)
        self.wires = Wires(self.loop, Random(f"{plan.seed} wires"))
        self.state = StoreState(Random(f"{plan.seed} store"))
        self._random = Random(f"{plan.seed} cluster")
        numbers = count(1)
        self.peer_number = lambda: next(numbers)
        self.buried: list[Process] = []
        self.routing = RoutingInfo()
        self.mgmtds: list[MgmtdProcess] = []
        reached: list[Reached] = []
        decoder = Decoder()
        self.nodes = [
            StorageNode(self.world, number, plan.targets_per_node, self.wires, reached, decoder)
            for number in range(plan.nodes)
        ]
        for number in range(2):
            mgmtd = MgmtdProcess(
                number,
                self.state,
                _settings(plan),
                plan.primary_lease_s,
                self.wires,
                reached,
                self._listens,
                self.say,
                self.loop.time,
            )
            self.mgmtds.append(mgmtd)
            reached.append(mgmtd)
        self._learned: list[int] = [0] * plan.clients
        self._asking: list[int] = []
        """Clients, in the order in which they asked."""
        self._telling = False

    # The world.

    def _advance(self, until_s: float) -> float:
        """Let the data plane go on; what it tells is dealt with before time goes on."""
        effect = self._effect
        now_ns: int = self.lib.sim_run(self.world, int(until_s * NS) + 1, effect)
        if effect.kind != 0:
            self.loop.call_soon(
                self._hear, effect.kind, effect.actor, effect.target, context=NOBODY
            )
        return now_ns / NS

    def _hear(self, kind: int, actor: int, target: int) -> None:
        lib = self.lib
        if kind == lib.SIM_ASK:
            self._on_ask(actor)
        elif kind == lib.SIM_SYNCED:
            self.nodes[actor].hear(NodeEventKind.SYNCED, target, "it lacks nothing")
        elif kind == lib.SIM_LOST:
            self.nodes[actor].hear(NodeEventKind.PEER_LOST, target, "it cannot be reached")
        elif kind == lib.SIM_OFFLINE:
            self.nodes[actor].hear(NodeEventKind.TARGET_OFFLINE, target, "it failed")
        elif kind == lib.SIM_DIED:
            self.bury(self.nodes[actor])

    def now_ns(self) -> int:
        """Return the time."""
        return int(self.lib.sim_now(self.world))

    def say(self, who: str, what: str, about: dict[str, object]) -> None:
        """Take a line of somebody's log."""
        if what == "primary":
            self._observe()
        if self.talks:
            said = " ".join(f"{key}={value}" for key, value in about.items())
            print(f"{self.loop.time():12.6f}  {who}: {what} {said}", flush=True)

    # Routing info.

    def _observe(self) -> None:
        for mgmtd in self.mgmtds:
            reign = mgmtd.mgmtd.reign
            if reign is not None and not reign.over.done() and not mgmtd.process.dead:
                observer = Observer(lambda feed=reign.feed: self._on_published(feed.routing))  # type: ignore[misc]
                reign.feed.subscribe(observer, 1, reign.feed.routing.cluster, 0)

    def _on_published(self, routing: RoutingInfo) -> None:
        """Mark what changed; whoever lost its place may not serve any more (P4)."""
        before, self.routing = self.routing, routing
        self._tell_after(0.0002 + self._random.random() * 0.002)
        self.lib.sim_mark(self.world, b"published", routing.version)
        for id, chain in routing.chains.items():
            old = before.chains.get(id)
            if old is None or old.version == chain.version:
                continue
            self.result.counts["changes"] += 1
            serving = chain.in_state(PublicState.SERVING)
            for target in old.in_state(PublicState.SERVING):
                if target not in serving:
                    self.lib.sim_check_fenced(self.world, target)

    def _on_ask(self, client: int) -> None:
        self._asking.append(client)
        self._tell_after(0.0002 + self._random.random() * 0.002)

    def _tell_after(self, delay_s: float) -> None:
        if self._asking and not self._telling:
            self._telling = True
            self.loop.call_later(delay_s, self._tell, context=NOBODY)

    def _tell(self) -> None:
        """Tell who asked what the primary says; who knows all of that is told the next version."""
        self._telling = False
        for mgmtd in self.mgmtds:
            reign = mgmtd.mgmtd.reign
            there = mgmtd.listening() and self.loop.time() >= mgmtd.process.paused_until_s
            if there and reign is not None and reign.primary.alive():
                routing = reign.feed.routing
                self._asking = [each for each in self._asking if not self._teach(each, routing)]
                return
        self._tell_after(NOBODY_ANSWERS_S)

    def _teach(self, client: int, routing: RoutingInfo) -> bool:
        if routing.version <= self._learned[client]:
            return False
        self._learned[client] = routing.version
        for id, chain in routing.chains.items():
            serving = list(chain.in_state(PublicState.SERVING))
            self.lib.sim_client_learn(self.world, client, id, chain.version, serving, len(serving))
        return True

    # Processes.

    def _listens(self, address: str) -> bool:
        number = int(address.split(":")[0].rsplit(".", 1)[1]) - 1
        return self.nodes[number].running

    def start(self, node: StorageNode) -> None:
        """Start a node; it may not open when its device fails or is full, and is tried again."""
        if node.running:
            return
        if node.start(self.say, self.peer_number) > 0 and not self.result.faults.keys() & {
            "device read error",
            "device write error",
            "device flush error",
            "device full",
        }:
            raise Failed(f"a target of {node.name} does not open")

    def bury(self, node: StorageNode) -> None:
        """Take note that a node's process is gone in the world; it starts again soon."""
        process = node.die()
        if process is None:
            return
        self.buried.append(process)
        self.loop.call_later(0.01 + node.down_s, self._start_due, node, context=NOBODY)

    def _start_due(self, node: StorageNode) -> None:
        try:
            self.start(node)
        except Failed as failure:
            self.result.failure = self.result.failure or str(failure)

    def kill(self, node: StorageNode, power: bool, down_s: float) -> None:
        """Kill a node's process."""
        if not node.running:
            return
        node.down_s = down_s
        self.lib.sim_node_kill(self.world, node.number, power)
        self.bury(node)

    def restart_failed(self) -> None:
        """Do what operators do: start nodes again whose targets are offline."""
        for node in self.nodes:
            rows = interface().new("kv_chain_state[]", self.plan.targets_per_node)
            found = self.lib.sim_node_chain_states(
                self.world, node.number, rows, self.plan.targets_per_node
            )
            if node.running and any(rows[i].error != 0 for i in range(found)):
                self.kill(node, power=False, down_s=0.1)

    # One life.

    def run(self) -> Result:
        """Live it."""
        try:
            self.loop.run(self._live())
        except Failed as failure:
            self.result.failure = self.result.failure or str(failure)
        self._count()
        self._end()
        self.lib.sim_close(self.world)
        return self.result

    async def _live(self) -> None:
        for mgmtd in self.mgmtds:
            mgmtd.start()
        for node in self.nodes:
            self.start(node)
        await self._until(self._formed, FORM_WITHIN_S, "the cluster does not form")
        for client in range(self.plan.clients):
            self._teach(client, self.routing)
        self.lib.sim_begin(self.world)
        injector = Injector(self)
        await injector.run()
        self._heal(injector)
        await self._until(self._rests, REST_WITHIN_S, "it does not come to rest")
        for chain in self.routing.chains.values():
            targets = [place.target for place in chain.targets]
            self.lib.sim_check_equal(self.world, targets, len(targets))
        self.lib.sim_check_history(self.world)
        self.look()

    async def _until(self, done: Callable[[], bool], within_s: float, failure: str) -> None:
        end_s = self.loop.time() + within_s
        while not done():
            self.look()
            if self.loop.time() > end_s:
                raise Failed(f"{failure}: {self.describe()}")
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Raise what was found so far."""
        said = interface().string(self.lib.sim_failure(self.world)).decode()
        if self.loop.failures:
            said = said or self.loop.failures[0]
        for process in [node.process for node in self.nodes] + [
            mgmtd.process for mgmtd in self.mgmtds
        ]:
            said = said or (process.failure if process is not None else "")
        if said or self.result.failure:
            raise Failed(said or self.result.failure)

    def _formed(self) -> bool:
        chains = self.routing.chains
        return len(chains) == self.plan.chains and self._full()

    def _full(self) -> bool:
        return all(
            len(chain.in_state(PublicState.SERVING)) == len(chain.targets)
            for chain in self.routing.chains.values()
        )

    def _rests(self) -> bool:
        self.restart_failed()
        return self._full() and bool(self.lib.sim_is_quiet(self.world))

    def _heal(self, injector: Injector) -> None:
        injector.heal()
        self.lib.sim_heal(self.world)
        self.wires.heal()

    def describe(self) -> str:
        """Say who waits for what."""
        text = interface().new("char[]", 1024)
        self.lib.sim_describe(self.world, text, 1024)
        chains = " ".join(
            f"chain {id} v{chain.version}:"
            + ",".join(f"{place.target}={place.state.name}" for place in chain.targets)
            for id, chain in self.routing.chains.items()
            if len(chain.in_state(PublicState.SERVING)) < len(chain.targets)
        )
        said: str = interface().string(text).decode()
        return said + chains

    def _count(self) -> None:
        tally = interface().new("sim_tally *")
        self.lib.sim_tally_read(self.world, tally)
        for name in TALLY:
            self.result.counts[name] += getattr(tally, name)
        self.result.latency_max_ms = tally.latency_max_ns / 1e6
        self.result.trace = int(self.lib.sim_trace(self.world))
        self.result.time_s = self.loop.time()

    def _end(self) -> None:
        """Cancel what still runs: nothing of it is heard any more."""
        self.state.closed = True
        processes = self.buried + [mgmtd.process for mgmtd in self.mgmtds]
        processes += [node.process for node in self.nodes if node.process is not None]
        self.loop.end(processes)

    # Faults.

    def disturb(self, nodes: list[int], lasts_s: float) -> None:
        """Allow operations on these nodes' chains to take long."""
        touched = 0
        for id, chain in self.routing.chains.items():
            if any(self.routing.targets[place.target].node - 1 in nodes for place in chain.targets):
                touched |= 1 << (id - 1)
        bound_s = lasts_s + BOUND_S + BOUND_LEASES * self.plan.terms.lease_ms / 1000
        self.lib.sim_disturb(self.world, touched, self.now_ns() + int(bound_s * NS))


def _settings(plan: Plan) -> Settings:
    return Settings(
        terms=plan.terms,
        expected_nodes=plan.nodes,
        expected_targets=plan.nodes * plan.targets_per_node,
        replicas=plan.replicas,
        slots=64,
        seed=plan.seed & 0xFFFF,
        spare_after_ms=0,
    )


def _options(plan: Plan, talks: bool) -> Foreign:
    work_us = plan.work_s * 1e6
    options = interface().new("sim_options *")
    options.seed = plan.seed
    options.nodes = plan.nodes
    options.targets_per_node = plan.targets_per_node
    options.clients = plan.clients
    options.chains = plan.chains
    options.keys = plan.keys
    options.batch_max = plan.batch_max
    options.updates_percent = plan.updates_percent
    options.deletes_percent = plan.deletes_percent
    options.value_size_max = plan.value_size_max
    options.operations = plan.operations
    options.think_us = int(work_us * plan.clients / plan.operations * 4)
    options.durability = plan.durability
    options.memory_size = plan.memory_size
    options.capacity = plan.capacity
    options.margin = plan.margin
    options.reorder = plan.reorder
    options.tear = plan.tear
    options.stall_ms_max = STALL_MS_MAX
    options.give_up_ms = GIVE_UP_MS
    options.patience_ms = plan.patience_ms
    options.receive_us = plan.receive_us
    options.talks = talks
    return options
