"""From text and keywords to the values of options; each error names the option and what to write.

Sizes are ints of bytes or text such as "64KiB", "10GB" (decimal) or "1.5G" (binary).
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from enum import IntEnum

from kvstore.errors import InvalidOptionError

SIZE_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
SIZE_UNITS = {
    "": 1,
    "b": 1,
    **{name: 1 << 10 * (i + 1) for i, name in enumerate(("k", "m", "g", "t"))},
    **{name: 1 << 10 * (i + 1) for i, name in enumerate(("kib", "mib", "gib", "tib"))},
    **{name: 1000 ** (i + 1) for i, name in enumerate(("kb", "mb", "gb", "tb"))},
}
UINT32_MAX = (1 << 32) - 1
UINT64_MAX = (1 << 64) - 1
SECONDS_MAX = 10 * 365 * 24 * 3600
BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse_size(text: str) -> int:
    """Return bytes: "64KiB" and "64K" are 65536, "64KB" is 64000."""
    match = SIZE_PATTERN.fullmatch(text.strip())
    unit = SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise InvalidOptionError(f"{text!r} is no size: write bytes, or 64KiB, 10GB, 1.5G")
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def size_of(name: str, value: object) -> int:
    """Parse bytes."""
    if isinstance(value, str):
        try:
            size = parse_size(value)
        except InvalidOptionError as error:
            raise InvalidOptionError(f"{name}: {error}") from error
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        raise InvalidOptionError(f"{name}: expected bytes or text such as 64KiB, got {value!r}")
    if not 0 <= size <= UINT64_MAX:
        raise InvalidOptionError(f"{name}: {value!r} is not between 0 and 2^64 - 1")
    return size


def count_between(low: int, high: int) -> Callable[[str, object], int]:
    """Return a parser of whole numbers."""

    def count_of(name: str, value: object) -> int:
        count = int(value) if isinstance(value, str) and value.isdecimal() else value
        if not isinstance(count, int) or isinstance(count, bool) or not low <= count <= high:
            raise InvalidOptionError(f"{name}: {value!r} is no whole number from {low} to {high}")
        return count

    return count_of


def seconds_of(name: str, value: object) -> float:
    """Parse seconds."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) else -1.0
    except ValueError:
        seconds = -1.0
    if isinstance(value, bool) or not 0 <= seconds <= SECONDS_MAX:
        raise InvalidOptionError(f"{name}: {value!r} is no number of seconds")
    return seconds


def choice_from(kind: type[IntEnum]) -> Callable[[str, object], IntEnum]:
    """Return a parser of the names of *kind*, in any case."""

    def choice_of(name: str, value: object) -> IntEnum:
        if isinstance(value, kind):
            return value
        if isinstance(value, str) and value.upper() in kind.__members__:
            return kind[value.upper()]
        choices = ", ".join(member.name.lower() for member in kind)
        raise InvalidOptionError(f"{name}: {value!r} is none of {choices}")

    return choice_of


def boolean_of(name: str, value: object) -> bool:
    """Parse true or false."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in BOOLEANS:
        return BOOLEANS[value.lower()]
    raise InvalidOptionError(f"{name}: {value!r} is neither true nor false")


def text_of(name: str, value: object) -> str:
    """Take text that is not empty."""
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise InvalidOptionError(f"{name}: expected text, got {value!r}")


def unknown_option(name: str, known: list[str]) -> str:
    """Say what the options are, and which one was probably meant."""
    close = get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown option {name!r}{hint}; the options are {', '.join(sorted(known))}"
