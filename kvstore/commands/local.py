"""The commands up and down: a real cluster on this machine."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer
from rich.table import Table

from kvstore.cluster.local import NODES_MAX, TARGETS_MAX, bring_up, take_down
from kvstore.cluster.local_files import LocalCluster, LocalClusterError
from kvstore.cluster.routing import CHAIN_TARGETS_MAX
from kvstore.commands.arguments import JSONOption
from kvstore.commands.report import Report, reporting
from kvstore.node.config import TARGET_PARSERS, parse_keys

DIRECTORY_HELP = "Where the nodes and their data are."
STOP_TIMEOUT_S = 20.0

NodesOption: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, max=NODES_MAX, help="Nodes; 1 unless given.", show_default=False),
]
TargetsOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=TARGETS_MAX,
        help="Targets of each node; 1 unless given, or as many as replicas where 1 would leave "
        "some over.",
        show_default=False,
    ),
]
ReplicasOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=CHAIN_TARGETS_MAX,
        help="Copies of each object, on different nodes; 3 unless given, or one on each node.",
        show_default=False,
    ),
]
MemoryOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="DRAM tier of each target.", show_default=False),
]
CapacityOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Bytes of slabs of each target.", show_default=False),
]
DurabilityOption: TypeAlias = Annotated[
    Literal["memory", "disk", "sync"] | None,
    typer.Option(help="What an acknowledged set survives.", show_default=False),
]
EvictionOption: TypeAlias = Annotated[
    Literal["none", "cache"] | None,
    typer.Option(help="What a full target does.", show_default=False),
]
DriverOption: TypeAlias = Annotated[
    Literal["auto", "io_uring", "threads"] | None,
    typer.Option(help="How targets talk to their device.", show_default=False),
]
ReactorOption: TypeAlias = Annotated[
    Literal["auto", "io_uring", "epoll"] | None,
    typer.Option(help="How nodes talk to the network.", show_default=False),
]
ReactorsOption: TypeAlias = Annotated[
    int | None, typer.Option(min=0, help="Event loops of each node.", show_default=False)
]
LevelOption: TypeAlias = Annotated[
    Literal["debug", "info", "warning", "error"] | None,
    typer.Option(help="The least that nodes log.", show_default=False),
]
SecretOption: TypeAlias = Annotated[
    bool | None,
    typer.Option("--secret", help="Make a secret that clients must prove; the URL names its file."),
]


def up(
    directory: Annotated[Path, typer.Option("--dir", help=DIRECTORY_HELP, show_default=False)],
    nodes: NodesOption = None,
    replicas: ReplicasOption = None,
    targets_per_node: TargetsOption = None,
    memory: MemoryOption = None,
    capacity: CapacityOption = None,
    durability: DurabilityOption = None,
    eviction: EvictionOption = None,
    driver: DriverOption = None,
    reactor: ReactorOption = None,
    reactors: ReactorsOption = None,
    log_level: LevelOption = None,
    secret: SecretOption = None,
    as_json: JSONOption = False,
) -> None:
    """Start a cluster on loopback and return when it serves; `kvstore down` stops it.

    mgmtd and each node is a process of its own, with its log in the directory. Once more on the
    same directory, it starts what does not run; the data is still there, and options that are not
    given stay as they were. The URL is the last thing that is printed.

    Examples:

    - `kvstore up --dir /tmp/cluster --nodes 3 --replicas 3`
    - `kvstore up --dir /mnt/nvme/cluster --memory 8GiB --eviction cache --json`
    """
    settings: dict[str, object] = {
        "memory": memory,
        "capacity": capacity,
        "durability": durability,
        "eviction": eviction,
        "driver": driver,
    }
    with reporting(as_json=as_json) as report:
        given = {name: value for name, value in settings.items() if value is not None}
        parse_keys(given, TARGET_PARSERS, "--", Path())
        settings |= {"nodes": nodes, "targets_per_node": targets_per_node, "replicas": replicas}
        settings |= {"secret": secret}
        settings |= {"reactor": reactor, "reactors": reactors, "log_level": log_level}
        try:
            cluster = bring_up(directory, settings)
        except LocalClusterError as error:
            report.quote(error.log_lines)
            raise
        show(report, cluster)


def show(report: Report, cluster: LocalCluster) -> None:
    """Show what runs."""
    report.answer({"url": cluster.url})
    table = Table("process", "pid", "address", "metrics", "log")
    for process in (cluster.mgmtd, *cluster.nodes):
        metrics = f"http://{process.metrics}/metrics" if process.metrics else ""
        table.add_row(process.name, str(process.pid), process.address, metrics, process.log)
    report.show(table)
    report.say(cluster.url)


def down(
    directory: Annotated[Path, typer.Option("--dir", help=DIRECTORY_HELP, show_default=False)],
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", min=0, help="Seconds until what still runs is killed."),
    ] = STOP_TIMEOUT_S,
    as_json: JSONOption = False,
) -> None:
    """Stop the cluster that `kvstore up` started; its data stays.

    Examples:

    - `kvstore down --dir /tmp/cluster`
    """
    with reporting(as_json=as_json) as report:
        stopped = take_down(directory, timeout_s)
        report.answer(asdict(stopped))
        for what in ("stopped", "killed", "not_running"):
            names = [f"node {node}" for node in getattr(stopped, what)]
            if stopped.mgmtd == what:
                names.append("mgmtd")
            if names:
                report.say(f"{what.replace('_', ' ')}: {', '.join(names)}")
        if stopped.killed or stopped.mgmtd == "killed":
            report.note(f"not ended within {timeout_s:g} s, and killed: see the logs")
