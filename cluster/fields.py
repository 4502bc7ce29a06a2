"""The fields of a message from outside, read in their order, each checked for its type."""

from collections.abc import Iterator
from enum import IntEnum
from typing import TypeVar

from kvstore.errors import MalformedRoutingError

State = TypeVar("State", bound=IntEnum)


class Fields:
    """The fields of a record; every read takes the next one.

    A later release may have more at the end, which this one does not know and passes over.
    """

    def __init__(self, raw: object, name: str, count: int) -> None:
        """Check that `raw` is a list of `count` fields at least."""
        if not isinstance(raw, list):
            raise MalformedRoutingError(f"{name}: a list belongs here")
        if len(raw) < count:
            raise MalformedRoutingError(f"{name}: {len(raw)} fields, {count} belong here")
        self.name = name
        self._fields: Iterator[object] = iter(raw[:count])

    def any(self) -> object:
        """Return the next field as it came: the caller checks it."""
        return next(self._fields)

    def rest(self) -> Iterator[object]:
        """Return all known fields that are left."""
        return self._fields

    def integer(self, name: str, value_max: int) -> int:
        """Return an integer from 0 to `value_max`."""
        raw = self.any()
        if type(raw) is not int or not 0 <= raw <= value_max:
            raise self._wrong(name, raw, f"an integer from 0 to {value_max}")
        return raw

    def binary(self, name: str, size: int) -> bytes:
        """Return exactly `size` bytes."""
        raw = self.any()
        if not isinstance(raw, bytes) or len(raw) != size:
            raise self._wrong(name, raw, f"{size} bytes")
        return raw

    def text(self, name: str, size_max: int) -> str:
        """Return a text of at most `size_max` bytes."""
        raw = self.any()
        if not isinstance(raw, str) or len(raw.encode()) > size_max:
            raise self._wrong(name, raw, f"a text of at most {size_max} bytes")
        return raw

    def state(self, name: str, kind: type[State]) -> State:
        """Return a member of an enumeration."""
        raw = self.integer(name, 2**31)
        try:
            return kind(raw)
        except ValueError:
            raise self._wrong(name, raw, f"a {kind.__name__}") from None

    def nested(self, name: str, count: int) -> "Fields":
        """Return a record of `count` fields."""
        return Fields(self.any(), f"{self.name}: {name}", count)

    def values(self, name: str, count: int) -> Iterator[object]:
        """Return the items of a list of exactly `count`, one for each of something else."""
        raw = self.any()
        if not isinstance(raw, list) or len(raw) != count:
            raise self._wrong(name, raw, f"a list of {count}")
        return iter(raw)

    def items(self, name: str, count_max: int) -> Iterator[object]:
        """Return the items of a list of at most `count_max`."""
        raw = self.any()
        if not isinstance(raw, list) or len(raw) > count_max:
            raise self._wrong(name, raw, f"a list of at most {count_max}")
        return iter(raw)

    def _wrong(self, name: str, raw: object, wanted: str) -> MalformedRoutingError:
        return MalformedRoutingError(f"{self.name}: {name} is {raw!r:.80}, not {wanted}")
