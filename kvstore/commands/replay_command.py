"""The command replay: a trace of real requests against a store, with the figures that matter."""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from rich.table import Table

from kvstore.client import Stats, Store
from kvstore.client.url import Options, serves_nodes
from kvstore.commands.arguments import JSONOption, URLArgument, size_argument
from kvstore.commands.display import facts_table, percent_text, size_text
from kvstore.commands.opening import open_store
from kvstore.commands.replay import BATCH_COUNT_MAX, Replay, ReplayFigures, quantile_ms
from kvstore.commands.report import Report, reporting
from kvstore.commands.trace import TraceRequest, read_trace

BATCH_COUNT = 512
"""Keys in one call: the whole prompt of nearly every request."""
BLOCK_SIZE_MAX = 64 << 20
SPARE_SIZE = 256 << 20
"""Capacity beyond what the blocks need, so that their count and not their bytes is the limit."""


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What to replay, and how."""

    block_size: int
    batch_count: int
    capacity_blocks: int | None


def replay(
    trace: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE",
            help="A .jsonl or .jsonl.gz in the Mooncake format.",
            show_default=False,
        ),
    ],
    url: URLArgument,
    block_size: Annotated[
        int,
        typer.Option(
            "--block-bytes",
            metavar="SIZE",
            parser=size_argument,
            help="Bytes of one block's value; 64KiB unless given.",
            show_default=False,
        ),
    ] = 64 << 10,
    batch_count: Annotated[
        int, typer.Option("--batch", min=1, max=BATCH_COUNT_MAX, help="Keys in one call.")
    ] = BATCH_COUNT,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Replay the first N requests only.", show_default=False),
    ] = None,
    capacity_blocks: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Open the store as a cache of N blocks, and compare its hits with LRU's.",
            show_default=False,
        ),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Replay a trace of LLM requests, and check every byte that comes back.

    For each request in the order of time: match_prefix over its blocks, batch_get_into of the hits,
    batch_set of the rest. The content of a block is made from its id, so that a wrong byte is seen.
    Figures of time are those of the store's calls alone. The exit code is 1 when a value was wrong
    or could not be stored.

    Examples:

    - `kvstore replay trace.jsonl file:///var/cache/pages`
    - `kvstore replay trace.jsonl.gz file:///tmp/cache --block-bytes 4KiB --capacity-blocks 10000`
    - `kvstore replay trace.jsonl 'file:///tmp/s?durability=sync' --limit 500 --json`
    """
    plan = checked_plan(url, ReplayPlan(block_size, batch_count, capacity_blocks))
    with reporting(as_json=as_json) as report:
        requests = read_trace(trace, limit)
        if not requests:
            report.fail(f"{trace}: no request in it")
        start_s = perf_counter()
        with open_store(url, **cache_options(plan)) as store:
            if objects := store.stats().objects:
                report.note(f"the store holds {objects:,} objects already, which may be hits")
            figures = run(report, store, requests, plan)
            stats = store.stats()
        seconds = perf_counter() - start_s
        report.answer(replay_json(figures, stats, plan, seconds))
        report.show(replay_table(figures, stats, plan, seconds))
        fail_if_wrong(report, figures)


def checked_plan(url: str, plan: ReplayPlan) -> ReplayPlan:
    """Return the plan, if it makes sense for the store."""
    if not 0 < plan.block_size <= BLOCK_SIZE_MAX:
        raise typer.BadParameter("--block-bytes is between 1 and 64MiB")
    if plan.capacity_blocks is not None and serves_nodes(url):
        raise typer.BadParameter(
            "--capacity-blocks opens a store as a cache, and nodes have theirs open already: "
            "start them with --eviction cache and a --capacity"
        )
    return plan


def cache_options(plan: ReplayPlan) -> Options:
    """Return the options that make a store a cache of so many blocks."""
    if plan.capacity_blocks is None:
        return {}
    return {
        "eviction": "cache",
        "objects_max": plan.capacity_blocks,
        "capacity": plan.capacity_blocks * plan.block_size * 5 // 4 + SPARE_SIZE,
    }


