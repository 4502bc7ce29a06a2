"""How much a run measures."""

from dataclasses import dataclass
from pathlib import Path

KIB = 1 << 10
MIB = 1 << 20

BATCH_COUNTS = {4 * KIB: 64, 64 * KIB: 64, 256 * KIB: 16, MIB: 16, 4 * MIB: 8}
"""Keys in a batch, for each size of a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command's options come to. Sizes are bytes."""

    directory: Path
    rounds: int
    phase_s: float
    """Clocked time of one contestant's turn where its amount is free."""
    peers_phase_s: float
    """The same in the comparison with peers."""
    memory_size: int
    """Values in the DRAM tier: several times the processor's last cache."""
    device_size: int
    """Values on the device."""
    peers_size: int
    """Values of the comparison with peers."""
    open_objects: int
    footprint_objects: int
    exists_objects: int
    resync_objects: int
    setters_each: int
    """Sets of each concurrent setter in a turn."""
    crowd_s: float
    """Length of a turn of many clients at once: enough for each to have many."""


def full(directory: Path, rounds: int | None) -> Settings:
    """Return the settings of `make bench`."""
    return Settings(
        directory=directory,
        rounds=rounds or 5,
        phase_s=0.25,
        peers_phase_s=0.1,
        memory_size=192 * MIB,
        device_size=320 * MIB,
        peers_size=96 * MIB,
        open_objects=1_000_000,
        footprint_objects=1_000_000,
        exists_objects=200_000,
        resync_objects=100_000,
        setters_each=16,
        crowd_s=2.0,
    )


def quick(directory: Path, rounds: int | None) -> Settings:
    """Return the settings of --quick: the same rows, smaller and rougher."""
    return Settings(
        directory=directory,
        rounds=rounds or 2,
        phase_s=0.1,
        peers_phase_s=0.03,
        memory_size=96 * MIB,
        device_size=128 * MIB,
        peers_size=48 * MIB,
        open_objects=100_000,
        footprint_objects=200_000,
        exists_objects=50_000,
        resync_objects=20_000,
        setters_each=4,
        crowd_s=0.8,
    )


def size_text(size: int) -> str:
    """Return 64 KiB, 1 MiB."""
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
