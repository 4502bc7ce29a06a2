"""The command status: what a cluster is made of, and how each part of it is."""

from rich.table import Table
from rich.text import Text

from kvstore.commands.arguments import JSONOption, URLArgument
from kvstore.commands.ask_mgmtd import Answer, number_of, operate, options_of, rows_of, words_of
from kvstore.commands.display import percent_text, size_text
from kvstore.commands.report import Report, reporting

CHAINS_SHOWN_MAX = 200
"""Chains that the table for people shows; JSON has them all."""
COLOURS = {
    "serving": "green",
    "active": "green",
    "spare": "cyan",
    "syncing": "yellow",
    "waiting": "yellow",
    "draining": "yellow",
    "lastsrv": "red",
    "offline": "red",
    "failed": "red",
    "disabled": "red",
}


def status(url: URLArgument, as_json: JSONOption = False) -> None:
    """Show the nodes, chains and targets of a cluster, and what needs an operator.

    Examples:

    - `kvstore status kv://127.0.0.1:7300`
    - `kvstore status kv://127.0.0.1:7300 --json`
    """
    with reporting(as_json=as_json) as report:
        found = operate(options_of(url), "status")
        problems = found.get("problems", [])
        report.answer({"ok": not problems, **found})
        show(report, found)


def show(report: Report, found: Answer) -> None:
    """Show a cluster to people."""
    report.say(
        f"cluster {words_of(found, 'cluster')}, mgmtd {words_of(found, 'primary')}, epoch "
        f"{words_of(found, 'epoch')}, routing info {words_of(found, 'routing_version')}"
    )
    report.show(nodes_table(found))
    report.show(chains_table(found))
    report.show(targets_table(found))
    problems = found.get("problems", [])
    assert isinstance(problems, list)
    for problem in problems:
        report.say(f"! {problem}")
    if not problems:
        report.say("all is well")


def nodes_table(found: Answer) -> Table:
    """Return a row for each node."""
    table = Table("node", "state", "address", "rack", "lease", "targets", title="Nodes")
    table.title_justify = "left"
    for node in rows_of(found, "nodes"):
        addresses, targets = node.get("addresses"), node.get("targets")
        assert isinstance(addresses, list)
        assert isinstance(targets, list)
        lease_ms = number_of(node, "lease_ms")
        table.add_row(
            words_of(node, "id"),
            coloured(words_of(node, "state")),
            ", ".join(addresses),
            words_of(node, "rack"),
            f"{lease_ms:,} ms" if lease_ms else "",
            ", ".join(map(str, targets)),
        )
    return table


def chains_table(found: Answer) -> Table:
    """Return a row for each chain, its targets from head to tail."""
    table = Table("chain", "version", "slots", "targets", title="Chains", title_justify="left")
    chains = rows_of(found, "chains")
    for chain in chains[:CHAINS_SHOWN_MAX]:
        line = Text()
        for place in rows_of(chain, "targets"):
            line.append(" → " if line else "")
            line.append(f"{words_of(place, 'target')}", style=colour_of(words_of(place, "state")))
            line.append(f" (node {words_of(place, 'node')})", style="dim")
        wanted = number_of(chain, "wanted")
        if wanted > len(rows_of(chain, "targets")):
            line.append(f", {wanted} wanted", style="red")
        table.add_row(
            words_of(chain, "id"), words_of(chain, "version"), words_of(chain, "slots"), line
        )
    if len(chains) > CHAINS_SHOWN_MAX:
        table.add_row(f"and {len(chains) - CHAINS_SHOWN_MAX:,} more: see --json", "", "", "")
    return table


def targets_table(found: Answer) -> Table:
    """Return a row for each target."""
    table = Table(title="Targets", title_justify="left")
    for name in ("target", "node", "chain", "state"):
        table.add_column(name)
    for name in ("used", "utilisation", "objects", "resync"):
        table.add_column(name, justify="right")
    table.add_column("error")
    for target in rows_of(found, "targets"):
        used, free = number_of(target, "used_bytes"), number_of(target, "free_bytes")
        table.add_row(
            words_of(target, "id"),
            words_of(target, "node"),
            words_of(target, "chain"),
            coloured(words_of(target, "state")),
            size_text(used),
            percent_text(used / (used + free)) if used + free else "",
            f"{number_of(target, 'objects'):,}",
            resync_text(target),
            words_of(target, "error"),
        )
    return table


def resync_text(target: Answer) -> str:
    """Return how far a target's resync is; empty where there is none."""
    total = number_of(target, "resync_total")
    return f"{number_of(target, 'resync_done'):,} of {total:,}" if total else ""


def coloured(state: str) -> Text:
    """Return a state in its colour."""
    return Text(state, style=colour_of(state))


def colour_of(state: str) -> str:
    """Return the colour of a state."""
    return COLOURS.get(state, "")
