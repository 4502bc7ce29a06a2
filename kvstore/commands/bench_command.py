"""The command bench: sets, gets from memory and from the device, and exists, for each size."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from kvstore.client import InvalidOptionError
from kvstore.commands.arguments import JSONOption, URLArgument
from kvstore.commands.display import percent_text, short_size_text
from kvstore.commands.replay import BATCH_COUNT_MAX
from kvstore.commands.report import Report, reporting
from kvstore.commands.workload import BenchPlan, BenchRow, Workload
from kvstore.parsers import parse_size

VALUE_SIZE_MAX = 64 << 20
CALLERS_MAX = 256


def bench(
    url: URLArgument,
    sizes: Annotated[
        str, typer.Option(help="Sizes of values, separated by commas.")
    ] = "4K,64K,1M,4M",
    batch_count: Annotated[
        int,
        typer.Option(
            "--batch", min=1, max=BATCH_COUNT_MAX, help="Keys in one call, 32 MiB of them at most."
        ),
    ] = 64,
    clients: Annotated[
        int,
        typer.Option(
            min=0,
            max=CALLERS_MAX,
            help="Asyncio tasks that call, on one event loop; 0: threads do.",
        ),
    ] = 0,
    threads: Annotated[
        int,
        typer.Option(
            min=1, max=CALLERS_MAX, help="Threads that call; with --clients, the store's workers."
        ),
    ] = 1,
    seconds: Annotated[
        float, typer.Option(min=0.01, max=3600, help="Seconds of each measurement, at least.")
    ] = 1.0,
    as_json: JSONOption = False,
) -> None:
    """Measure a store: set, get, get cold and exists, for each size of values.

    get reads from the DRAM tier. get cold reads from the device: each value once after the store
    was opened anew; a kv:// store, whose nodes go on, has no such figure. exists asks for keys that
    exist. Latencies are those of a call, which is a batch. The keys begin with kvstore-bench/ and
    are deleted in the end; what else the store holds stays as it is.

    One process at a time has a file:// store open, so callers are threads or asyncio tasks of this
    process: --threads 4 blocks in four threads, --clients 64 --threads 4 awaits in 64 tasks while
    four threads of the store, or of its client, work.

    Examples:

    - `kvstore bench file:///var/cache/bench`
    - `kvstore bench kv://127.0.0.1:7400/default`
    - `kvstore bench file:///var/cache/bench --sizes 64K --batch 16 --threads 4 --seconds 5`
    - `kvstore bench 'file:///var/cache/bench?durability=sync' --clients 64 --batch 1 --json`
    """
    plan = BenchPlan(url, batch_count, clients, threads, seconds)
    wanted = [size_of(text) for text in sizes.split(",")]
    with reporting(as_json=as_json) as report:
        rows: list[BenchRow] = []
        with report.progress() as progress:
            task = progress.add_task("bench", total=plan.measurements * len(wanted), detail="")
            for size in wanted:
                for row in Workload(plan, size).measure():
                    rows.append(row)
                    progress.update(
                        task, advance=1, detail=f"{row.operation} {short_size_text(size)}"
                    )
        answer_rows(report, plan, rows)


def size_of(text: str) -> int:
    """Return the bytes of a value."""
    try:
        size = parse_size(text)
    except InvalidOptionError as error:
        raise typer.BadParameter(f"--sizes: {error}") from error
    if not 0 < size <= VALUE_SIZE_MAX:
        raise typer.BadParameter(f"--sizes: {text!r} is not between 1 and 64MiB")
    return size


def answer_rows(report: Report, plan: BenchPlan, rows: list[BenchRow]) -> None:
    """Show what was measured."""
    report.answer(
        {
            "results": [asdict(row) for row in rows],
            "clients": plan.clients,
            "threads": plan.threads,
            "seconds": plan.seconds,
        }
    )
    callers = f"{plan.clients} clients, " if plan.clients else ""
    table = Table(title=f"{callers}{plan.threads} threads", title_justify="left")
    table.add_column("size", justify="right")
    table.add_column("operation", style="cyan")
    for name in ("batch", "GB/s", "keys/s", "p50 ms", "p99 ms", "from memory"):
        table.add_column(name, justify="right")
    for index, row in enumerate(rows, 1):
        table.add_row(
            short_size_text(row.size),
            row.operation,
            str(row.batch),
            "" if row.gb_per_s is None else f"[bold]{row.gb_per_s:.2f}[/bold]",
            f"{row.keys_per_s:,.0f}",
            f"{row.p50_ms:.3f}",
            f"{row.p99_ms:.3f}",
            "" if row.memory_hit_ratio is None else percent_text(row.memory_hit_ratio),
            end_section=index % plan.measurements == 0,
        )
    report.show(table)
