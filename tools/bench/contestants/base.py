"""What a worker asks of a contestant. Each runs in a process of its own.

A call that does not do all it was asked raises ContestantError; the clock runs while it looks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from tools.bench.pages import Batch

Options: TypeAlias = Mapping[str, str | int]


class Contestant(Protocol):
    """One store, peer or limit."""

    def make_room(self, keys: Sequence[bytes]) -> None:
        """Do, off the clock, what it takes before these keys can be set anew."""
        ...

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Set every key."""
        ...

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Read every key into its buffer."""
        ...

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Look every key up; None or False stands for a miss."""
        ...

    def statistics(self) -> dict[str, float | str]:
        """Return what the contestant counts itself, if it does."""
        ...

    def register(self, buffers: Sequence[memoryview]) -> None:
        """Learn that values will lie in these buffers until unregister()."""
        ...

    def unregister(self) -> None:
        """Forget them."""
        ...

    def close(self) -> None:
        """Let go of files and processes."""
        ...


@runtime_checkable
class SingleGetter(Protocol):
    """A contestant with a call for one key."""

    def get_one(self, key: bytes) -> bytes | None:
        """Read one value."""
        ...


@runtime_checkable
class Pipelined(Protocol):
    """A contestant that can have many batches in flight."""

    def get_pipelined(
        self, batches: Iterator[Batch], depth: int, limit_s: float
    ) -> list[tuple[Batch, float]]:
        """Keep *depth* batches in flight for a while; each with its latency, as they ended."""
        ...


@runtime_checkable
class Crowd(Protocol):
    """A contestant that is many clients."""

    def set_mixed(self, batches: int) -> None:
        """Set every value of this many batches."""
        ...

    def run(self, seed: int, batches: int, start_at: float, seconds: float) -> dict[str, object]:
        """Have every client get random batches for a while; what each of them did."""
        ...


class Peer:
    """What a contestant does that neither counts nor knows buffers."""

    def make_room(self, keys: Sequence[bytes]) -> None:
        """Replace values without more ado."""
        del keys

    def statistics(self) -> dict[str, float | str]:
        """Count nothing."""
        return {}

    def register(self, buffers: Sequence[memoryview]) -> None:
        """Take buffers as they come."""
        del buffers

    def unregister(self) -> None:
        """Know none to forget."""


Opener: TypeAlias = Callable[[Path, Options], Contestant]
"""Opens a contestant in an empty or its own directory."""
