"""A benchmark's values: which bytes a key must have, and that wrong ones are noticed."""

import json

import pytest

from tools.bench.failures import ContestantError
from tools.bench.fio import parse
from tools.bench.pages import Pages, make_windows, poison, wrong_edges, wrong_values

SIZE = 4096
WINDOW_SIZE = 16 * SIZE


@pytest.fixture(scope="module")
def pages() -> Pages:
    return Pages(SIZE, 4, 6, make_windows(WINDOW_SIZE))


def copy(pages: Pages) -> None:
    for batch in pages.get_batches(1):
        for target, source in zip(batch.targets, batch.sources, strict=True):
            target[:] = source


def test_batches_cover_every_key_once(pages: Pages) -> None:
    batches = pages.set_batches()

    assert [4, 2] == [len(batch.keys) for batch in batches]
    assert 6 == len({key for batch in batches for key in batch.keys})
    assert all(len(batch.keys) == len(batch.targets) for batch in batches)
    assert {32} == {len(key) for batch in batches for key in batch.keys}


def test_a_new_version_has_other_bytes(pages: Pages) -> None:
    (first, *_), (second, *_) = pages.set_batches(), pages.set_batches()

    assert first.keys == second.keys
    assert bytes(first.sources[0][:64]) != bytes(second.sources[0][:64])


def test_keys_that_were_not_set_are_not_read() -> None:
    fresh = Pages(SIZE, 4, 6, make_windows(WINDOW_SIZE))
    fresh.unset(fresh.set_batches()[1])

    assert 4 == sum(len(batch.keys) for batch in fresh.get_batches(1))


def test_wrong_bytes_are_noticed_at_the_ends_and_anywhere(pages: Pages) -> None:
    copy(pages)
    batch = pages.get_batches(1)[0]
    assert 0 == wrong_edges(batch) == wrong_values(batch)

    batch.targets[0][SIZE // 2] ^= 1
    assert (0, 1) == (wrong_edges(batch), wrong_values(batch))
    batch.targets[1][SIZE - 1] ^= 1
    assert (1, 2) == (wrong_edges(batch), wrong_values(batch))
    poison(batch)
    assert 4 == wrong_edges(batch)


def fio_output(runtime_ms: int) -> str:
    latencies = {"percentile": {"50.000000": 2_000_000, "99.000000": 4_000_000}}
    read = {"runtime": runtime_ms, "io_bytes": 500_000_000, "clat_ns": latencies}
    return "a warning\n" + json.dumps({"jobs": [{"usr_cpu": 1, "sys_cpu": 9, "read": read}]})


def test_a_report_of_fio_is_read() -> None:
    sample = parse(fio_output(250), "read")

    assert 2.0 == sample.value
    assert 0.05 == pytest.approx(sample.cpu_s_per_gb)
    assert 2.0 == sample.p50_ms


def test_a_run_too_short_for_a_clock_is_refused() -> None:
    with pytest.raises(ContestantError, match="too short"):
        parse(fio_output(0), "read")
