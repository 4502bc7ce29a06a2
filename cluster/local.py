"""A cluster on this machine: mgmtd and nodes, each a real process on loopback, in one directory.

Guarantees: when bring_up() returns, every node has joined and every chain has a target that serves;
when it raises, whatever it started is stopped. Data stays where it is. Only processes that are in
cluster.json, and are still the same ones, are ever signalled.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from kvstore.addresses import Address
from kvstore.cluster.ids import NodeId
from kvstore.cluster.local_files import (
    MGMTD,
    LocalCluster,
    LocalClusterError,
    LocalProcess,
    only_one,
    read_cluster,
    write_cluster,
)
from kvstore.cluster.local_start import Started, whole
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.cluster.processes import stop
from kvstore.cluster.routing import RoutingInfo
from kvstore.cluster.states import PublicState
from kvstore.errors import KVStoreError
from kvstore.shared_secret import read_or_make_secret, read_secret

NODES_MAX = 64
TARGETS_MAX = 64
"""Of each node."""
REPLICAS_DEFAULT = 3
SERVE_TIMEOUT_S = 20.0
"""How long chains may take to serve once every node has joined."""
STOP_TIMEOUT_S = 10.0
FIXED = ("nodes", "targets_per_node", "replicas")
"""Settings that chains were made by."""


# Up.


def bring_up(directory: Path, settings: Mapping[str, object]) -> LocalCluster:
    """Start whatever does not run; *settings* win over those of an earlier time."""
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    with only_one(directory):
        earlier = read_cluster(directory)
        merged = merged_settings(directory, earlier, settings)
        if merged["secret"]:
            read_or_make_secret(directory / "secret")
        started = Started(directory, merged)
        try:
            mgmtd = mgmtd_of(started, earlier)
            nodes = nodes_of(started, earlier, mgmtd, whole(merged["nodes"]))
            cluster = LocalCluster(url_of(directory, merged, mgmtd), merged, mgmtd, nodes)
            asyncio.run(make_serve(directory, cluster))
        except BaseException:
            started.stop()
            raise
        write_cluster(directory, cluster)
        return cluster


def merged_settings(
    directory: Path, earlier: LocalCluster | None, settings: Mapping[str, object]
) -> dict[str, object]:
    """Return the settings to start with; chains stay what they are, and so do some of these."""
    given = {key: value for key, value in settings.items() if value is not None}
    if earlier is None:
        nodes = whole(given.get("nodes", 1))
        replicas = whole(given.get("replicas", min(REPLICAS_DEFAULT, nodes)))
        if replicas > nodes:
            raise LocalClusterError(
                f"{nodes} nodes make no chain of {replicas} replicas: ask for more nodes, or for"
                " fewer replicas"
            )
        # One target a node where that leaves none over; else each node has a place in as many
        # chains as there are replicas.
        targets = 1 if nodes % replicas == 0 else replicas
        defaults = {"nodes": 1, "targets_per_node": targets, "replicas": replicas, "secret": False}
        return {**defaults, **given}
    for key in FIXED:
        if given.get(key, earlier.settings[key]) != earlier.settings[key]:
            raise LocalClusterError(
                f"{directory} holds a cluster with {key} {earlier.settings[key]}, "
                f"which its chains were made by: use another directory for {given[key]}"
            )
    return earlier.settings | given


def mgmtd_of(started: Started, earlier: LocalCluster | None) -> LocalProcess:
    """Return mgmtd, started where it does not run."""
    if earlier is not None and earlier.mgmtd.process.running:
        return earlier.mgmtd
    started.start_mgmtd(None if earlier is None else earlier.mgmtd)
    return started.wait(MGMTD)


def nodes_of(
    started: Started, earlier: LocalCluster | None, mgmtd: LocalProcess, count: int
) -> tuple[LocalProcess, ...]:
    """Return the nodes, started where they do not run."""
    known = {node.node: node for node in earlier.nodes} if earlier else {}
    running = {number: node for number, node in known.items() if node.process.running}
    if earlier is not None and earlier.mgmtd.address != mgmtd.address:
        # Somebody took mgmtd's port: nodes that look for it there must be told another one.
        stop([node.process for node in running.values()], STOP_TIMEOUT_S)
        running = {}
    for number in range(1, count + 1):
        if number not in running:
            started.start_node(number, known.get(number), mgmtd.address)
    found = running | {number: started.wait(number) for number in started.processes if number}
    return tuple(found[number] for number in sorted(found))


def url_of(directory: Path, settings: Mapping[str, object], mgmtd: LocalProcess) -> str:
    """Return the URL of the whole."""
    secret = f"?secret_file={quote(str(directory / 'secret'))}" if settings["secret"] else ""
    return f"kv://{mgmtd.address}/default{secret}"


# Chains.


async def make_serve(directory: Path, cluster: LocalCluster) -> None:
    """Make the chains where there are none, and wait until each of them serves."""
    async with mgmtd_client(directory, cluster) as mgmtd:
        try:
            async with asyncio.timeout(SERVE_TIMEOUT_S):
                if not (await mgmtd.routing()).chains:
                    await mgmtd.admin("create_chains", replicas=whole(cluster.settings["replicas"]))
                await reached(mgmtd, lambda routing: serves(routing, cluster))
        except TimeoutError as error:
            raise LocalClusterError(
                f"not every chain serves after {SERVE_TIMEOUT_S:.0f} s", Path(cluster.mgmtd.log)
            ) from error
        except KVStoreError as error:
            raise LocalClusterError(f"no chains: {error}", Path(cluster.mgmtd.log)) from error


def wait_until_whole(directory: Path, timeout_s: float) -> None:
    """Return when every target of every chain serves; LocalClusterError when that takes longer."""
    cluster = read_cluster(directory.absolute())
    if cluster is None:
        raise LocalClusterError(f"{directory} holds no cluster: cluster.json is not there")
    asyncio.run(until_whole(directory.absolute(), cluster, timeout_s))


async def until_whole(directory: Path, cluster: LocalCluster, timeout_s: float) -> None:
    """Wait for it."""
    async with mgmtd_client(directory, cluster) as mgmtd:
        try:
            async with asyncio.timeout(timeout_s):
                await reached(mgmtd, whole_again)
        except TimeoutError as error:
            raise LocalClusterError(
                f"not every target serves after {timeout_s:.0f} s", Path(cluster.mgmtd.log)
            ) from error


def mgmtd_client(directory: Path, cluster: LocalCluster) -> MgmtdClient:
    """Return a way to the cluster's mgmtd."""
    secret = read_secret(directory / "secret") if cluster.settings["secret"] else b""
    return MgmtdClient([Address.parse(cluster.mgmtd.address)], secret=secret, name="kvstore up")


