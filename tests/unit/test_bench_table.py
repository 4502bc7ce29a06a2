"""The tables say what was measured, what was not, and why."""

import io

import pytest
from rich.console import Console

from tools.bench.result import CostGoal, LimitGoal, RatioGoal, Row, Sample
from tools.bench.table import number, print_rows, problem_lines

MET = Row(
    "read-64K",
    "cold reads",
    "GB/s",
    {"kvstore": [Sample(1.9)], "fio": [Sample(2.0)], "files": [Sample(0.5)]},
    RatioGoal(0.9, "fio"),
)
MISSED = Row("open", "open", "s", {"kvstore": [Sample(3.0)]}, LimitGoal(2.0, "s"))


def printed(*rows: Row) -> str:
    console = Console(file=io.StringIO(), width=170)
    print_rows(rows, console)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (12345.6, "12,346"), (12.34, "12.3"), (0.1234, "0.123"), (0.00012, "0.0001")],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert text == number(value)


def test_goals_show_both_figures_the_ratio_and_the_verdict() -> None:
    text = printed(MET, MISSED)

    assert "1.9 GB/s" in text
    assert "fio 2 GB/s" in text
    assert "0.95 x" in text
    assert "files: 0.5 GB/s" in text
    assert "150%" in text
    assert "FAIL" in text
    assert "1 of 2 goals met" in text


def test_peers_have_a_line_each_with_ours_first() -> None:
    rows = [
        Row("set-4K", "set", "GB/s", {"lmdb": [Sample(0.25)], "kvstore": [Sample(0.5)]}),
        Row("get-4K", "get", "GB/s", {"kvstore": [Sample(2.0)]}, None, {"redis": "not there"}),
    ]
    text = printed(*rows)

    assert text.index("kvstore") < text.index("lmdb") < text.index("redis")
    assert "redis: not there (get-4K)" in text
    assert "goals met" not in text


def test_a_reason_is_said_once_for_all_its_rows() -> None:
    rows = [
        Row(name, "m", "GB/s", {}, None, {"fio": "not available: install fio"})
        for name in ("a", "b")
    ]

    assert ["fio: not available: install fio (a, b)"] == problem_lines(rows)


def test_a_cost_shows_what_it_is_compared_with() -> None:
    samples = {"kvstore": [Sample(0.3)], "ideal TCP": [Sample(0.2)]}
    text = printed(Row("cpu", "CPU time", "s/GB", samples, CostGoal(1.25, "ideal TCP")))

    assert "ideal TCP 0.2 s/GB" in text
    assert "1.50 x" in text
    assert "≤ 1.25 x" in text
