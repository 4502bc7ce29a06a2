"""Transcripts: events as plain text, and under each, indented, exactly what came of it.

A scenario is a text of events at the left margin and effects indented by four blanks; blank lines
and comments (`#`) stay where they are. `replay` performs the events and writes the transcript anew:
it equals the file, or the rule has changed.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

INDENT = "    "


def replay(text: str, perform: Callable[[str], Iterator[str]]) -> str:
    """Return the transcript that results from the events of a transcript."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(INDENT):
            continue
        lines.append(line)
        if line and not line.startswith("#"):
            lines.extend(INDENT + effect for effect in perform(line))
    return "\n".join(lines) + "\n"


def scenarios(folder: Path) -> list[Path]:
    """Return the transcripts of a folder, in the order of their names."""
    return sorted(folder.glob("*.txt"))
