"""The command demo: a sample trace through a cluster of three nodes, one of which is killed.

The sample is what tools/traces.py writes.
"""

import signal
import threading
import time
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.padding import Padding

from kvstore.client import Store, connect_sync
from kvstore.cluster.local import bring_up, take_down, wait_until_whole
from kvstore.cluster.local_files import LocalCluster, LocalProcess
from kvstore.cluster.processes import send_signal
from kvstore.commands.arguments import JSONOption
from kvstore.commands.ask_mgmtd import ask_mgmtd, options_of
from kvstore.commands.check_cluster import compared, objects_of
from kvstore.commands.compare import ComparedChain
from kvstore.commands.display import facts_table, percent_text, size_text
from kvstore.commands.probes import Probes
from kvstore.commands.replay import Replay, ReplayFigures, quantile_ms
from kvstore.commands.replay_command import BATCH_COUNT, fail_if_wrong
from kvstore.commands.report import Report, reporting
from kvstore.commands.trace import TraceRequest, read_trace

SAMPLE = "sample_trace.jsonl"
BLOCK_SIZE = 64 << 10
SETTINGS: dict[str, object] = {
    "nodes": 3,
    "replicas": 3,
    "memory": "96MiB",
    "capacity": "1GiB",
    "durability": "disk",
}
WHOLE_TIMEOUT_S = 30.0
"""How long the killed node may take to hold everything again."""
STOP_TIMEOUT_S = 10.0

NEXT_STEPS = """[bold]Try next[/bold]

  echo hello | kvstore set file:///tmp/pages greeting   [dim]a store of your own[/dim]
  kvstore up --dir /tmp/cluster --nodes 3 --replicas 3  [dim]a cluster; prints its URL[/dim]
  kvstore status URL                                    [dim]what it is made of[/dim]
  kvstore bench file:///tmp/pages                       [dim]how fast it is here[/dim]
  kvstore replay --help                                 [dim]a trace of your own[/dim]"""


@dataclass(frozen=True, slots=True)
class Outage:
    """What the death of a node did to those who went on reading and writing."""

    node: int
    away_s: float
    read_stall_ms: float
    write_stall_ms: float
    usual_read_ms: float
    """The longest call before the node was killed."""
    usual_write_ms: float
    calls: int
    failures: tuple[str, ...]
    lost: tuple[str, ...]
    """Keys whose acknowledged value was not there in the end."""


@dataclass(frozen=True, slots=True)
class DemoFigures:
    """What came of it."""

    replay: ReplayFigures
    outage: Outage
    blocks_stored: int
    blocks_found: int
    chains: list[ComparedChain]
    seconds: float

    @property
    def differing(self) -> int:
        """How many keys differ between replicas."""
        return sum(len(chain.differences) for chain in self.chains)


