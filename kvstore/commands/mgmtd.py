"""The command mgmtd: the manager of a cluster as a daemon in the foreground."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from kvstore import __version__
from kvstore.addresses import MGMTD_PORT_DEFAULT
from kvstore.commands.report import FAILURE, reporting
from kvstore.commands.storage import (
    AdvertiseOption,
    ConfigOption,
    LevelOption,
    LogOption,
    MetricsOption,
    OpenOption,
    ReadyFileOption,
    SecretFileOption,
)

MGMTD = "This mgmtd"
TIMES = "Times"
CLUSTER = "A new cluster"
KEYS = {"open_to_all": "open"}
"""Flags whose key in the file has another name."""

MetadataOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="DIRECTORY|URL",
        help="Its records: a directory, or etcd://host:2379,.../prefix for several mgmtd.",
        show_default=False,
        rich_help_panel=MGMTD,
    ),
]
ListenOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS:PORT",
        help=f"Where to answer; 127.0.0.1:{MGMTD_PORT_DEFAULT} unless given, port 0: any.",
        show_default=False,
        rich_help_panel=MGMTD,
    ),
]
HeartbeatOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Between two heartbeats of a node; 200.", show_default=False, rich_help_panel=TIMES
    ),
]
LeaseOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="How long a node serves without an answer; 1500.",
        show_default=False,
        rich_help_panel=TIMES,
    ),
]
PrimaryLeaseOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="How long a primary that cannot be reached holds its office; 0.6.",
        show_default=False,
        rich_help_panel=TIMES,
    ),
]
SpareAfterOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="How long a target is offline before a spare replaces it; 600, 0: never.",
        show_default=False,
        rich_help_panel=TIMES,
    ),
]
ExpectedNodesOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Make the chains once so many storage nodes are there; 0: when told to.",
        show_default=False,
        rich_help_panel=CLUSTER,
    ),
]
ExpectedTargetsOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="And so many targets; 0: those of the nodes.",
        show_default=False,
        rich_help_panel=CLUSTER,
    ),
]
ReplicasOption: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Targets of a chain; 3.", show_default=False, rich_help_panel=CLUSTER),
]
SparesOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Targets that are kept in no chain; 0.", show_default=False, rich_help_panel=CLUSTER
    ),
]
SlotsOption: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Slots, a power of two; 1024.", show_default=False, rich_help_panel=CLUSTER),
]
SeedOption: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Of the chains' layout; 1.", show_default=False, rich_help_panel=CLUSTER),
]


def mgmtd(
    context: typer.Context,
    config: ConfigOption = None,
    metadata: MetadataOption = None,
    listen: ListenOption = None,
    advertise: AdvertiseOption = None,
    secret_file: SecretFileOption = None,
    open_to_all: OpenOption = None,
    heartbeat_ms: HeartbeatOption = None,
    lease_ms: LeaseOption = None,
    primary_lease_s: PrimaryLeaseOption = None,
    spare_after_s: SpareAfterOption = None,
    expected_nodes: ExpectedNodesOption = None,
    expected_targets: ExpectedTargetsOption = None,
    replicas: ReplicasOption = None,
    spares: SparesOption = None,
    slots: SlotsOption = None,
    seed: SeedOption = None,
    metrics: MetricsOption = None,
    log: LogOption = None,
    log_level: LevelOption = None,
    ready_file: ReadyFileOption = None,
) -> None:
    """Manage a cluster: who is alive, which target has which place, until SIGTERM or SIGINT.

    One mgmtd keeps its records in a directory. Several, on several machines, keep them in an etcd;
    one of them is primary, and the others take over when it dies.

    Examples:

    - `kvstore mgmtd --metadata /var/lib/kvstore/mgmtd --expected-nodes 3`
    - `kvstore mgmtd --metadata etcd://etcd1:2379,etcd2:2379/kvstore --listen 10.0.0.1:7300`
    - `kvstore mgmtd --config /etc/kvstore/mgmtd.toml`
    """
    flags: dict[str, object] = {
        KEYS.get(name, name): given
        for name, given in context.params.items()
        if name != "config" and given is not None
    }
    with reporting(as_json=False):
        manage(config, flags)


def manage(path: Path | None, flags: dict[str, object]) -> None:
    """Run mgmtd; its failures are lines of its log."""
    # What a daemon needs takes time to import, which other commands should not spend.
    from kvstore.node.mgmtd import run_mgmtd
    from kvstore.node.mgmtd_config import MgmtdSource

    if run_mgmtd(MgmtdSource(path, flags), __version__):
        raise typer.Exit(FAILURE)
