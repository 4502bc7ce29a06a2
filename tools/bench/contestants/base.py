"""What a worker asks of a contestant. Each runs in a process of its own.

A call that does not do all it was asked raises ContestantError; the clock runs while it looks.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from tools.bench.pages import Batch

Options: TypeAlias = Mapping[str, str | int]


class Contestant(Protocol):
    """One store, peer or limit."""

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
class ByTasks(Protocol):
    """A contestant that takes concurrent setters as tasks of an event loop."""

    def set_by_tasks(self, parts: Sequence[Sequence[Batch]]) -> list[float]:
        """Set the batches of each part one after another, all parts at once; seconds of each."""
        ...


class Peer:
    """What a contestant does that neither counts nor knows buffers."""

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
