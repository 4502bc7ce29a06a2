"""check --cluster: whether the replicas of every chain hold the same, and what differs."""

from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from kvstore.commands.ask_mgmtd import ask_mgmtd, options_of
from kvstore.commands.compare import ComparedChain, Difference, Facts, compare_chains
from kvstore.commands.display import facts_table, key_json, key_text
from kvstore.commands.report import Report
from kvstore.native.client import NativeClient
from kvstore.native.listing import split_stored_key
from kvstore.options import ClientOptions

ROWS_SHOWN_MAX = 50
"""Keys that the table for people shows; JSON has them all."""
CLOSE_TIMEOUT_S = 1.0


def check_cluster(report: Report, url: str) -> None:
    """Compare replicas, show what differs, and end with an error if anything does."""
    chains = compared(report, options_of(url))
    report.answer(chains_json(chains))
    show(report, chains)
    count = sum(len(chain.differences) for chain in chains)
    if count:
        report.fail(f"{count:,} keys differ between the replicas of their chain")
    silent = [chain.chain for chain in chains if not chain.replicas]
    if silent:
        report.fail(f"chain {silent[0]} has no target that serves: nothing was compared there")


def compared(report: Report, options: ClientOptions) -> list[ComparedChain]:
    """Compare every chain of a cluster, with a progress bar."""
    routing = ask_mgmtd(options, lambda mgmtd: mgmtd.routing(timeout_s=options.timeout_s))
    client = NativeClient(options)
    chains: list[ComparedChain] = []
    try:
        with report.progress() as progress:
            task = progress.add_task("compare", total=len(routing.chains), detail="")
            for chain in compare_chains(client, routing):
                chains.append(chain)
                progress.update(task, advance=1, detail=f"{objects_of(chains):,} objects")
    finally:
        client.close(CLOSE_TIMEOUT_S)
    return chains


def objects_of(chains: list[ComparedChain]) -> int:
    """Return how many objects were compared."""
    return sum(chain.objects for chain in chains)


def chains_json(chains: list[ComparedChain]) -> dict[str, object]:
    """Return everything for programs."""
    return {
        "ok": all(chain.replicas and not chain.differences for chain in chains),
        "objects": objects_of(chains),
        "chains": [
            {
                "chain": chain.chain,
                "version": chain.version,
                "objects": chain.objects,
                "replicas": [{"target": each.target, "node": each.node} for each in chain.replicas],
                "different": [difference_json(each) for each in chain.differences],
            }
            for chain in chains
        ],
    }


def difference_json(difference: Difference) -> dict[str, object]:
    """Return a key, and what each replica says of it; null: it has no such key."""
    tenant, name_space, key = split_stored_key(difference.stored_key)
    said = [
        None
        if facts is None
        else {name: value for name, value in asdict(facts).items() if name != "stored_key"}
        for facts in difference.facts
    ]
    return {"tenant": tenant, "namespace": name_space, **key_json(key), "replicas": said}


def show(report: Report, chains: list[ComparedChain]) -> None:
    """Show what was compared, and the first keys that differ."""
    table = facts_table("Replicas")
    table.add_row("chains", f"{len(chains):,}")
    table.add_row("objects", f"{objects_of(chains):,}")
    table.add_row("replicas", f"{sum(len(chain.replicas) for chain in chains):,}")
    count = sum(len(chain.differences) for chain in chains)
    differing = f"[bold red]{count:,}[/]" if count else "[green]none[/green]"
    table.add_row("keys that differ", differing)
    report.show(table)
    if count:
        report.show(differences_table(chains))


def differences_table(chains: list[ComparedChain]) -> Table:
    """Return a row for each key and replica."""
    table = Table("chain", "key", "target", "version", "size", "checksum")
    rows = [(chain, each) for chain in chains for each in chain.differences]
    for chain, difference in rows[:ROWS_SHOWN_MAX]:
        tenant, name_space, key = split_stored_key(difference.stored_key)
        name = f"{tenant}/{name_space}/{key_text(key)}"
        for replica, facts in zip(chain.replicas, difference.facts, strict=True):
            table.add_row(str(chain.chain), Text(name), str(replica.target), *cells(facts))
    if len(rows) > ROWS_SHOWN_MAX:
        table.add_row("", f"and {len(rows) - ROWS_SHOWN_MAX:,} more: see --json", "", "", "", "")
    return table


def cells(facts: Facts) -> tuple[str, str, str]:
    """Return what a replica says of a key."""
    if facts is None:
        return "[red]none[/red]", "", ""
    version = f"{facts.version >> 40}.{facts.version & (1 << 40) - 1}"
    return version, f"{facts.size:,}", f"{facts.checksum:08x}"
