"""The rows by the names that --only takes, in the order in which they run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tools.bench.result import Row
from tools.bench.rows import (
    checksums,
    cluster_devices,
    cluster_failures,
    cluster_mgmtd,
    cluster_path,
    cluster_resync,
    cluster_return,
    cluster_routing,
    comparison,
    device,
    durable_sets,
    footprint,
    lookups,
    manager,
    many_clients,
    memory_reads,
    node_memory,
    opening,
    wire,
    wire_peers,
)
from tools.bench.rows.play import Bench


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are measured together, and the contestants that they need beside this store."""

    measure: Callable[[Bench], Iterator[Row]]
    peers: tuple[str, ...] = ()


GROUPS: Mapping[str, Group] = {
    "memory": Group(memory_reads.against_memcpy, ("memcpy",)),
    "small": Group(memory_reads.against_lmdb, ("lmdb",)),
    "checksum": Group(checksums.measure, ("memcpy", "isa-l")),
    "read": Group(device.reads, ("fio",)),
    "write": Group(device.writes, ("fio",)),
    "sync": Group(durable_sets.measure),
    "exists": Group(lookups.measure, ("rocksdict",)),
    "open": Group(opening.measure),
    "footprint": Group(footprint.measure),
    "peers": Group(
        comparison.measure, ("memcpy", "fio", "lmdb", "rocksdict", "diskcache", "redis")
    ),
    "manager": Group(manager.measure),
    "wire": Group(wire.gets, ("ideal",)),
    "wire-set": Group(wire.sets, ("ideal",)),
    "wire-small": Group(wire.small, ("ideal", "redis-stream")),
    "wire-single": Group(wire.single, ("ideal",)),
    "wire-many": Group(many_clients.measure),
    "node-memory": Group(node_memory.measure),
    "wire-peers": Group(
        wire_peers.measure,
        ("ideal", "redis-tcp", "valkey", "memcached", "mooncake", "lmcache"),
    ),
    "cluster-stall": Group(cluster_failures.after_kill),
    "cluster-cut": Group(cluster_failures.after_cut),
    "cluster-return": Group(cluster_return.measure),
    "cluster-mgmtd": Group(cluster_mgmtd.measure, ("etcd",)),
    "cluster-reads": Group(cluster_devices.reads),
    "cluster-writes": Group(cluster_devices.writes, ("slow-device",)),
    "cluster-resync": Group(cluster_resync.measure),
    "cluster-routing": Group(cluster_routing.measure),
    "cluster-path": Group(cluster_path.measure),
}
