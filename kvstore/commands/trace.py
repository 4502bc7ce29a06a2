"""Traces in the Mooncake format: one request a line, in JSON, plain or gzipped.

{"timestamp": ms, "input_length": tokens, "output_length": tokens, "hash_ids": [block ids]}

Equal ids stand for equal prefixes up to and including that block.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeGuard

from kvstore.errors import KVStoreError


class TraceError(KVStoreError):
    """A trace cannot be read; the message names file and line."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request: when it came, and the blocks of its prompt."""

    timestamp_ms: float
    block_ids: tuple[int, ...]


def read_trace(path: Path, limit: int | None = None) -> list[TraceRequest]:
    """Return the requests in the order of time, the first *limit* of them."""
    requests: list[TraceRequest] = []
    try:
        with open_text(path) as lines:
            requests.extend(parse_lines(path, lines))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(f"{path}: no whole gzip file: {error}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: no text in UTF-8: {error}") from error
    requests.sort(key=lambda request: request.timestamp_ms)
    return requests if limit is None else requests[:limit]


def open_text(path: Path) -> TextIO:
    """Open a trace; its name says whether it is compressed."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def parse_lines(path: Path, lines: TextIO) -> Iterator[TraceRequest]:
    """Yield a request for each line that is not empty."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield parse_request(line)
            except ValueError as error:
                raise TraceError(f"{path}:{number}: {error}") from error


def parse_request(line: str) -> TraceRequest:
    """Return the request of one line."""
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError("a request is a JSON object")
    timestamp, block_ids = fields.get("timestamp"), fields.get("hash_ids")
    if not is_timestamp(timestamp):
        raise ValueError(f"timestamp: expected milliseconds, got {timestamp!r:.40}")
    if not isinstance(block_ids, list) or not all(map(is_block_id, block_ids)):
        raise ValueError("hash_ids: expected a list of whole numbers, 0 or more")
    return TraceRequest(timestamp, tuple(block_ids))


def is_timestamp(value: object) -> TypeGuard[float]:
    """Return whether *value* is a time: a number, 0 or more, which NaN is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def is_block_id(value: object) -> bool:
    """Return whether *value* names a block."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
