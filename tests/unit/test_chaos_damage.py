"""Bits that the harness of faults turns on a medium."""

from pathlib import Path

from tools.chaos.damage import BLOCK_SIZE, BLOCKS_SHARE, HEADER_SIZE, flip_bits

BLOCKS = 40


def slabs_in(folder: Path) -> Path:
    """A target's file: a header, blocks in use, and as many that are empty."""
    path = folder / "target-1" / "slabs"
    path.parent.mkdir()
    path.write_bytes(b"h" * HEADER_SIZE + b"v" * BLOCK_SIZE * BLOCKS + bytes(BLOCK_SIZE * BLOCKS))
    return path


def test_one_bit_is_turned_in_each_of_some_blocks_in_use(tmp_path: Path) -> None:
    path = slabs_in(tmp_path)
    before = path.read_bytes()

    count = flip_bits(tmp_path, 1000)

    after = path.read_bytes()
    turned = [at for at in range(len(before)) if before[at] != after[at]]
    assert BLOCKS // BLOCKS_SHARE == count == len(turned)
    assert all(1 == (before[at] ^ after[at]).bit_count() for at in turned)
    assert HEADER_SIZE <= turned[0]
    assert turned[-1] < HEADER_SIZE + BLOCKS * BLOCK_SIZE
    assert count == len({at // BLOCK_SIZE for at in turned})


def test_no_more_bits_are_turned_than_asked_for(tmp_path: Path) -> None:
    slabs_in(tmp_path)

    assert 2 == flip_bits(tmp_path, 2)
