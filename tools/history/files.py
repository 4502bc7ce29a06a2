"""History files: JSON lines, one file a client, two lines a batch.

    {"history": 1, "client": 3, "face": "asyncio"}          once, first
    ["begin", 17, 5000123, "set", ["k1", "k2"], [901, 902]]  batch 17, called at 5000123 µs
    ["end", 17, 5000951, "yu", [], "KVTimeoutError"]         its answers, a letter for each key

Letters are y(es), n(o), u(nknown), f(ailed), w(rong bytes). The list of a begin holds the values
that are written, that of an end those that were read, null where nothing was; both are empty for
other kinds. Times are of one monotonic clock for all files of a history.

Guarantees: a begin is in the file before the batch is sent, and lines are never held back; so the
file of a client that was killed tells what may have taken effect. What has no end is unknown.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tools.history.operation import GONE, Answer, Kind, Operation

FORMAT_VERSION = 1
LETTERS = {answer: answer.value[0] for answer in Answer}
ANSWERS = {letter: answer for answer, letter in LETTERS.items()}
assert len(ANSWERS) == len(LETTERS)


class HistoryError(Exception):
    """A file is no history; says which line."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a begin says."""

    called: int
    kind: Kind
    keys: Sequence[str]
    values: Sequence[int]


class HistoryWriter:
    """Writes the file of one client; a context manager."""

    def __init__(self, path: Path, client: int, face: str) -> None:
        """Make the file; it must not exist."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._number = 0
        self._write({"history": FORMAT_VERSION, "client": client, "face": face})

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def begin(self, called: int, kind: Kind, keys: Sequence[str], values: Sequence[int]) -> int:
        """Write down a batch that is about to be sent; returns its number."""
        self._number += 1
        self._write(["begin", self._number, called, kind, keys, values])
        return self._number

    def end(
        self,
        number: int,
        ended: int,
        answers: Sequence[Answer],
        values: Sequence[int | None] = (),
        error: str = "",
    ) -> None:
        """Write down the answers of a batch, one for each key."""
        letters = "".join(LETTERS[answer] for answer in answers)
        self._write(["end", number, ended, letters, values, error])

    def _write(self, line: object) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        written = os.write(self._descriptor, data)
        if written != len(data):
            raise OSError(f"history: wrote {written} of {len(data)} bytes")


def read_histories(paths: Iterable[Path]) -> list[Operation]:
    """Return the operations of all files."""
    return [operation for path in paths for operation in read_history(path)]


def read_history(path: Path) -> Iterator[Operation]:
    """Yield the operations of one client; raises HistoryError."""
    client = 0
    begun: dict[int, Batch] = {}
    for number, line in enumerate(whole_lines(path), 1):
        try:
            found = json.loads(line)
            if number == 1:
                client = client_of(found)
            elif found[0] == "begin":
                begun[found[1]] = Batch(found[2], Kind(found[3]), found[4], found[5])
            else:
                yield from ended_operations(client, begun.pop(found[1]), found[2:])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise HistoryError(f"{path}:{number}: no line of a history: {error!r}") from error
    for batch in begun.values():
        yield from unended_operations(client, batch)


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file, less one that was cut off by the end of its writer."""
    *lines, _ = path.read_bytes().split(b"\n")
    return lines


def client_of(header: dict[str, Any]) -> int:
    """Return whose file it is."""
    if header["history"] != FORMAT_VERSION:
        raise ValueError(f"format version {header['history']}, not {FORMAT_VERSION}")
    return int(header["client"])


def ended_operations(client: int, batch: Batch, end: Sequence[Any]) -> Iterator[Operation]:
    """Yield the operations of a batch that has an end."""
    ended, letters, read, error = end
    values = read if batch.kind is Kind.GET else batch.values
    if len(letters) != len(batch.keys):
        raise ValueError(f"{len(letters)} answers for {len(batch.keys)} keys")
    for index, (key, letter) in enumerate(zip(batch.keys, letters, strict=True)):
        answer = ANSWERS[letter]
        yield Operation(
            client=client,
            kind=batch.kind,
            key=key,
            value=values[index] if values else None,
            called=batch.called,
            ended=None if answer is Answer.UNKNOWN else ended,
            answer=answer,
            error=error if answer in (Answer.UNKNOWN, Answer.FAILED) else "",
            given_up=ended if answer is Answer.UNKNOWN else None,
        )


def unended_operations(client: int, batch: Batch) -> Iterator[Operation]:
    """Yield the operations of a batch whose client went away."""
    for index, key in enumerate(batch.keys):
        value = batch.values[index] if batch.values else None
        yield Operation(client, batch.kind, key, value, batch.called, None, Answer.UNKNOWN, GONE)
