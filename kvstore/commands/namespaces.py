"""The commands ns ...: namespaces of a cluster, and the policy of each."""

from typing import Annotated, Literal, TypeAlias

import typer
from rich.table import Table

from kvstore.commands.arguments import JSONOption, URLArgument
from kvstore.commands.ask_mgmtd import Answer, number_of, operate, options_of, rows_of, words_of
from kvstore.commands.display import size_text
from kvstore.commands.report import Report, reporting
from kvstore.parsers import seconds_of, size_of

ReplicasOption: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, max=16, help="Copies of each object.", show_default=False),
]
DurabilityOption: TypeAlias = Annotated[
    Literal["memory", "disk", "sync"] | None,
    typer.Option(help="What an acknowledged set survives.", show_default=False),
]
EvictionOption: TypeAlias = Annotated[
    Literal["none", "cache"] | None,
    typer.Option(help="What a full chain does.", show_default=False),
]
TTLOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--ttl",
        metavar="SECONDS",
        help="Lifetime of objects set without one of their own; 0: for ever.",
        show_default=False,
    ),
]
SizeMaxOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Bytes of all values; 0: no limit.", show_default=False),
]
ObjectsMaxOption: TypeAlias = Annotated[
    int | None, typer.Option(min=0, help="Keys; 0: no limit.", show_default=False)
]


def build() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(name="ns", help="Namespaces: the URL's path names one.", no_args_is_help=True)
    app.command("create")(create)
    app.command("list")(list_all)
    app.command("set")(change)
    return app


def create(
    url: URLArgument,
    replicas: ReplicasOption = None,
    durability: DurabilityOption = None,
    eviction: EvictionOption = None,
    ttl_s: TTLOption = None,
    size_max: SizeMaxOption = None,
    objects_max: ObjectsMaxOption = None,
    as_json: JSONOption = False,
) -> None:
    """Make the namespace that the URL names.

    Examples:

    - `kvstore ns create kv://mgmtd:7300/pages --eviction cache --ttl 86400`
    """
    with reporting(as_json=as_json) as report:
        policy = policy_of(replicas, durability, eviction, ttl_s, size_max, objects_max)
        put(report, url, "ns_create", policy)


def change(
    url: URLArgument,
    replicas: ReplicasOption = None,
    durability: DurabilityOption = None,
    eviction: EvictionOption = None,
    ttl_s: TTLOption = None,
    size_max: SizeMaxOption = None,
    objects_max: ObjectsMaxOption = None,
    as_json: JSONOption = False,
) -> None:
    """Change the policy of the namespace that the URL names; what is not given stays.

    Examples:

    - `kvstore ns set kv://mgmtd:7300/pages --ttl 3600`
    """
    with reporting(as_json=as_json) as report:
        policy = policy_of(replicas, durability, eviction, ttl_s, size_max, objects_max)
        put(report, url, "ns_set", policy)


def list_all(url: URLArgument, as_json: JSONOption = False) -> None:
    """List the namespaces of a cluster.

    Examples:

    - `kvstore ns list kv://mgmtd:7300`
    """
    with reporting(as_json=as_json) as report:
        found = operate(options_of(url), "ns_list")
        report.answer(found)
        report.show(policies_table(rows_of(found, "namespaces")))


def policy_of(
    replicas: int | None,
    durability: str | None,
    eviction: str | None,
    ttl_s: str | None,
    size_max: str | None,
    objects_max: int | None,
) -> dict[str, object]:
    """Return the fields of a policy that are given."""
    return {
        "replicas": replicas,
        "durability": durability,
        "eviction": eviction,
        "ttl_ms": None if ttl_s is None else round(seconds_of("--ttl", ttl_s) * 1000),
        "size_max": None if size_max is None else size_of("--size-max", size_max),
        "objects_max": objects_max,
    }


def put(report: Report, url: str, operation: str, policy: dict[str, object]) -> None:
    """Make or change a namespace, and show what it is now."""
    options = options_of(url)
    done = operate(options, operation, name=options.name_space, **policy)
    report.answer(done)
    made = done.get("namespace")
    assert isinstance(made, dict)
    report.show(policies_table([made]))


def policies_table(policies: list[Answer]) -> Table:
    """Return a row for each namespace."""
    table = Table("namespace", "replicas", "durability", "eviction", "ttl", "bytes", "objects")
    for policy in policies:
        ttl_ms, size_max = number_of(policy, "ttl_ms"), number_of(policy, "size_max")
        objects_max = number_of(policy, "objects_max")
        table.add_row(
            words_of(policy, "name"),
            words_of(policy, "replicas"),
            words_of(policy, "durability"),
            words_of(policy, "eviction"),
            f"{ttl_ms / 1000:g} s" if ttl_ms else "for ever",
            size_text(size_max) if size_max else "no limit",
            f"{objects_max:,}" if objects_max else "no limit",
        )
    return table
