"""The command demo: a sample trace through a durable store that is closed, opened and verified.

The sample is what tools/traces.py writes.
"""

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated
from urllib.parse import quote

import typer
from rich.padding import Padding

from kvstore.client import Stats, Verification, connect_sync
from kvstore.commands.arguments import JSONOption
from kvstore.commands.check import verify
from kvstore.commands.display import facts_table, percent_text, size_text
from kvstore.commands.replay import ReplayFigures, quantile_ms
from kvstore.commands.replay_command import (
    BATCH_COUNT,
    ReplayPlan,
    fail_if_wrong,
    run,
)
from kvstore.commands.report import Report, reporting
from kvstore.commands.trace import TraceRequest, read_trace

SAMPLE = "sample_trace.jsonl"
BLOCK_SIZE = 64 << 10
CAPACITY = "1GiB"

NEXT_STEPS = """[bold]Try next[/bold]

  echo hello | kvstore set file:///tmp/pages greeting   [dim]a store of your own[/dim]
  kvstore get file:///tmp/pages greeting
  kvstore inspect file:///tmp/pages                     [dim]what it is made of[/dim]
  kvstore bench file:///tmp/pages                       [dim]how fast it is here[/dim]
  kvstore replay --help                                 [dim]a trace of your own[/dim]"""


@dataclass(frozen=True, slots=True)
class DemoFigures:
    """What came of it."""

    replay: ReplayFigures
    recovery_s: float
    recovered: Stats
    verification: Verification
    verify_s: float
    seconds: float


def demo(
    directory: Annotated[
        Path | None,
        typer.Option(
            help="Where to make the temporary store; it is removed in the end.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Replay a sample trace into a durable store, open it again, verify it: a few seconds.

    The sample has the shape of real traces of LLM requests: chats, and long documents that are
    asked about again and again. The store is temporary and takes about 200 MB.

    Examples:

    - `kvstore demo`
    - `kvstore demo --directory /mnt/nvme`
    """
    with reporting(as_json=as_json) as report:
        with as_file(files("kvstore.commands") / SAMPLE) as sample:
            requests = read_trace(sample)
        with TemporaryDirectory(prefix="kvstore-demo-", dir=directory) as temporary:
            found = play(report, Path(temporary).resolve(), requests)
        report.answer(demo_json(found))
        show(report, found)
        fail_if_wrong(report, found.replay)
        if found.verification.bad:
            report.fail(f"{len(found.verification.bad):,} values are damaged")


def play(report: Report, directory: Path, requests: list[TraceRequest]) -> DemoFigures:
    """Replay, close, open, verify."""
    start_s = perf_counter()
    url = f"file://{quote(str(directory))}"
    plan = ReplayPlan(BLOCK_SIZE, BATCH_COUNT, None)
    with connect_sync(f"{url}/durable", durability="disk", capacity=CAPACITY) as store:
        figures = run(report, store, requests, plan)

    reopening_s = perf_counter()
    with connect_sync(f"{url}/durable", mode="existing", scrub_bytes_per_s=0) as store:
        recovery_s = perf_counter() - reopening_s
        recovered = store.stats()
        verifying_s = perf_counter()
        verification = verify(report, store)
        verify_s = perf_counter() - verifying_s
    return DemoFigures(
        replay=figures,
        recovery_s=recovery_s,
        recovered=recovered,
        verification=verification,
        verify_s=verify_s,
        seconds=perf_counter() - start_s,
    )


def demo_json(found: DemoFigures) -> dict[str, object]:
    """Return everything for programs."""
    figures = found.replay
    return {
        "requests": figures.requests,
        "blocks": figures.blocks,
        "hit_blocks": figures.hit_blocks,
        "hit_ratio": figures.hit_ratio,
        "bytes_in": figures.bytes_in,
        "bytes_out": figures.bytes_out,
        "gb_per_s": figures.gb_per_s,
        "p50_ms": quantile_ms(figures.request_ns, 0.50),
        "p99_ms": quantile_ms(figures.request_ns, 0.99),
        "verify_failures": figures.verify_failures,
        "recovery_s": found.recovery_s,
        "recovered_objects": found.recovered.objects,
        "verified_objects": found.verification.objects,
        "verified_bytes": found.verification.bytes,
        "bad_objects": len(found.verification.bad),
        "seconds": found.seconds,
    }


def show(report: Report, found: DemoFigures) -> None:
    """Show the figures, and what to try next."""
    figures, verification = found.replay, found.verification
    table = facts_table("A sample of LLM requests through a durable store")
    table.add_row("requests", f"{figures.requests:,}")
    table.add_row(f"blocks of {size_text(BLOCK_SIZE)}", f"{figures.blocks:,}")
    table.add_row(
        "found in the store",
        f"{figures.hit_blocks:,}, [bold green]{percent_text(figures.hit_ratio)}[/bold green]",
    )
    table.add_row("stored, read", f"{size_text(figures.bytes_in)}, {size_text(figures.bytes_out)}")
    table.add_row("throughput", f"[bold]{figures.gb_per_s:.2f} GB/s[/bold]")
    table.add_row("a request, p50", f"{quantile_ms(figures.request_ns, 0.50):.2f} ms")
    table.add_row("a request, p99", f"{quantile_ms(figures.request_ns, 0.99):.2f} ms")
    wrong = figures.verify_failures
    table.add_row("wrong bytes", f"[bold red]{wrong:,} values[/]" if wrong else "[green]none[/]")
    table.add_section()
    table.add_row("opened again in", f"[bold]{1000 * found.recovery_s:.1f} ms[/bold]")
    table.add_row("objects there again", f"{found.recovered.objects:,}")
    speed = verification.bytes / 1e9 / found.verify_s
    table.add_row("read and verified from the device", f"{speed:.2f} GB/s")
    damaged = len(verification.bad)
    table.add_row("damaged", f"[bold red]{damaged:,}[/]" if damaged else "[green]none[/green]")
    table.add_row("time in all", f"{found.seconds:.1f} s")
    report.show(table)
    report.show(Padding(NEXT_STEPS, (1, 0, 0, 0)))
