"""The command inspect: what a store is made of, read from its files without changing them."""

from dataclasses import asdict

from rich.table import Table

from kvstore.client import SlabRow, Stats
from kvstore.commands.arguments import JSONOption, URLArgument
from kvstore.commands.display import facts_table, percent_text, size_text
from kvstore.commands.opening import open_store
from kvstore.commands.report import reporting


def inspect(url: URLArgument, as_json: JSONOption = False) -> None:
    """Show slabs by slab class, space, journal, checkpoint, index and DRAM tier of a store.

    The store is opened read-only, so that nothing in it is changed. Counters of traffic begin at
    every opening and are not shown. Of a kv:// store, the sums over all targets are shown.

    Examples:

    - `kvstore inspect file:///var/cache/pages`
    - `kvstore inspect file:///var/cache/pages --json`
    """
    with reporting(as_json=as_json) as report:
        with open_store(url, mode="read_only", scrub_bytes_per_s=0) as store:
            stats, slabs = store.stats(), store.slabs()
        report.answer(inspect_json(stats, slabs))
        for table in (
            objects_table(stats),
            slabs_table(slabs),
            space_table(stats),
            journal_table(stats),
            memory_table(stats),
        ):
            report.show(table)


def inspect_json(stats: Stats, slabs: tuple[SlabRow, ...]) -> dict[str, object]:
    """Return everything for programs, in the groups that people see."""
    return {
        "description": stats.description,
        "objects": {
            "objects": stats.objects,
            "value_size": stats.value_size,
            "pinned_objects": stats.pinned_objects,
        },
        "slabs": [asdict(row) for row in slabs],
        "space": {
            "capacity": stats.capacity,
            "slab_size": stats.slab_size,
            "slabs": stats.slabs,
            "slabs_free": stats.slabs_free,
            "used": stats.space_used,
            "free": stats.space_free,
            "quarantined": stats.space_quarantined,
        },
        "journal": {
            "size": stats.journal_size,
            "generation": stats.journal_generation,
            "sequence": stats.sequence,
            "recovered_objects": stats.recovered_objects,
            "recovered_records": stats.recovered_records,
            "recovery_cut_size": stats.recovery_cut_size,
            "recovery_dropped": stats.recovery_dropped,
        },
        "checkpoint": {"sequence": stats.checkpoint_sequence},
        "index": {"size": stats.index_size},
        "memory": {
            "capacity": stats.memory_capacity,
            "huge_size": stats.memory_huge_size,
            "used": stats.memory_used,
            "objects": stats.memory_objects,
        },
    }


def objects_table(stats: Stats) -> Table:
    """Return what the store holds."""
    table = facts_table("Objects")
    table.add_row("objects", f"{stats.objects:,}")
    table.add_row("values", size_text(stats.value_size))
    table.add_row("pinned", f"{stats.pinned_objects:,}")
    table.add_row("index", size_text(stats.index_size))
    if stats.objects:
        table.add_row(
            "index and keys, for each object", f"{stats.index_size / stats.objects:.0f} B"
        )
    return table


def slabs_table(slabs: tuple[SlabRow, ...]) -> Table:
    """Return one row for each slab class."""
    table = Table(title="Slabs", title_justify="left")
    for name in ("slab class", "extent", "slabs", "extents in use", "in use", "free", "filled"):
        table.add_column(name, justify="right")
    for row in slabs:
        size = row.live_size + row.free_size
        table.add_row(
            str(row.slab_class),
            size_text(row.extent_size) if row.extent_size else "packs",
            f"{row.slabs:,}",
            f"{row.live_count:,}" if row.extent_size else "",
            size_text(row.live_size),
            size_text(row.free_size),
            percent_text(row.live_size / size) if size else "",
        )
    return table


def space_table(stats: Stats) -> Table:
    """Return how the capacity is used."""
    table = facts_table("Space")
    table.add_row("capacity", size_text(stats.capacity))
    table.add_row("slabs", f"{stats.slabs:,} of {size_text(stats.slab_size)}")
    table.add_row("slabs that belong to no class", f"{stats.slabs_free:,}")
    table.add_row("used", size_text(stats.space_used))
    table.add_row("free", size_text(stats.space_free))
    return table


def journal_table(stats: Stats) -> Table:
    """Return what an opening reads."""
    table = facts_table("Journal and checkpoint")
    table.add_row(
        "journal", f"{size_text(stats.journal_size)}, generation {stats.journal_generation:,}"
    )
    table.add_row("last sequence", f"{stats.sequence:,}")
    table.add_row("sequence of the checkpoint", f"{stats.checkpoint_sequence:,}")
    table.add_row("objects recovered", f"{stats.recovered_objects:,}")
    table.add_row("records replayed", f"{stats.recovered_records:,}")
    table.add_row("torn end, cut", size_text(stats.recovery_cut_size))
    return table


def memory_table(stats: Stats) -> Table:
    """Return the DRAM tier, and how the store talks to the device."""
    table = facts_table("DRAM tier and device")
    table.add_row("DRAM tier", size_text(stats.memory_capacity))
    table.add_row("of it in huge pages", size_text(stats.memory_huge_size))
    table.add_row("in use", f"{size_text(stats.memory_used)}, {stats.memory_objects:,} values")
    table.add_row("device", stats.description)
    return table
