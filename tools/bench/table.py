"""The tables for people: goals with their verdicts, then the peers side by side."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tools.bench.result import OURS, CostGoal, LimitGoal, RatioGoal, Row, Verdict

STYLES = {
    Verdict.PASS: "bold green",
    Verdict.FAIL: "bold red",
    Verdict.UNKNOWN: "yellow",
    Verdict.NONE: "dim",
}


def number(value: float | None) -> str:
    """Return three digits, as a person would write them; a dash for nothing."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.01 else f"{value:.4f}"


def print_rows(rows: Sequence[Row], console: Console) -> None:
    """Print every table that has rows, and what could not run."""
    goals = [row for row in rows if row.goal is not None]
    if goals:
        console.print(goal_table(goals))
        console.print(summary(goals))
    peers = [row for row in rows if row.goal is None]
    if peers:
        console.print(peer_table(peers))
    for line in problem_lines(rows):
        console.print(line, style="yellow", markup=False)


def goal_table(rows: Sequence[Row]) -> Table:
    """Return one line a row: ours, theirs, the ratio, the verdict."""
    table = Table(title="Goals: medians over rounds; a ratio compares within a round")
    for heading in ("measure", "kvstore", "against", "ratio", "goal", "verdict", "beside"):
        table.add_column(heading, justify="right" if heading in ("kvstore", "ratio") else "left")
    for row in rows:
        verdict = row.verdict
        table.add_row(
            row.measure,
            figure(row, OURS),
            against(row),
            ratio(row),
            str(row.goal),
            verdict.value,
            beside(row),
            style=None if verdict is Verdict.PASS else STYLES[verdict],
        )
    return table


def figure(row: Row, contestant: str) -> str:
    """Return a contestant's median with its unit."""
    value = row.median(contestant)
    return "-" if value is None else f"{number(value)} {row.unit}"


def against(row: Row) -> str:
    """Return the contestant that the goal names, with its median."""
    if not isinstance(row.goal, RatioGoal | CostGoal):
        return ""
    return f"{row.goal.against} {figure(row, row.goal.against)}"


def ratio(row: Row) -> str:
    """Return the median ratio, or how much of a limit is used."""
    if isinstance(row.goal, RatioGoal | CostGoal):
        found = row.ratio(row.goal.against)
        return "-" if found is None else f"{found:.2f} x"
    ours = row.median(OURS)
    assert isinstance(row.goal, LimitGoal)
    return "-" if ours is None else f"{ours / row.goal.at_most:.0%}"


def beside(row: Row) -> str:
    """Return the contestants that no goal is about, then the note."""
    named = {OURS, row.goal.against if isinstance(row.goal, RatioGoal | CostGoal) else OURS}
    others = [f"{name}: {figure(row, name)}" for name in row.samples if name not in named]
    return "; ".join([*others, *([row.note] if row.note else [])])


def summary(rows: Sequence[Row]) -> str:
    """Return how many goals are met."""
    met = sum(row.verdict is Verdict.PASS for row in rows)
    return f"{met} of {len(rows)} goals met"


def peer_table(rows: Sequence[Row]) -> Table:
    """Return one line a contestant, one column a row; the last column counts CPU time."""
    table = Table(title="Beside others, GB/s: batches as above, values larger than the L3 cache")
    table.add_column("contestant")
    for row in rows:
        table.add_column(row.name, justify="right")
    names = list(dict.fromkeys(name for row in rows for name in (*row.samples, *row.problems)))
    for name in sorted(names, key=lambda name: (name != OURS, name)):
        table.add_row(
            name,
            *(number(row.median(name)) for row in rows),
            style="bold" if name == OURS else None,
        )
    return table


def problem_lines(rows: Sequence[Row]) -> list[str]:
    """Return who could not run where; the same reason once."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for contestant, reason in row.problems.items():
            found.setdefault((contestant, reason), []).append(row.name)
    return [
        f"{contestant}: {reason} ({', '.join(names)})"
        for (contestant, reason), names in found.items()
    ]
