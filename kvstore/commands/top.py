"""The command top: live rates and latencies of the nodes that serve a store."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from kvstore.client import InvalidURLError
from kvstore.client.served_store import NodeSurvey, ServedStore
from kvstore.client.url import parse_url
from kvstore.commands.arguments import URLArgument
from kvstore.commands.display import percent_text, size_text
from kvstore.commands.rates import Look, Rates, rates_between, together
from kvstore.commands.report import Report, reporting
from kvstore.options import ClientOptions

INTERVAL_S_MIN = 0.05
CLOSE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """All nodes over one interval."""

    time_s: float
    """Unix time of its end."""
    interval_s: float
    surveys: tuple[NodeSurvey, ...]
    rates: dict[int, Rates]
    """Of the nodes that answered, also at its beginning."""
    total: Rates | None


def top(
    url: URLArgument,
    interval_s: Annotated[
        float,
        typer.Option("--interval", min=INTERVAL_S_MIN, max=3600, help="Seconds between two looks."),
    ] = 1.0,
    count: Annotated[
        int,
        typer.Option(min=0, help="How many looks to show; 0: until it is interrupted."),
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line for each look.")
    ] = False,
) -> None:
    """Show what the nodes of a store do: rates, latencies, hits, for each node and together.

    Latencies are those of requests, from their last byte received to the last byte of the reply
    sent. A node that does not answer is shown with the reason.

    Examples:

    - `kvstore top kv://127.0.0.1:7400/default`
    - `kvstore top kv://127.0.0.1:7400/default --interval 5 --json`
    """
    with reporting(as_json=as_json) as report, suppress(KeyboardInterrupt):
        options = parse_url(url, {})
        if not isinstance(options, ClientOptions):
            raise InvalidURLError(f"{url!r}: top is about stores that nodes serve: kv://node:port")
        store = ServedStore(options)
        try:
            samples = look_again(store, interval_s, count)
            if as_json:
                write_lines(samples)
            else:
                show_tables(report, samples)
        finally:
            store.refuse()
            store.close(CLOSE_TIMEOUT_S)


def look_again(store: ServedStore, interval_s: float, count: int) -> Iterator[Sample]:
    """Yield a sample after each interval."""
    before = looks_of(tuple(store.survey()), time.monotonic())
    start_s, shown = time.monotonic(), 0
    while count == 0 or shown < count:
        shown += 1
        time.sleep(max(0.0, start_s + shown * interval_s - time.monotonic()))
        surveys = tuple(store.survey())
        after = looks_of(surveys, time.monotonic())
        yield sample_of(surveys, before, after)
        before = after


def looks_of(surveys: tuple[NodeSurvey, ...], time_s: float) -> dict[int, Look]:
    """Return the counters of the nodes that answered."""
    return {
        survey.node: Look(time_s, survey.statistics, tuple(survey.targets.values()))
        for survey in surveys
        if survey.statistics is not None
    }


def sample_of(
    surveys: tuple[NodeSurvey, ...], before: dict[int, Look], after: dict[int, Look]
) -> Sample:
    """Return what happened between two looks."""
    both = [node for node in after if node in before]
    rates = {node: rates_between(before[node], after[node]) for node in both}
    total, interval_s = None, 0.0
    if both:
        first = together([before[node] for node in both])
        last = together([after[node] for node in both])
        total, interval_s = rates_between(first, last), last.time_s - first.time_s
    return Sample(time.time(), interval_s, surveys, rates, total)


def write_lines(samples: Iterator[Sample]) -> None:
    """Write a JSON object for each sample at once."""
    for sample in samples:
        sys.stdout.write(json.dumps(sample_json(sample)) + "\n")
        sys.stdout.flush()


def sample_json(sample: Sample) -> dict[str, object]:
    """Return everything for programs."""
    nodes: list[dict[str, object]] = []
    for survey in sample.surveys:
        row: dict[str, object] = {"node": survey.node, "address": str(survey.address)}
        rates = sample.rates.get(survey.node)
        if rates is not None:
            row |= asdict(rates)
        elif survey.error:
            row["error"] = survey.error
        nodes.append(row)
    return {
        "time_s": sample.time_s,
        "interval_s": sample.interval_s,
        "nodes": nodes,
        "total": None if sample.total is None else asdict(sample.total),
    }


def show_tables(report: Report, samples: Iterator[Sample]) -> None:
    """Show one table that changes on a terminal, or one after the other elsewhere."""
    if not report.interactive:
        for sample in samples:
            report.show(sample_table(sample))
        return
    with Live(console=report.console, auto_refresh=False) as live:
        for sample in samples:
            live.update(sample_table(sample), refresh=True)


def sample_table(sample: Sample) -> Table:
    """Return a row for each node, and one for all."""
    table = Table(title=time.strftime("%H:%M:%S", time.localtime(sample.time_s)))
    table.title_justify = "left"
    table.add_column("node", style="cyan", no_wrap=True)
    for name in ("conns", "keys/s", "in/s", "out/s", "hits", "from memory"):
        table.add_column(name, justify="right")
    for name in ("get p50, p99 ms", "set p50, p99 ms", "fails/s", "objects"):
        table.add_column(name, justify="right")
    for survey in sample.surveys:
        rates = sample.rates.get(survey.node)
        name = f"{survey.node} {survey.address}"
        if rates is None:
            table.add_row(name, f"[red]{survey.error or 'just came'}[/red]")
        else:
            table.add_row(name, *cells(rates))
    if sample.total is not None and len(sample.surveys) > 1:
        table.add_section()
        table.add_row("all", *cells(sample.total), style="bold")
    return table


def cells(rates: Rates) -> list[str]:
    """Return the figures of one row."""
    return [
        f"{rates.connections:,}",
        f"{rates.keys_per_s:,.0f}",
        size_text(rates.received_bytes_per_s),
        size_text(rates.sent_bytes_per_s),
        "" if rates.hit_ratio is None else percent_text(rates.hit_ratio),
        "" if rates.memory_hit_ratio is None else percent_text(rates.memory_hit_ratio),
        latency_text(rates, "get"),
        latency_text(rates, "set"),
        f"{rates.failures_per_s:,.0f}" if rates.failures_per_s else "",
        f"{rates.objects:,}",
    ]


def latency_text(rates: Rates, operation: str) -> str:
    """Return both quantiles of an operation, if there was any."""
    found = rates.operations.get(operation)
    return "" if found is None else f"{found.p50_ms:.2f}, {found.p99_ms:.2f}"
