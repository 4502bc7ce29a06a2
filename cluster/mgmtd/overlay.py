"""Changes laid over a mapping that stays as it is: read as one, taken back in part, and merged."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Generic, TypeVar

Id = TypeVar("Id", bound=Hashable)
Value = TypeVar("Value")


class Overlay(Generic[Id, Value]):
    """A mapping, and what is to be different about it."""

    def __init__(self, base: Mapping[Id, Value]) -> None:
        """Begin without a change."""
        self._base = base
        self.changed: dict[Id, Value | None] = {}
        """None stands for what is removed."""

    def __getitem__(self, id: Id) -> Value:
        """Return what is there now."""
        value = self.get(id)
        if value is None:
            raise KeyError(id)
        return value

    def __contains__(self, id: Id) -> bool:
        """Say whether it is there now."""
        return self.get(id) is not None

    def __setitem__(self, id: Id, value: Value) -> None:
        """Put in, or replace."""
        self.changed[id] = value

    def get(self, id: Id) -> Value | None:
        """Return what is there now; None where there is nothing."""
        return self.changed[id] if id in self.changed else self._base.get(id)

    def remove(self, id: Id) -> None:
        """Take out."""
        self.changed[id] = None

    def values(self) -> Iterator[Value]:
        """Yield everything that is there now."""
        for id, value in self._base.items():
            if id not in self.changed:
                yield value
        yield from (value for value in self.changed.values() if value is not None)

    def items(self) -> Iterator[tuple[Id, Value]]:
        """Yield everything that is there now, with its id."""
        for id, value in self._base.items():
            if id not in self.changed:
                yield id, value
        yield from ((id, value) for id, value in self.changed.items() if value is not None)

    def different(self) -> dict[Id, Value | None]:
        """Return what the result has otherwise than the mapping below; None: it is not there."""
        return {id: value for id, value in self.changed.items() if self._base.get(id) != value}

    def mark(self) -> Callable[[], None]:
        """Return what takes back everything that is changed from now on."""
        changed = dict(self.changed)

        def take_back() -> None:
            self.changed = changed

        return take_back

    def result(self) -> Mapping[Id, Value]:
        """Return the mapping with its changes; the one below where there is none."""
        if not self.changed:
            return self._base
        merged = dict(self._base)
        for id, value in self.changed.items():
            if value is None:
                merged.pop(id, None)
            else:
                merged[id] = value
        return merged
