"""A run's report for people at a terminal."""

from rich.console import Console
from rich.table import Table

from tools.chaos.outcome import Outcome
from tools.history.timeline import draw

VIOLATIONS_SHOWN = 3


def show(console: Console, outcome: Outcome) -> None:
    """Print the table of stalls, then the verdict."""
    table = Table("fault", "times", "keys stalled", "longest read", "longest write", "machine")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in outcome.stalls:
        read, write = f"{row.read_ms:,.0f} ms", f"{row.write_ms:,.0f} ms"
        machine = f"{row.machine_ms:,.0f} ms"
        table.add_row(row.name, str(row.faults or ""), str(row.keys), read, write, machine)
    console.print(table)
    verdict = outcome.verdict
    console.print(
        f"seed {outcome.seed}: {verdict.operations:,} operations on {verdict.keys} keys, "
        f"{verdict.unknown:,} of unknown outcome, {verdict.failed:,} failed, "
        f"{len(outcome.faults)} faults"
    )
    for violation in verdict.violations[:VIOLATIONS_SHOWN]:
        console.print(draw(violation, outcome.origin), style="red", markup=False, soft_wrap=True)
    hidden = len(verdict.violations) - VIOLATIONS_SHOWN
    if hidden > 0:
        console.print(f"and {hidden} more keys", style="red")
    for key in verdict.undecided:
        console.print(f"{key}: undecided, too many orders are possible", style="red")
    for problem in outcome.problems:
        console.print(problem, style="red", markup=False, soft_wrap=True)
    if outcome.good:
        console.print("linearizable, nothing lost", style="green")
    else:
        console.print(f"FAILED; to do it again: {outcome.replay}", style="bold red", soft_wrap=True)
