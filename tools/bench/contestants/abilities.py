"""What some contestants can do beyond what every one can."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from tools.bench.pages import Batch


@runtime_checkable
class MakesRoom(Protocol):
    """A contestant whose sets do not replace."""

    def make_room(self, keys: Sequence[bytes]) -> None:
        """Do, off the clock, what it takes before these keys can be set anew."""
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


@runtime_checkable
class Watching(Protocol):
    """A contestant that reads and writes while something happens to it."""

    def watch(
        self, keys: int, size: int, pause_s: float, start_at: float, event_at: float, end_at: float
    ) -> dict[str, object]:
        """Read and write until the end; what that took before the event and after it."""
        ...
