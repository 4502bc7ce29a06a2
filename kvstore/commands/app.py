"""The command kvstore with its subcommands, and the exit code that a shell gets."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from kvstore import __version__
from kvstore.commands import admin, namespaces, objects
from kvstore.commands.bench_command import bench
from kvstore.commands.check import check
from kvstore.commands.demo import demo
from kvstore.commands.inspect import inspect
from kvstore.commands.local import down, up
from kvstore.commands.mgmtd import mgmtd
from kvstore.commands.replay_command import replay
from kvstore.commands.report import FAILURE, USAGE
from kvstore.commands.status import status
from kvstore.commands.storage import storage
from kvstore.commands.top import top

HELP = """An SSD-backed store of objects: keys, values, batches.

A store is a directory, named by a URL: `file:///var/cache/pages`. Options go into its query:
`file:///var/cache/pages?durability=sync&memory=1GiB&capacity=100GiB`; quote it for the shell.
One process at a time has such a store open. Or a cluster serves it, to any number of processes and
machines: `kv://mgmtd1:7300,mgmtd2:7300/namespace`.

Examples:

- `echo hello | kvstore set file:///tmp/pages greeting`
- `kvstore get file:///tmp/pages greeting`
- `kvstore ls file:///tmp/pages`
- `kvstore up --dir /tmp/cluster --nodes 3 --replicas 3`
- `kvstore demo`
"""

OBJECTS = "Objects"
STORES = "A whole store"
NODES = "A cluster"
WORK = "Measure and try"


def build() -> typer.Typer:
    """Return the command with all its subcommands."""
    app = typer.Typer(
        name="kvstore",
        help=HELP,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        add_completion=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(options)
    app.command("set", rich_help_panel=OBJECTS)(objects.set_values)
    app.command("get", rich_help_panel=OBJECTS)(objects.get_values)
    app.command("exists", rich_help_panel=OBJECTS)(objects.exists)
    app.command("rm", rich_help_panel=OBJECTS)(objects.remove)
    app.command("stat", rich_help_panel=OBJECTS)(objects.stat)
    app.command("ls", rich_help_panel=OBJECTS)(objects.list_objects)
    app.command("check", rich_help_panel=STORES)(check)
    app.command("inspect", rich_help_panel=STORES)(inspect)
    app.command("up", rich_help_panel=NODES)(up)
    app.command("down", rich_help_panel=NODES)(down)
    app.command("status", rich_help_panel=NODES)(status)
    app.command("top", rich_help_panel=NODES)(top)
    app.add_typer(admin.build(), rich_help_panel=NODES)
    app.add_typer(namespaces.build(), rich_help_panel=NODES)
    app.command("storage", rich_help_panel=NODES)(storage)
    app.command("mgmtd", rich_help_panel=NODES)(mgmtd)
    app.command("demo", rich_help_panel=WORK)(demo)
    app.command("replay", rich_help_panel=WORK)(replay)
    app.command("bench", rich_help_panel=WORK)(bench)
    return app


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        sys.stdout.write(f"kvstore {__version__}\n")
        raise typer.Exit


def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=show_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """Take the options of the command as a whole."""


def run(arguments: Sequence[str] | None) -> int:
    """Run a command line; the exit code."""
    try:
        code = build()(arguments, prog_name="kvstore", standalone_mode=False)
    except typer.TyperException as error:
        if message := " ".join(error.format_message().split()):  # empty: the help was shown
            line = f"kvstore: {message} (try --help)"
            console = Console(stderr=True, highlight=False)
            console.print(line, style="bold red", markup=False, soft_wrap=True)
        return USAGE
    except typer.Abort:
        return FAILURE
    return code if isinstance(code, int) else 0
