"""Simulated processes of the cluster: storage nodes with the production agent over the C core, and
mgmtds with the production server.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast
from uuid import UUID

from kvstore.addresses import Address
from kvstore.cluster.ids import NodeId, TargetId
from kvstore.cluster.mgmtd.messages import NodeRegistration, TargetRegistration
from kvstore.cluster.mgmtd.server import Mgmtd
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.cluster.routing import NIL_UUID
from kvstore.node.agent import Agent
from kvstore.types import ChainPlace, ChainState, NodeEvent, NodeEventKind, SlotMoveOrder
from simulator.library import Foreign, interface, library
from simulator.metadata import SimulatedStore, StoreState
from simulator.virtual import Process
from simulator.wires import (
    SECRET,
    Decoder,
    Reached,
    SimulatedNetwork,
    SimulatedPrimary,
    SimulatedService,
    Wires,
)

if TYPE_CHECKING:
    from kvstore.node.log import Log

TARGETS_PER_NODE = 4
"""SIM_TARGETS_PER_NODE: how targets are numbered."""
PORT = 7000

Say = Callable[[str, str, dict[str, object]], None]
"""Takes who, what, and about what."""


class Lines:
    """Implements Log."""

    def __init__(self, who: str, say: Say) -> None:
        """Pass lines on."""
        self._who = who
        self._say = say

    def info(self, event: str, **about: object) -> None:
        """Write a line."""
        self._say(self._who, event, about)

    warning = info

    def error(self, event: str, **about: object) -> None:
        """Write a line; a bug is one that ends the seed."""
        self._say(self._who, f"error: {event}", about)


def target_number(node: int, index: int) -> int:
    """Return the number of a node's target."""
    return node * TARGETS_PER_NODE + index + 1


class Core:
    """Implements Chained: a node's data plane in the simulated world."""

    def __init__(self, world: Foreign, number: int, targets: int) -> None:
        """Belong to a node."""
        self._world = world
        self._number = number
        self._ffi = interface()
        self._lib = library()
        self._states = self._ffi.new("kv_chain_state[]", targets)
        self._targets = targets

    def set_chains(
        self, routing_version: int, places: Sequence[ChainPlace], addresses: Sequence[str]
    ) -> None:
        """Serve by these places from now on."""
        rows = self._ffi.new("kv_chain_place[]", max(1, len(places)))
        for row, place in zip(rows, places, strict=False):
            row.chain_version, row.target, row.chain = (
                place.chain_version,
                place.target,
                place.chain,
            )
            row.flags, row.position, row.successor = place.flags, place.position, place.successor
            row.successor_node = 0xFFFFFFFF
            if place.successor_node is not None:
                row.successor_node = node_at(addresses[place.successor_node])
            row.successor_flags = place.successor_flags
        self._lib.sim_node_set_chains(self._world, self._number, routing_version, rows, len(places))

    def set_lease(self, end_ns: int) -> None:
        """Serve until then on the node's clock."""
        self._lib.sim_node_set_lease(self._world, self._number, end_ns)

    def set_moves(self, moves: Sequence[SlotMoveOrder]) -> None:
        """Move nothing: slots stay in simulated clusters."""
        assert not moves

    def chain_states(self) -> list[ChainState]:
        """Return how every target is."""
        count = self._lib.sim_node_chain_states(
            self._world, self._number, self._states, self._targets
        )
        return [_state_of(self._states[index]) for index in range(count)]

    def clock_ns(self) -> int:
        """Return the time on the node's clock."""
        return int(self._lib.sim_node_clock(self._world, self._number))


def _state_of(row: Foreign) -> ChainState:
    return ChainState(
        chain_version=row.chain_version,
        objects=row.objects,
        value_size=0,
        capacity=row.capacity,
        space_used=row.space_used,
        space_free=row.space_free,
        updates_in_flight=0,
        updates_total=0,
        resync_compared=0,
        resync_sent=0,
        resync_sent_bytes=0,
        target=row.target,
        local=row.local,
        error=row.error,
        resyncing=False,
        damaged=0,
        settled=bool(row.settled),
        io_oldest_ms=row.io_oldest_ms,
        io_silent_ms=row.io_silent_ms,
    )


def node_at(address: str) -> int:
    """Return the number of the node at an address."""
    return int(address.split(":")[0].rsplit(".", 1)[1]) - 1


