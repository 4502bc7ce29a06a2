"""The command storage: a node as a daemon in the foreground."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from kvstore import __version__
from kvstore.addresses import PORT_DEFAULT
from kvstore.commands.report import FAILURE, reporting
from kvstore.node.config import ConfigSource

NODE = "This node"
TARGETS = "Its targets"
PROCESS = "The process"
KEYS = {"open_to_all": "open", "target": "targets"}
"""Flags whose key in the file has another name."""

ConfigOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="A TOML file; flags win over it.", show_default=False)
]
NodeOption: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Its id; 1 unless given.", show_default=False, rich_help_panel=NODE),
]
ListenOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ADDRESS:PORT",
        help=f"Where to serve; 127.0.0.1:{PORT_DEFAULT} unless given, port 0: any. Repeat it.",
        show_default=False,
        rich_help_panel=NODE,
    ),
]
AdvertiseOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:PORT]",
        help="Where clients reach it, when that is not where it listens.",
        show_default=False,
        rich_help_panel=NODE,
    ),
]
SecretFileOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="The secret that clients must prove, or set KVSTORE_SECRET. Beyond loopback one is "
        "made if none is given.",
        show_default=False,
        rich_help_panel=NODE,
    ),
]
OpenOption: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--open",
        help="Ask for no secret, whoever can reach it.",
        show_default=False,
        rich_help_panel=NODE,
    ),
]
MgmtdOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME:PORT",
        help="The mgmtd of the cluster that it joins; several with commas, or repeat it.",
        show_default=False,
        rich_help_panel=NODE,
    ),
]
RackOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="What fails together with it: targets of a chain are in different racks.",
        show_default=False,
        rich_help_panel=NODE,
    ),
]
RoutingOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Nodes and slots, in JSON or TOML; without it all slots are this node's.",
        show_default=False,
        rich_help_panel=NODE,
    ),
]
TargetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[ID=]DIRECTORY",
        help="A target; made when it is missing. Repeat it, once for each disk.",
        show_default=False,
        rich_help_panel=TARGETS,
    ),
]
MemoryOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="DRAM tier of each target.",
        show_default=False,
        rich_help_panel=TARGETS,
    ),
]
CapacityOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Bytes of slabs of each target.",
        show_default=False,
        rich_help_panel=TARGETS,
    ),
]
ObjectsMaxOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Objects of each target at most.", show_default=False, rich_help_panel=TARGETS
    ),
]
DurabilityNameOption: TypeAlias = Annotated[
    Literal["memory", "disk", "sync"] | None,
    typer.Option(
        help="What an acknowledged set survives.", show_default=False, rich_help_panel=TARGETS
    ),
]
EvictionNameOption: TypeAlias = Annotated[
    Literal["none", "cache"] | None,
    typer.Option(help="What a full target does.", show_default=False, rich_help_panel=TARGETS),
]
DriverNameOption: TypeAlias = Annotated[
    Literal["auto", "io_uring", "threads"] | None,
    typer.Option(
        help="How targets talk to their device.", show_default=False, rich_help_panel=TARGETS
    ),
]
ReactorNameOption: TypeAlias = Annotated[
    Literal["auto", "io_uring", "epoll"] | None,
    typer.Option(help="How it talks to the network.", show_default=False, rich_help_panel=PROCESS),
]
ReactorsOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Event loops, a thread each; 0: one for each core, 8 at most.",
        show_default=False,
        rich_help_panel=PROCESS,
    ),
]
MetricsOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS:PORT",
        help="Where /metrics and /healthz are.",
        show_default=False,
        rich_help_panel=PROCESS,
    ),
]
LogOption: TypeAlias = Annotated[
    Literal["auto", "json", "people"] | None,
    typer.Option(
        help="Whom log lines on stderr are for.", show_default=False, rich_help_panel=PROCESS
    ),
]
LevelOption: TypeAlias = Annotated[
    Literal["debug", "info", "warning", "error"] | None,
    typer.Option(help="The least that is logged.", show_default=False, rich_help_panel=PROCESS),
]
ReadyFileOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Written, as JSON with the addresses, once clients are served.",
        show_default=False,
        rich_help_panel=PROCESS,
    ),
]


def storage(
    context: typer.Context,
    config: ConfigOption = None,
    node: NodeOption = None,
    listen: ListenOption = None,
    advertise: AdvertiseOption = None,
    secret_file: SecretFileOption = None,
    open_to_all: OpenOption = None,
    mgmtd: MgmtdOption = None,
    rack: RackOption = None,
    routing: RoutingOption = None,
    target: TargetOption = None,
    memory: MemoryOption = None,
    capacity: CapacityOption = None,
    objects_max: ObjectsMaxOption = None,
    durability: DurabilityNameOption = None,
    eviction: EvictionNameOption = None,
    driver: DriverNameOption = None,
    reactor: ReactorNameOption = None,
    reactors: ReactorsOption = None,
    metrics: MetricsOption = None,
    log: LogOption = None,
    log_level: LevelOption = None,
    ready_file: ReadyFileOption = None,
) -> None:
    """Serve targets on this machine to clients over TCP, until SIGTERM or SIGINT.

    The first signal lets requests finish, a second one does not wait for them. SIGHUP reads the
    secret, the routing file and the log's options again. Options that are not here are keys of the
    file: requests_memory, connections_max, stall_timeout_s ...

    With --mgmtd it joins a cluster: mgmtd says which chains its targets are in, and a target's
    directory belongs to this node and cluster from then on. The first signal then takes the node
    out of its chains before it drains.

    Examples:

    - `kvstore storage --target /mnt/nvme0/kvstore`
    - `kvstore storage --listen 0.0.0.0:7400 --target 1=/mnt/a --target 2=/mnt/b --memory 8GiB`
    - `kvstore storage --node 2 --mgmtd 10.0.0.1:7300 --listen 10.0.0.2:7400 --target 4=/mnt/a`
    - `kvstore storage --config /etc/kvstore/node.toml`
    """
    flags: dict[str, object] = {
        KEYS.get(name, name): list(given) if isinstance(given, tuple) else given
        for name, given in context.params.items()
        if name != "config" and given != ()
    }
    with reporting(as_json=False):
        serve(ConfigSource(config, flags))


def serve(source: ConfigSource) -> None:
    """Run the node; its failures are lines of its log."""
    config = source.load()
    # What a daemon needs takes time to import, which other commands should not spend.
    from kvstore.node.daemon import run_node

    if run_node(source, config, __version__):
        raise typer.Exit(FAILURE)