def demo(
    directory: Annotated[
        Path | None,
        typer.Option(
            help="Where to make the temporary cluster; it is removed in the end.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Replay a sample trace on three nodes, kill one in the middle, bring it back: half a minute.

    The sample has the shape of real traces of LLM requests: chats, and long documents that are
    asked about again and again. Beside it, a reader and a writer never stop, so that a stall would
    be seen. In the end nothing may be lost, and all replicas must hold the same. The cluster is
    temporary, runs on loopback and takes about 700 MB.

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
        fail_if_lost(report, found)


def play(report: Report, directory: Path, requests: list[TraceRequest]) -> DemoFigures:
    """Bring a cluster up, replay, kill, bring back, compare, and take it down."""
    start_s = time.monotonic()
    try:
        cluster = bring_up(directory, SETTINGS)
        with connect_sync(cluster.url) as store:
            replay = Replay(store, BLOCK_SIZE, BATCH_COUNT, None)
            outage = replay_through_outage(report, directory, cluster, replay, store, requests)
            blocks = tuple(dict.fromkeys(id for each in requests for id in each.block_ids))
            found = blocks_found(store, requests, blocks)
        chains = compared(report, options_of(cluster.url))
    finally:
        if (directory / "cluster.json").exists():
            take_down(directory, STOP_TIMEOUT_S)
    seconds = time.monotonic() - start_s
    return DemoFigures(replay.figures, outage, len(blocks), found, chains, seconds)


def replay_through_outage(
    report: Report,
    directory: Path,
    cluster: LocalCluster,
    replay: Replay,
    store: Store,
    requests: list[TraceRequest],
) -> Outage:
    """Serve every request; a node is killed after half of them, and back after three quarters."""
    killed = head_of_first_chain(cluster)
    returning = threading.Thread(target=bring_up, args=(directory, {}))
    start_ns = killed_ns = back_ns = time.monotonic_ns()
    with Probes(store) as probes, report.progress() as progress:
        task = progress.add_task("replay", total=len(requests), detail="")
        for index, request in enumerate(requests):
            if index == len(requests) // 2:
                killed_ns = time.monotonic_ns()
                send_signal(killed.process, signal.SIGKILL)
            if index == 3 * len(requests) // 4:
                back_ns = time.monotonic_ns()
                returning.start()
            replay.serve(request)
            detail = f"{percent_text(replay.figures.hit_ratio)} hits"
            progress.update(task, completed=index + 1, detail=detail)
        returning.join()
        wait_until_whole(directory, WHOLE_TIMEOUT_S)
        end_ns = time.monotonic_ns()
    return Outage(
        node=killed.node,
        away_s=(back_ns - killed_ns) / 1e9,
        read_stall_ms=probes.reads.longest_ms(killed_ns, end_ns),
        write_stall_ms=probes.writes.longest_ms(killed_ns, end_ns),
        usual_read_ms=probes.reads.longest_ms(start_ns, killed_ns),
        usual_write_ms=probes.writes.longest_ms(start_ns, killed_ns),
        calls=len(probes.reads.times_ns) + len(probes.writes.times_ns),
        failures=(*probes.reads.failures, *probes.writes.failures),
        lost=tuple(probes.lost()),
    )


def head_of_first_chain(cluster: LocalCluster) -> LocalProcess:
    """Return the node that all updates of a chain go to first: the one that is missed most."""
    routing = ask_mgmtd(options_of(cluster.url), lambda mgmtd: mgmtd.routing())
    head = routing.chains[min(routing.chains)].head
    assert head is not None
    node = routing.targets[head].node
    return next(each for each in cluster.nodes if each.node == node)


def blocks_found(store: Store, requests: list[TraceRequest], blocks: tuple[int, ...]) -> int:
    """Return how many of all blocks are there, each read and checked byte by byte."""
    again = Replay(store, BLOCK_SIZE, BATCH_COUNT, None)
    again.serve(TraceRequest(requests[-1].timestamp_ms, blocks))
    return again.figures.hit_blocks - again.figures.verify_failures


def demo_json(found: DemoFigures) -> dict[str, object]:
    """Return everything for programs."""
    figures, outage = found.replay, found.outage
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
        "killed_node": outage.node,
        "away_s": outage.away_s,
        "read_stall_ms": outage.read_stall_ms,
        "write_stall_ms": outage.write_stall_ms,
        "usual_read_ms": outage.usual_read_ms,
        "usual_write_ms": outage.usual_write_ms,
        "probe_calls": outage.calls,
        "probe_failures": list(outage.failures),
        "lost_keys": list(outage.lost),
        "blocks_stored": found.blocks_stored,
        "blocks_found": found.blocks_found,
        "compared_objects": objects_of(found.chains),
        "replicas": sum(len(chain.replicas) for chain in found.chains),
        "differing_keys": found.differing,
        "seconds": found.seconds,
    }


def show(report: Report, found: DemoFigures) -> None:
    """Show the figures, and what to try next."""
    figures, outage = found.replay, found.outage
    table = facts_table("A sample of LLM requests through three nodes, one of them killed")
    table.add_row("requests", f"{figures.requests:,}")
    table.add_row(f"blocks of {size_text(BLOCK_SIZE)}", f"{figures.blocks:,}")
    table.add_row(
        "found in the store",
        f"{figures.hit_blocks:,}, [bold green]{percent_text(figures.hit_ratio)}[/bold green]",
    )
    table.add_row("stored, read", f"{size_text(figures.bytes_in)}, {size_text(figures.bytes_out)}")
    table.add_row("a request, p50", f"{quantile_ms(figures.request_ns, 0.50):.2f} ms")
    table.add_row("a request, p99", f"{quantile_ms(figures.request_ns, 0.99):.2f} ms")
    table.add_section()
    table.add_row("killed with SIGKILL", f"node {outage.node}, the head of a chain")
    table.add_row("away for", f"{outage.away_s:.1f} s")
    table.add_row("longest read since then", f"[bold]{outage.read_stall_ms:.0f} ms[/bold]")
    table.add_row("before, at most", f"{outage.usual_read_ms:.0f} ms")
    table.add_row("longest write since then", f"[bold]{outage.write_stall_ms:.0f} ms[/bold]")
    table.add_row("before, at most", f"{outage.usual_write_ms:.0f} ms")
    table.add_row("failed calls", verdict(len(outage.failures), f"of {outage.calls:,}"))
    table.add_section()
    missing = found.blocks_stored - found.blocks_found + len(outage.lost)
    table.add_row("lost", verdict(missing, f"of {found.blocks_stored:,} blocks"))
    replicas = max((len(chain.replicas) for chain in found.chains), default=0)
    table.add_row("keys that replicas differ in", verdict(found.differing, f"{replicas} replicas"))
    table.add_row("time in all", f"{found.seconds:.1f} s")
    report.show(table)
    report.show(Padding(NEXT_STEPS, (1, 0, 0, 0)))


def verdict(count: int, of: str) -> str:
    """Return a count that should be none."""
    return f"[bold red]{count:,}[/] {of}" if count else f"[green]none[/green] {of}"


def fail_if_lost(report: Report, found: DemoFigures) -> None:
    """End the command with an error when the cluster did not do what it promises."""
    missed = found.replay.lru_hit_blocks - found.replay.hit_blocks
    if missed:
        report.fail(f"{missed:,} blocks were not found while a node was away")
    if found.blocks_found < found.blocks_stored or found.outage.lost:
        missing = found.blocks_stored - found.blocks_found + len(found.outage.lost)
        report.fail(f"{missing:,} values were lost")
    if found.differing:
        report.fail(f"{found.differing:,} keys differ between replicas")
    if any(len(chain.replicas) < 3 for chain in found.chains):
        report.fail("the killed node does not serve again")
    if found.outage.failures:
        report.fail(f"{len(found.outage.failures):,} calls failed: {found.outage.failures[0]}")