class StorageNode:
    """One node: its process comes and goes, its targets stay."""

    def __init__(
        self,
        world: Foreign,
        number: int,
        targets: int,
        wires: Wires,
        mgmtds: list[Reached],
        decoder: Decoder,
    ) -> None:
        """Do not run yet."""
        self._decoder = decoder
        self.number = number
        self.name = f"node {number}"
        self.process: Process | None = None
        self.agent: Agent | None = None
        self.down_s = 0.3
        self.starts = 0
        self._world = world
        self._core = Core(world, number, targets)
        self._targets = targets
        self._wires = wires
        self._mgmtds = mgmtds
        self._primary: SimulatedPrimary | None = None

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self.process is not None

    def targets(self) -> range:
        """Return the numbers of its targets."""
        first = target_number(self.number, 0)
        return range(first, first + self._targets)

    def start(self, say: Say, numbers: Callable[[], int]) -> int:
        """Start the process; returns how many of its targets do not open."""
        failed = int(library().sim_node_start(self._world, self.number))
        self.starts += 1
        self.process = Process(self.name)
        self._primary = SimulatedPrimary(
            self.name, self.process, self._wires, self._mgmtds, numbers, self._decoder
        )
        self.agent = Agent(
            self._core,
            self._primary,
            self._registration(),
            cast("Log", Lines(self.name, say)),
            clock=self._core.clock_ns,
        )
        self.process.spawn(_live(self.agent))
        return failed

    def _registration(self) -> NodeRegistration:
        empty = library().sim_node_objects(self._world, self.number) == 0
        return NodeRegistration(
            id=NodeId(self.number + 1),
            incarnation=self.starts,
            addresses=(f"10.0.0.{self.number + 1}:{PORT}",),
            targets=tuple(
                TargetRegistration(
                    id=TargetId(target), uuid=UUID(int=target), empty=empty, cluster=NIL_UUID
                )
                for target in self.targets()
            ),
        )

    def die(self) -> Process | None:
        """Let the process be gone, as far as the control plane is concerned."""
        process, self.process, self.agent = self.process, None, None
        if process is not None:
            process.dead = True
            if self._primary is not None and self._primary.peer is not None:
                self._primary.peer.gone()
        return process

    def hear(self, kind: NodeEventKind, target: int, why: str) -> None:
        """Pass an event of the core on, in the node's process."""
        agent, process = self.agent, self.process
        if agent is None or process is None:
            return
        event = NodeEvent(time_s=0.0, kind=kind, error=0, connection=target, text=why)
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: agent.on_events([event]), context=process.context)


async def _live(agent: Agent) -> None:
    await agent.join()
    await agent.run()


class MgmtdProcess:
    """One mgmtd: implements Reached."""

    def __init__(
        self,
        number: int,
        state: StoreState,
        settings: Settings,
        primary_lease_s: float,
        wires: Wires,
        mgmtds: list[Reached],
        nodes: Callable[[str], bool],
        say: Say,
        clock_s: Callable[[], float],
    ) -> None:
        """Do not run yet."""
        self._clock_s = clock_s
        self.name = f"mgmtd {number}"
        self.address = f"10.1.0.{number + 1}:{PORT}"
        self.process = Process(self.name)
        self.process.dead = True
        self.service: SimulatedService | None = None
        self._state = state
        self._settings = settings
        self._primary_lease_s = primary_lease_s
        self._network = SimulatedNetwork(self, mgmtds, wires, nodes)
        self._log = Lines(self.name, say)
        self.store = SimulatedStore(state, self._clock_ns)
        self.mgmtd = self._make()

    def _make(self) -> Mgmtd:
        return Mgmtd(
            self.store,
            self._settings,
            secret=SECRET,
            log=self._log,
            primary_lease_s=self._primary_lease_s,
            clock=self._clock_ns,
            network=self._network,
        )

    def _clock_ns(self) -> int:
        return round(self._clock_s() * 1e9)

    def listening(self) -> bool:
        """Say whether its process is there and listens."""
        return not self.process.dead and self.service is not None

    def start(self) -> None:
        """Start the process."""
        self.process = Process(self.name)
        self.store = SimulatedStore(self._state, self._clock_ns)
        self.mgmtd = self._make()
        self.process.spawn(self._live(self.mgmtd))

    async def _live(self, mgmtd: Mgmtd) -> None:
        await mgmtd.listen(Address.parse(self.address))
        service = mgmtd._service
        assert isinstance(service, SimulatedService)
        self.service = service
        await mgmtd.run()

    def die(self) -> Process:
        """Let the process be gone."""
        self.process.dead = True
        service, self.service = self.service, None
        for peer in list(service.connected) if service is not None else ():
            peer.gone()  # type: ignore[attr-defined]  # all are SimulatedPeer
        return self.process
