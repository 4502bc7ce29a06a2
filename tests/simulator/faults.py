"""Does to a cluster what its plan says, at the time that it says."""

import asyncio
from typing import TYPE_CHECKING

from simulator.plan import DRIFT_PPM_MAX, Fault, Kind

if TYPE_CHECKING:
    from simulator.cluster import Cluster

NS = 1_000_000_000
EIO = -5
IO_READ, IO_WRITE, IO_FLUSH = 1, 2, 3
FILES = 6
FILE_SLABS, FILE_JOURNALS = 1, (2, 3)
LEAVE_WITHIN_S = 1.0
LOOK_S = 0.25
ANY = 0xFFFFFFFF
SPACE = 64 << 20
GLOBAL = {
    Kind.OUTAGE,
    Kind.BLACKOUT,
    Kind.MGMTD_KILL,
    Kind.MGMTD_PAUSE,
    Kind.STORE_DOWN,
    Kind.STORE_LOSES,
}


class Injector:
    """Performs a schedule."""

    def __init__(self, cluster: "Cluster") -> None:
        """Do nothing yet."""
        self._cluster = cluster
        self._plan = cluster.plan
        self._lib = cluster.lib
        self._full: set[int] = set()
        self._begun_s = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Do everything until the work's time is over."""
        loop = asyncio.get_running_loop()
        faults = list(self._plan.faults)
        end_s = self._begun_s + self._plan.work_s
        look_s = self._begun_s + LOOK_S
        while loop.time() < end_s:
            due_s = self._begun_s + faults[0].at_s if faults else end_s
            await asyncio.sleep(max(0.0, min(due_s, look_s, end_s) - loop.time()))
            if loop.time() >= look_s:
                look_s += LOOK_S
                self._cluster.restart_failed()
                self._cluster.look()
            while faults and self._begun_s + faults[0].at_s <= loop.time():
                self._do(faults.pop(0))

    def heal(self) -> None:
        """End what would last."""
        for target in sorted(self._full):
            self._lib.sim_device_space(self._cluster.world, target, SPACE)
        self._cluster.state.down_until_s = self._cluster.state.loses_until_s = 0.0
        for mgmtd in self._cluster.mgmtds:
            if mgmtd.process.dead:
                mgmtd.start()

    def _do(self, fault: Fault) -> None:
        cluster = self._cluster
        everyone = list(range(self._plan.nodes))
        nodes = everyone if fault.kind in GLOBAL else [fault.node, fault.other]
        cluster.result.faults[fault.kind.value] += 1
        cluster.disturb(nodes, fault.lasts_s)
        self._lib.sim_mark(cluster.world, fault.kind.value.encode(), fault.number)
        if cluster.talks:
            print(f"{asyncio.get_running_loop().time():12.6f}  {fault}", flush=True)
        for do in (self._process_fault, self._network_fault, self._device_fault):
            if do(fault):
                return
        self._control_fault(fault)

    def _process_fault(self, fault: Fault) -> bool:
        cluster, world = self._cluster, self._cluster.world
        node = cluster.nodes[fault.node]
        match fault.kind:
            case Kind.KILL | Kind.POWER:
                cluster.kill(node, fault.kind is Kind.POWER, fault.lasts_s)
            case Kind.KILL_AT | Kind.POWER_AT:
                node.down_s = fault.lasts_s
                power = fault.kind is Kind.POWER_AT
                self._lib.sim_node_kill_at(world, fault.node, power, fault.amount % 60)
            case Kind.OUTAGE | Kind.BLACKOUT:
                for each in cluster.nodes:
                    cluster.kill(each, fault.kind is Kind.BLACKOUT, fault.lasts_s)
            case Kind.LEAVE:
                self._leave(fault)
            case Kind.PAUSE:
                self._lib.sim_node_pause(world, fault.node, self._until_ns(fault))
                if node.process is not None:
                    cluster.loop.pause(node.process, cluster.loop.time() + fault.lasts_s)
            case Kind.CLIENT_PAUSE:
                client = fault.amount % self._plan.clients
                self._lib.sim_client_pause(world, client, self._until_ns(fault))
            case Kind.DRIFT:
                rate = fault.amount % (2 * DRIFT_PPM_MAX + 1) - DRIFT_PPM_MAX
                self._lib.sim_node_clock_rate(world, fault.node, rate)
            case Kind.WALL_JUMP:
                self._lib.sim_node_wall_jump(world, fault.node, (fault.amount - 32768) * 1000)
            case _:
                return False
        return True

    def _leave(self, fault: Fault) -> None:
        node = self._cluster.nodes[fault.node]
        agent, process = node.agent, node.process
        if agent is None or process is None:
            return

        async def leave() -> None:
            await agent.leave(LEAVE_WITHIN_S)
            if node.process is process:
                self._cluster.kill(node, False, fault.lasts_s)

        process.spawn(leave())

    def _network_fault(self, fault: Fault) -> bool:
        lib, world = self._lib, self._cluster.world
        until_ns = self._until_ns(fault)
        resets = fault.amount & 1
        match fault.kind:
            case Kind.CONNECTION:
                lib.sim_connection_cut(world)
            case Kind.PEER:
                lib.sim_peer_cut(world, fault.node)
            case Kind.ISOLATE:
                lib.sim_link_block(world, fault.node, ANY, until_ns, resets)
                lib.sim_link_block(world, ANY, fault.node, until_ns, resets)
                if fault.amount & 2:
                    self._cut_mgmtd(fault, both=True)
                if fault.amount & 4:
                    lib.sim_clients_block(world, fault.node, until_ns)
            case Kind.ONE_WAY:
                lib.sim_link_block(world, fault.node, fault.other, until_ns, resets)
            case Kind.MGMTD_LINK:
                self._cut_mgmtd(fault, both=fault.amount & 1 == 0)
            case Kind.CLIENTS_CUT:
                lib.sim_clients_block(world, fault.node, until_ns)
            case Kind.SLOW_LINK:
                lib.sim_link_slow(world, fault.node, until_ns, 100 + fault.amount % 20_000)
            case _:
                return False
        return True

    def _cut_mgmtd(self, fault: Fault, *, both: bool) -> None:
        wires = self._cluster.wires
        until_s = asyncio.get_running_loop().time() + fault.lasts_s
        node = self._cluster.nodes[fault.node].name
        for mgmtd in self._cluster.mgmtds:
            if both or fault.amount & 8:
                wires.block(node, mgmtd.name, until_s)
            if both or not fault.amount & 8:
                wires.block(mgmtd.name, node, until_s)

    def _device_fault(self, fault: Fault) -> bool:
        lib, world = self._lib, self._cluster.world
        targets = self._cluster.nodes[fault.node].targets()
        target = targets[fault.amount % len(targets)]
        journal = FILE_JOURNALS[fault.amount & 1]
        file = FILE_SLABS if fault.amount & 2 else journal
        match fault.kind:
            case Kind.SLOW_DEVICE:
                delay_us = 200 + fault.amount % 30_000
                lib.sim_device_slow(world, target, self._until_ns(fault), delay_us)
            case Kind.STUCK_DEVICE:
                lib.sim_device_stick(world, target, self._until_ns(fault))
            case Kind.READ_ERROR:
                lib.sim_device_fail(world, target, IO_READ, FILE_SLABS, EIO)
            case Kind.WRITE_ERROR:
                lib.sim_device_fail(world, target, IO_WRITE, file, EIO)
            case Kind.FLUSH_ERROR:
                lib.sim_device_fail(world, target, IO_FLUSH, file, EIO)
            case Kind.DEVICE_FULL:
                lib.sim_device_space(world, target, 0)
                self._full.add(target)
                self._cluster.loop.call_later(fault.lasts_s, self._make_room, target)
            case Kind.ROT:
                lib.sim_device_rot(world, target)
            case _:
                return False
        return True

    def _make_room(self, target: int) -> None:
        self._lib.sim_device_space(self._cluster.world, target, SPACE)

    def _control_fault(self, fault: Fault) -> None:
        cluster, loop = self._cluster, self._cluster.loop
        mgmtd = cluster.mgmtds[fault.amount % len(cluster.mgmtds)]
        until_s = loop.time() + fault.lasts_s
        match fault.kind:
            case Kind.MGMTD_KILL:
                if not mgmtd.process.dead:
                    cluster.buried.append(mgmtd.die())
                    loop.call_later(fault.lasts_s, self._start_mgmtd, fault.amount)
            case Kind.MGMTD_PAUSE:
                loop.pause(mgmtd.process, until_s)
            case Kind.STORE_DOWN:
                cluster.state.down_until_s = max(cluster.state.down_until_s, until_s)
            case Kind.STORE_LOSES:
                cluster.state.loses_until_s = max(cluster.state.loses_until_s, until_s)
            case _:
                raise AssertionError(fault.kind)

    def _start_mgmtd(self, number: int) -> None:
        mgmtd = self._cluster.mgmtds[number % len(self._cluster.mgmtds)]
        if mgmtd.process.dead:
            mgmtd.start()

    def _until_ns(self, fault: Fault) -> int:
        return self._cluster.now_ns() + int(fault.lasts_s * NS)