async def reached(mgmtd: MgmtdClient, state: Callable[[RoutingInfo], bool]) -> None:
    """Wait until the routing info says what it should."""
    async with aclosing(mgmtd.subscribe()) as versions:
        async for routing in versions:
            if state(routing):
                return


def serves(routing: RoutingInfo, cluster: LocalCluster) -> bool:
    """Return whether every chain has a target that serves, at the address that its node has."""
    for node in cluster.nodes:
        known = routing.nodes.get(NodeId(node.node))
        if known is None or node.address not in known.addresses:
            return False
    return bool(routing.chains) and all(chain.head for chain in routing.chains.values())


def whole_again(routing: RoutingInfo) -> bool:
    """Return whether every target of every chain serves."""
    return all(
        place.state is PublicState.SERVING
        for chain in routing.chains.values()
        for place in chain.targets
    )


# Down.


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of the nodes, and of mgmtd: the name of one of the other fields."""

    stopped: tuple[int, ...]
    killed: tuple[int, ...]
    not_running: tuple[int, ...]
    mgmtd: str


def take_down(directory: Path, timeout_s: float) -> Stopped:
    """Stop everything that runs, mgmtd last; what does not end within *timeout_s* is killed."""
    directory = directory.absolute()
    if not directory.is_dir():
        raise LocalClusterError(f"{directory}: no such directory")
    with only_one(directory):
        cluster = read_cluster(directory)
        if cluster is None:
            raise LocalClusterError(f"{directory} holds no cluster: cluster.json is not there")
        became = stop_all(cluster.nodes, timeout_s) | stop_all((cluster.mgmtd,), timeout_s)
        nodes = {
            what: tuple(node.node for node in cluster.nodes if became[node.node] == what)
            for what in ("stopped", "killed", "not_running")
        }
        return Stopped(**nodes, mgmtd=became[MGMTD])


def stop_all(processes: Sequence[LocalProcess], timeout_s: float) -> dict[int, str]:
    """Stop processes; what became of each."""
    running = [each.process for each in processes if each.process.running]
    late = stop(running, timeout_s)
    return {
        each.node: "not_running"
        if each.process not in running
        else "killed"
        if each.process in late
        else "stopped"
        for each in processes
    }
