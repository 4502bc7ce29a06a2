"""The command check: opens a store without changing it, and reads every value."""

from time import perf_counter
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from kvstore.client import Stats, Store, Verification
from kvstore.commands.arguments import JSONOption, URLArgument
from kvstore.commands.check_cluster import check_cluster
from kvstore.commands.display import facts_table, key_json, key_text, size_text
from kvstore.commands.opening import open_store
from kvstore.commands.report import Report, reporting

BAD_ROWS_MAX = 50
"""Bad keys that the table for people shows; JSON has them all."""


def check(
    url: URLArgument,
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster",
            help="Compare the replicas of every chain instead: keys, versions, sizes, checksums.",
        ),
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Verify a store that nobody has open: every structure, and the checksum of every value.

    Opening checks the superblock, the checkpoint, the journal and every extent that they name; what
    is damaged there is an error with file and offset. Then every value is read. Nothing in the
    store is changed. The exit code is 1 when anything is wrong.

    The nodes of a kv:// store check their values while they serve, on every replica. With
    --cluster, what the replicas of each chain say of every key is compared.

    Examples:

    - `kvstore check file:///var/cache/pages`
    - `kvstore check file:///var/cache/pages --json`
    - `kvstore check kv://127.0.0.1:7300/default`
    - `kvstore check --cluster kv://127.0.0.1:7300`
    """
    with reporting(as_json=as_json) as report:
        if cluster:
            check_cluster(report, url)
            return
        start_s = perf_counter()
        with open_store(url, mode="read_only", scrub_bytes_per_s=0) as store:
            opening_s = perf_counter() - start_s
            found = verify(report, store)
            stats = store.stats()
        report.answer(check_json(found, stats, opening_s, perf_counter() - start_s))
        show(report, found, stats, opening_s)
        if found.bad:
            report.fail(f"{len(found.bad):,} of {found.objects:,} values are damaged")


def verify(report: Report, store: Store) -> Verification:
    """Read every value, with a progress bar in bytes."""
    with report.progress() as progress:
        task = progress.add_task("check", total=store.stats().value_size, detail="")

        def on_progress(found: Verification) -> None:
            detail = f"{found.objects:,} values, {len(found.bad):,} damaged"
            progress.update(task, completed=found.bytes, detail=detail)

        return store.verify(on_progress)


def check_json(
    found: Verification, stats: Stats, opening_s: float, seconds: float
) -> dict[str, object]:
    """Return everything for programs."""
    return {
        "ok": not found.bad,
        "objects": stats.objects,
        "verified_objects": found.objects,
        "verified_bytes": found.bytes,
        "bad": [
            {**key_json(bad.key), "size": bad.size, "status": bad.status.name} for bad in found.bad
        ],
        "recovered_objects": stats.recovered_objects,
        "recovered_records": stats.recovered_records,
        "recovery_cut_size": stats.recovery_cut_size,
        "recovery_dropped": stats.recovery_dropped,
        "opening_s": opening_s,
        "seconds": seconds,
    }


def show(report: Report, found: Verification, stats: Stats, opening_s: float) -> None:
    """Show what was read, and what is damaged."""
    table = facts_table("Check")
    table.add_row("objects", f"{stats.objects:,}")
    table.add_row("opened in", f"{1000 * opening_s:.1f} ms")
    table.add_row("journal records replayed", f"{stats.recovered_records:,}")
    table.add_row("torn end of the journal, cut", size_text(stats.recovery_cut_size))
    table.add_row("values read", f"{found.objects:,}, {size_text(found.bytes)}")
    damaged = f"[bold red]{len(found.bad):,}[/]" if found.bad else "[green]none[/green]"
    table.add_row("damaged values", damaged)
    report.show(table)
    if found.bad:
        report.show(bad_table(found))


def bad_table(found: Verification) -> Table:
    """Return the damaged keys, the first ones."""
    table = Table("damaged key", "size", "version", "what is wrong")
    for bad in found.bad[:BAD_ROWS_MAX]:
        key = Text(key_text(bad.key))
        table.add_row(key, f"{bad.size:,}", str(bad.version), bad.status.name.lower())
    if len(found.bad) > BAD_ROWS_MAX:
        table.add_row(f"and {len(found.bad) - BAD_ROWS_MAX:,} more: see --json", "", "", "")
    return table
