"""The parameters of an operator's operation, each checked as it is taken."""

from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

from kvstore.errors import InvalidOptionError

Choice = TypeVar("Choice", bound=IntEnum)


class Parameters:
    """What was given, by name; what nobody takes is refused in the end."""

    def __init__(self, operation: str, given: Mapping[str, object]) -> None:
        """Take nothing yet."""
        self._operation = operation
        self._given = given
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Say whether it is given."""
        return self._given.get(name) is not None

    def count(self, name: str, default: int | None, low: int, high: int) -> int:
        """Return a whole number; without a default it must be given."""
        value = self._value(name)
        if value is None and default is not None:
            return default
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(name, value, f"a whole number from {low} to {high}")
        return value

    def flag(self, name: str) -> bool:
        """Return whether something is wanted."""
        value = self._value(name)
        if value not in (None, True, False):
            raise self._wrong(name, value, "true or false")
        return bool(value)

    def text(self, name: str, size_max: int) -> str:
        """Return a text that is not empty."""
        value = self._value(name)
        if not isinstance(value, str) or not 0 < len(value.encode()) <= size_max:
            raise self._wrong(name, value, f"a text of at most {size_max} bytes")
        return value

    def choice(self, name: str, default: Choice) -> Choice:
        """Return one of an enumeration, which is given by its name."""
        value = self._value(name)
        kind = type(default)
        if value is None:
            return default
        if not isinstance(value, str) or value.upper() not in kind.__members__:
            names = ", ".join(member.name.lower() for member in kind)
            raise self._wrong(name, value, f"one of {names}")
        return kind[value.upper()]

    def check_all_used(self) -> None:
        """Refuse what the operation does not know."""
        for name in self._given.keys() - self._taken:
            raise InvalidOptionError(f"{self._operation}: it has no parameter {name!r}")

    def _value(self, name: str) -> object:
        self._taken.add(name)
        return self._given.get(name)

    def _wrong(self, name: str, value: object, wanted: str) -> InvalidOptionError:
        if value is None:
            return InvalidOptionError(f"{self._operation}: {name} is missing: {wanted}")
        return InvalidOptionError(f"{self._operation}: {name} is {value!r:.80}, not {wanted}")
