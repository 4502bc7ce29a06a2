"""The URL of a store and its options, from text and keywords to StoreOptions.

file:///var/cache/pages?durability=sync&capacity=10GiB
└─┬─┘  └──────┬───────┘ └────────────┬───────────────┘
scheme    directory        options; a keyword wins over the query
"""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from enum import IntEnum
from typing import TypedDict
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from kvstore.errors import InvalidOptionError, InvalidURLError
from kvstore.options import Driver, Durability, Eviction, OpenMode, StoreOptions

SIZE_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
SIZE_UNITS = {
    "": 1,
    "b": 1,
    **{name: 1 << 10 * (i + 1) for i, name in enumerate(("k", "m", "g", "t"))},
    **{name: 1 << 10 * (i + 1) for i, name in enumerate(("kib", "mib", "gib", "tib"))},
    **{name: 1000 ** (i + 1) for i, name in enumerate(("kb", "mb", "gb", "tb"))},
}
UINT64_MAX = (1 << 64) - 1
WORKERS_MAX = 256
DEPTH_MAX = 4096
SECONDS_MAX = 10 * 365 * 24 * 3600


class Options(TypedDict, total=False):
    """The options of connect and connect_sync; None stands for the default.

    Sizes are ints of bytes or text such as "64KiB", "10GB" (decimal) or "1.5G" (binary).
    """

    capacity: int | str | None
    objects_max: int | str | None
    memory: int | str | None
    durability: str | Durability | None
    eviction: str | Eviction | None
    driver: str | Driver | None
    mode: str | OpenMode | None
    workers: int | str | None
    depth: int | str | None
    ttl_s: float | str | None
    timeout_s: float | str | None
    scrub_bytes_per_s: int | str | None


def parse_url(url: str, options: Mapping[str, object]) -> StoreOptions:
    """Return the options of an embedded store; *options* win over those in the URL."""
    parts = split_url(url)
    given = {**query_of(url, parts), **options}
    directory = directory_of(url, parts)
    parsed: dict[str, object] = {}
    for name, value in given.items():
        parser = PARSERS.get(name)
        if parser is None:
            raise InvalidOptionError(unknown_option(name))
        if value is not None:
            parsed[name] = parser(name, value)
    return StoreOptions(directory=directory, **parsed)  # type: ignore[arg-type]


def parse_size(text: str) -> int:
    """Return bytes: "64KiB" and "64K" are 65536, "64KB" is 64000."""
    match = SIZE_PATTERN.fullmatch(text.strip())
    unit = SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise InvalidOptionError(f"{text!r} is no size: write bytes, or 64KiB, 10GB, 1.5G")
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL that this version serves."""
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str, got {type(url).__name__}")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidURLError(f"{url!r} is no URL: {error}") from error
    if parts.scheme in ("kv", "ring"):
        raise InvalidURLError(
            f"{url!r}: this version serves file:// only, one store in one process; "
            f"{parts.scheme}:// names a cluster"
        )
    if parts.scheme != "file":
        raise InvalidURLError(f"{url!r}: the URL of a store is file:///directory?option=value")
    if parts.fragment:
        raise InvalidURLError(f"{url!r}: write # as %23 in a directory's name")
    return parts


def directory_of(url: str, parts: SplitResult) -> str:
    """Return the absolute directory of a file URL."""
    directory = unquote(parts.path, errors="surrogateescape")
    if parts.netloc not in ("", "localhost"):
        raise InvalidURLError(
            f"{url!r}: {parts.netloc!r} stands where a host would; "
            f"three slashes begin a directory: file:///{parts.netloc}{parts.path}"
        )
    if not directory.startswith("/"):
        raise InvalidURLError(f"{url!r}: the directory must be absolute: file:///directory")
    if "\0" in directory:
        raise InvalidURLError(f"{url!r}: a directory's name has no NUL byte")
    return directory


def query_of(url: str, parts: SplitResult) -> dict[str, str]:
    """Return the options of the query; each may be given once."""
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise InvalidURLError(f"{url!r}: the query is option=value&option=value") from error
    query = dict(pairs)
    if len(query) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidURLError(f"{url!r}: the option {twice!r} is given twice")
    return query


def unknown_option(name: str) -> str:
    """Say what the options are, and which one was probably meant."""
    close = get_close_matches(name, PARSERS, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown option {name!r}{hint}; the options are {', '.join(sorted(PARSERS))}"


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


PARSERS: Mapping[str, Callable[[str, object], object]] = {
    "capacity": size_of,
    "objects_max": count_between(0, UINT64_MAX),
    "memory": size_of,
    "durability": choice_from(Durability),
    "eviction": choice_from(Eviction),
    "driver": choice_from(Driver),
    "mode": choice_from(OpenMode),
    "workers": count_between(1, WORKERS_MAX),
    "depth": count_between(1, DEPTH_MAX),
    "ttl_s": seconds_of,
    "timeout_s": seconds_of,
    "scrub_bytes_per_s": size_of,
}

assert set(PARSERS) == set(Options.__annotations__)
