"""What three replicas bring readers and cost writers where devices are the limit, not processors.

Reads: each target has a loop device of its own, of which a control group lets it read so much a
second. Writes: every transfer of every target takes longer by the same time.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tools.bench.cluster.devices import Device, device, possible, reads_limited
from tools.bench.cluster.members import Members, Shape, cluster
from tools.bench.failures import ContestantError
from tools.bench.result import OURS, CostGoal, RatioGoal, Row, Sample
from tools.bench.rows.ends import Ends
from tools.bench.rows.play import UNLIMITED_S, Bench, Play
from tools.bench.settings import KIB, MIB, size_text

ONE = "1 target"
REPLICAS = 3
AT_LEAST = 2.8
AT_MOST = 1.6
MEMORY = 96 * MIB
"""The smallest DRAM tier: most reads are the device's."""
RATE = 24 * MIB
"""Of a device, in bytes a second: far below what a processor moves."""
DEVICE_SIZE = 2 << 30
CAPACITY = 1 << 30
SIZE, BATCH_COUNT, DEPTH = 64 * KIB, 16, 12
READ_FACTOR = 16
WRITE_FACTOR = 8
"""A turn lasts so many times the usual time: limits are kept over some tenths of a second."""
DELAY_US = 2000
WRITES = 512
"""Keys that are written over and over."""


def reads(bench: Bench) -> Iterator[Row]:
    """Yield the bandwidth of a chain of three against that of a chain of one."""
    with bench.play("cluster-reads") as play:
        ends: dict[str, Ends] = {}
        for who, replicas in ((OURS, REPLICAS), (ONE, 1)):
            with play.attempt(who):
                ends[who] = limited(play, replicas)
        arguments = {"limit_s": bench.settings.phase_s * READ_FACTOR, "depth": DEPTH}
        play.interleave({who: partial(get, end, arguments) for who, end in ends.items()})
        play.verify({who: end.process for who, end in ends.items()})
        text = f"batch_get_into, {size_text(SIZE)} x {BATCH_COUNT}, devices of {size_text(RATE)}/s"
        goal = RatioGoal(AT_LEAST, ONE)
        yield play.row("cluster-reads", f"{text}, chain of {REPLICAS}", "GB/s", goal)


def limited(play: Play, replicas: int) -> Ends:
    """Start a cluster on devices, set every key, and limit the devices."""
    if not possible():
        raise ContestantError("needs root, loop devices, and control groups of block devices")
    folder = play.folder(f"replicas-{replicas}")
    enter = play.stack.enter_context
    devices = [enter(device(folder, f"device-{i}", DEVICE_SIZE)) for i in range(replicas)]
    homes = {f"node-{i}": each.mount for i, each in enumerate(devices, 1)}
    members = enter(cluster(folder, shape(replicas, homes)))
    ends = Ends(play.start("kvstore-async", folder, url=members.url), members.pids)
    count = play.bench.settings.device_size // SIZE
    ends.process.call("prepare", size=SIZE, batch_count=BATCH_COUNT, count=count)
    ends.process.call("set", limit_s=UNLIMITED_S)
    limit_all(play, members, devices)
    return ends


def limit_all(play: Play, members: Members, devices: list[Device]) -> None:
    """Limit what each node reads from its device."""
    for node, its in zip(members.nodes, devices, strict=True):
        play.stack.enter_context(reads_limited(its, [node.pid], RATE))


def get(ends: Ends, arguments: dict[str, float], round_index: int) -> Sample:
    """Read for a while."""
    return ends.call("get_pipelined", seed=round_index, **arguments)


def writes(bench: Bench) -> Iterator[Row]:
    """Yield the median time of a write to three replicas against that to one."""
    with bench.play("cluster-writes") as play:
        ends: dict[str, Ends] = {}
        for who, replicas in ((OURS, REPLICAS), (ONE, 1)):
            with play.attempt(who):
                ends[who] = delayed(play, replicas)
        limit_s = bench.settings.phase_s * WRITE_FACTOR
        play.interleave({who: partial(median_set, end, limit_s) for who, end in ends.items()})
        play.verify({who: end.process for who, end in ends.items()})
        text = (
            f"set of {size_text(SIZE)}, {REPLICAS} replicas, devices {DELAY_US / 1e3:g} ms slower"
        )
        goal = CostGoal(AT_MOST, ONE)
        yield play.row("cluster-writes", f"{text}: p50", "ms", goal)


def delayed(play: Play, replicas: int) -> Ends:
    """Start a cluster with slower devices, and set every key."""
    problem = play.bench.environment.problem("slow-device")
    if problem:
        raise ContestantError(problem)
    folder = play.folder(f"replicas-{replicas}")
    shim = play.bench.environment.program("slow_device.so")
    environment = {"LD_PRELOAD": str(shim), "SLOW_DEVICE_US": str(DELAY_US)}
    shaped = shape(replicas, {}, environment, driver="threads")
    members = play.stack.enter_context(cluster(folder, shaped))
    ends = Ends(play.start("kvstore-network", folder, url=members.url), members.pids)
    ends.process.call("prepare", size=SIZE, batch_count=1, count=WRITES)
    ends.process.call("set", limit_s=UNLIMITED_S)
    return ends


def median_set(ends: Ends, limit_s: float, round_index: int) -> Sample:
    """Set one key after another."""
    del round_index
    sample = ends.call("set", limit_s=limit_s)
    assert sample.p50_ms is not None
    return Sample(sample.p50_ms, sample.cpu_s_per_gb, sample.p50_ms, sample.p99_ms)


def shape(
    replicas: int,
    homes: dict[str, Path],
    environment: dict[str, str] | None = None,
    driver: str = "auto",
) -> Shape:
    """Return a cluster of as many nodes as replicas."""
    options: dict[str, str | int] = {"memory": MEMORY, "capacity": CAPACITY, "driver": driver}
    return Shape(
        nodes=replicas,
        replicas=replicas,
        options={**options, "durability": "disk"},
        keys={"scrub_bytes_per_s": 0},  # its usual rate is most of such a device's
        homes=homes,
        environment=environment or {},
    )
