"""A short soak, which is what `python -m tools.soak` does for minutes."""

from pathlib import Path

import pytest

from tools.soak import MIB, Report, Sample, SoakError, soak

OPERATIONS = 80_000


def test_a_short_soak_has_flat_memory(tmp_path: Path) -> None:
    report = soak(OPERATIONS, seed=1, directory=tmp_path / "store")

    assert OPERATIONS <= report.operations
    assert 0 < min(report.stats.evictions, report.stats.expirations)


@pytest.mark.parametrize(
    ("size_each", "descriptors_each", "complaint"),
    [(MIB, 0, "memory grew by 69.0 MiB"), (0, 1, "descriptors grew from 30 to 99")],
)
def test_a_soak_notices_growth(size_each: int, descriptors_each: int, complaint: str) -> None:
    samples = [Sample(i * 1000, i * size_each, i * descriptors_each) for i in range(100)]

    with pytest.raises(SoakError, match=complaint):
        Report(100_000, 1.0, tuple(samples), stats=None).check()  # type: ignore[arg-type]