def run(
    report: Report, store: Store, requests: list[TraceRequest], plan: ReplayPlan
) -> ReplayFigures:
    """Serve every request, with a progress bar."""
    replay = Replay(store, plan.block_size, plan.batch_count, plan.capacity_blocks)
    figures = replay.figures
    with report.progress() as progress:
        task = progress.add_task("replay", total=len(requests), detail="")
        for request in requests:
            replay.serve(request)
            detail = f"{percent_text(figures.hit_ratio)} hits"
            progress.update(task, completed=figures.requests, detail=detail)
    return figures


def replay_json(
    figures: ReplayFigures, stats: Stats, plan: ReplayPlan, seconds: float
) -> dict[str, object]:
    """Return everything for programs."""
    return {
        "requests": figures.requests,
        "blocks": figures.blocks,
        "hit_blocks": figures.hit_blocks,
        "hit_ratio": figures.hit_ratio,
        "lru_hit_blocks": figures.lru_hit_blocks,
        "lru_hit_ratio": figures.lru_hit_ratio,
        "bytes_in": figures.bytes_in,
        "bytes_out": figures.bytes_out,
        "gb_per_s": figures.gb_per_s,
        "p50_ms": quantile_ms(figures.request_ns, 0.50),
        "p99_ms": quantile_ms(figures.request_ns, 0.99),
        "verify_failures": figures.verify_failures,
        "set_blocks": figures.set_blocks,
        "set_failures": figures.set_failures,
        "evictions": stats.evictions,
        "objects": stats.objects,
        "memory_hits": stats.get_memory_hits,
        "store_s": figures.store_s,
        "seconds": seconds,
        "block_bytes": plan.block_size,
        "batch": plan.batch_count,
        "capacity_blocks": plan.capacity_blocks,
        "description": stats.description,
    }


def replay_table(figures: ReplayFigures, stats: Stats, plan: ReplayPlan, seconds: float) -> Table:
    """Return the figures for people."""
    table = facts_table("Replay")
    limit = "no limit" if plan.capacity_blocks is None else f"{plan.capacity_blocks:,} blocks"
    table.add_row("requests", f"{figures.requests:,}")
    table.add_row(f"blocks of {size_text(plan.block_size)}", f"{figures.blocks:,}")
    table.add_row("hits", f"[bold]{figures.hit_blocks:,}[/bold]")
    table.add_row("hit ratio", f"[bold green]{percent_text(figures.hit_ratio)}[/bold green]")
    table.add_row(f"hit ratio of LRU, {limit}", percent_text(figures.lru_hit_ratio))
    table.add_row("evicted", f"{stats.evictions:,}")
    table.add_row("in, out", f"{size_text(figures.bytes_in)}, {size_text(figures.bytes_out)}")
    table.add_row("throughput in the store's calls", f"{figures.gb_per_s:.2f} GB/s")
    table.add_row("request, p50", f"{quantile_ms(figures.request_ns, 0.50):.2f} ms")
    table.add_row("request, p99", f"{quantile_ms(figures.request_ns, 0.99):.2f} ms")
    table.add_row("time in all, in the store's calls", f"{seconds:.1f} s, {figures.store_s:.1f} s")
    wrong = figures.verify_failures
    table.add_row("wrong values", f"[bold red]{wrong:,}[/]" if wrong else "[green]0[/green]")
    return table


def fail_if_wrong(report: Report, figures: ReplayFigures) -> None:
    """End the command with an error when the store did not do what it promises."""
    if figures.verify_failures:
        report.fail(f"{figures.verify_failures:,} values came back wrong or not at all")
    if figures.set_failures:
        answer = figures.set_failure.name
        report.fail(f"{figures.set_failures:,} values were not stored; the store said {answer}")
