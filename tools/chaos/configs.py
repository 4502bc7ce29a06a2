"""What members are told: their commands and configurations."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kvstore.addresses import Address
from kvstore.cluster.routing_file import write_routing_file
from kvstore.cluster.static_routing import even_slots, static_routing
from tools.chaos.schedule import ClusterShape

DISK = "disk"
READY = "ready.json"
DRAIN_TIMEOUT_S = 10.0
SLOTS = 64
PEER_PORT = 2380


def targets_of(number: int, shape: ClusterShape) -> range:
    """Return the targets of a node: they are numbered through."""
    count = shape.targets_per_node
    return range((number - 1) * count + 1, number * count + 1)


def toml_of(values: Mapping[str, object]) -> str:
    """Return lines of TOML: JSON's texts, numbers, booleans and lists are TOML's, too."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def node_command(
    home: Path,
    number: int,
    shape: ClusterShape,
    address: Address,
    cluster: Mapping[str, object],
    python: str,
) -> tuple[str, ...]:
    """Write a node's configuration; *cluster* says how it learns of the others."""
    values: dict[str, object] = {
        "node": number,
        "listen": str(address),
        "open": True,
        "ready_file": READY,
        "log": "json",
        "drain_timeout_s": DRAIN_TIMEOUT_S,
        "memory": shape.memory,
        "capacity": shape.capacity,
        "durability": shape.durability,
        **cluster,
    }
    text = toml_of(values)
    for target in targets_of(number, shape):
        directory = f"{DISK}/target-{target}"
        text += "\n[[targets]]\n" + toml_of({"target": target, "directory": directory})
    path = home / "node.toml"
    path.write_text(text, encoding="utf-8")
    return (python, "-P", "-m", "kvstore", "storage", "--config", str(path))


def mgmtd_command(
    home: Path, shape: ClusterShape, address: Address, metadata: str
) -> tuple[str, ...]:
    """Write the configuration of a mgmtd."""
    values: dict[str, object] = {
        "metadata": metadata,
        "listen": str(address),
        "open": True,
        "ready_file": READY,
        "log": "json",
        "expected_nodes": shape.nodes,
        "replicas": shape.replicas,
        "slots": SLOTS,
    }
    path = home / "mgmtd.toml"
    path.write_text(toml_of(values), encoding="utf-8")
    return (sys.executable, "-P", "-m", "kvstore", "mgmtd", "--config", str(path))


def etcd_command(home: Path, address: Address) -> tuple[str, ...]:
    """Return the command of an etcd of one member."""
    clients = f"http://{address}"
    peers = f"http://{Address(address.name, PEER_PORT)}"
    return (
        *("etcd", "--name", "etcd-1", "--data-dir", str(home / "etcd")),
        *("--listen-client-urls", clients, "--advertise-client-urls", clients),
        *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
        *("--initial-cluster", f"etcd-1={peers}", "--log-level", "warn"),
    )


def write_routing(path: Path, shape: ClusterShape, addresses: Sequence[Address]) -> None:
    """Write the routing info of nodes without mgmtd."""
    nodes = dict(enumerate(addresses, 1))
    targets = {target: number for number in nodes for target in targets_of(number, shape)}
    routing = static_routing(1, nodes, targets, even_slots(sorted(targets)))
    write_routing_file(path, routing)
