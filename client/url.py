"""The URL of a store and its options, from text and keywords to StoreOptions or ClientOptions.

file:///var/cache/pages?durability=sync&capacity=10GiB        a store in this process
└─┬─┘  └──────┬───────┘ └────────────┬───────────────┘
scheme    directory        options; a keyword wins over the query
 ┌┴─┐  ┌──────┴──────┐ ┌──┴──┐ ┌─────┴──────┐
kv://name1:7300,[::1]:7300/pages?tenant=a&timeout_s=5         a store that nodes serve
       addresses, any   namespace, "default" unless given

The addresses are those of the cluster's mgmtd, or of storage nodes that are on their own.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from kvstore.addresses import MGMTD_PORT_DEFAULT, Address
from kvstore.errors import InvalidOptionError, InvalidURLError
from kvstore.options import (
    ClientOptions,
    Driver,
    Durability,
    Eviction,
    OpenMode,
    ReactorDriver,
    StoreOptions,
)
from kvstore.parsers import (
    UINT64_MAX,
    boolean_of,
    choice_from,
    count_between,
    seconds_of,
    size_of,
    text_of,
    unknown_option,
)
from kvstore.shared_secret import read_secret, secret_of, secret_of_environment

WORKERS_MAX = 256
DEPTH_MAX = 4096
LANES_MAX = 256
CONNECTIONS_MAX = 1024
ADDRESSES_MAX = 64
TOKEN_SIZE_MAX = 4096
NAME_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,63}")
KV_PATTERN = re.compile(r"kv://([^/?#]*)(/[^?#]*)?(?:\?([^#]*))?(#.*)?", re.IGNORECASE | re.DOTALL)
EXAMPLES = "file:///directory?option=value or kv://mgmtd:7300/namespace?option=value"


class Options(TypedDict, total=False):
    """The options of connect and connect_sync; None stands for the default.

    Sizes are ints of bytes or text such as "64KiB", "10GB" (decimal) or "1.5G" (binary).
    """

    timeout_s: float | str | None

    # Of a store in this process: file://

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
    scrub_bytes_per_s: int | str | None

    # Of a store that nodes serve: kv://

    tenant: str | None
    token: str | bytes | None
    secret: str | bytes | None
    secret_file: str | Path | None
    connect_timeout_s: float | str | None
    lanes: int | str | None
    connections: int | str | None
    verify: bool | str | None
    reactor: str | ReactorDriver | None


def parse_url(
    url: str, options: Mapping[str, object], environment: Mapping[str, str] = os.environ
) -> StoreOptions | ClientOptions:
    """Return the options of a store; *options* win over those in the URL."""
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str, got {type(url).__name__}")
    if serves_nodes(url):
        return parse_kv_url(url, options, environment)
    return parse_file_url(url, options)


def serves_nodes(url: str) -> bool:
    """Return whether a URL names a store that nodes serve."""
    return url[:5].lower() == "kv://"


def parse_values(
    given: Mapping[str, object],
    parsers: Mapping[str, Callable[[str, object], object]],
    kind: str,
    others: Mapping[str, Callable[[str, object], object]],
    kind_of_others: str,
) -> dict[str, object]:
    """Return the values of options; one that makes no sense for this kind of URL is refused."""
    parsed: dict[str, object] = {}
    for name, value in given.items():
        parser = parsers.get(name)
        if parser is None and name in others:
            raise InvalidOptionError(
                f"the option {name!r} is one of {kind_of_others} stores and makes no sense for "
                f"{kind}; the options here are {', '.join(sorted(parsers))}"
            )
        if parser is None:
            raise InvalidOptionError(unknown_option(name, list(parsers)))
        if value is not None:
            parsed[name] = parser(name, value)
    return parsed


# A store in this process.


def parse_file_url(url: str, options: Mapping[str, object]) -> StoreOptions:
    """Return the options of an embedded store."""
    parts = split_url(url)
    given = {**query_of(url, parts.query), **options}
    directory = directory_of(url, parts)
    parsed = parse_values(given, PARSERS, "file://", CLIENT_PARSERS, "kv://")
    return StoreOptions(directory=directory, **parsed)  # type: ignore[arg-type]


def split_url(url: str) -> SplitResult:
    """Return the parts of a file URL."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidURLError(f"{url!r} is no URL: {error}") from error
    if parts.scheme == "ring":
        raise InvalidURLError(f"{url!r}: this version serves file:// and kv:// only")
    if parts.scheme != "file":
        raise InvalidURLError(f"{url!r}: the URL of a store is {EXAMPLES}")
    if parts.fragment:
        raise InvalidURLError(f"{url!r}: write # as %23 in a directory's name")
    return parts


def directory_of(url: str, parts: SplitResult) -> str:
    """Return the absolute directory of a file URL."""
    directory = unquote(parts.path, errors="surrogateescape")
    if parts.netloc not in ("", "localhost"):
        raise InvalidURLError(
            f"{url!r}: {parts.netloc!r} stands where no name belongs; "
            f"three slashes begin a directory: file:///{parts.netloc}{parts.path}"
        )
    if not directory.startswith("/"):
        raise InvalidURLError(f"{url!r}: the directory must be absolute: file:///directory")
    if "\0" in directory:
        raise InvalidURLError(f"{url!r}: a directory's name has no NUL byte")
    return directory


def query_of(url: str, query: str) -> dict[str, str]:
    """Return the options of the query; each may be given once."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise InvalidURLError(f"{url!r}: the query is option=value&option=value") from error
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidURLError(f"{url!r}: the option {twice!r} is given twice")
    return dict(pairs)


# A store that nodes serve.


def parse_kv_url(
    url: str, options: Mapping[str, object], environment: Mapping[str, str]
) -> ClientOptions:
    """Return the options of a client of nodes."""
    match = KV_PATTERN.fullmatch(url)
    assert match is not None, "the pattern takes whatever begins with kv://"
    authority, path, query, fragment = match.groups()
    if fragment:
        raise InvalidURLError(f"{shown_kv(url)}: a URL of a store has no #")
    given: dict[str, object] = {**query_of(shown_kv(url), query or ""), **options}
    parsed = parse_values(given, CLIENT_PARSERS, "kv://", PARSERS, "file://")
    secret_file = parsed.pop("secret_file", None)
    if isinstance(secret_file, Path):
        if "secret" in parsed:
            raise InvalidOptionError("secret and secret_file are both given: one is enough")
        parsed["secret"] = read_secret(secret_file)
    if "secret" not in parsed:
        parsed["secret"] = secret_of_environment(environment) or b""
    return ClientOptions(
        addresses=addresses_of(shown_kv(url), authority),
        name_space=name_space_of(shown_kv(url), path or ""),
        **parsed,  # type: ignore[arg-type]
    )


def shown_kv(url: str) -> str:
    """Return a URL as messages show it: without the query, which may hold what is secret."""
    return repr(url.partition("?")[0])


def addresses_of(shown: str, authority: str) -> tuple[Address, ...]:
    """Return whom to ask where keys are, each once."""
    if not authority:
        raise InvalidURLError(f"{shown}: no address: write kv://mgmtd:7300/namespace")
    if "@" in authority:
        raise InvalidURLError(f"{shown}: credentials go into secret_file, KVSTORE_SECRET or token")
    try:
        parsed = (Address.parse(text, MGMTD_PORT_DEFAULT) for text in authority.split(","))
        addresses = tuple(dict.fromkeys(parsed))
    except InvalidOptionError as error:
        raise InvalidURLError(f"{shown}: {error}") from error
    if any(address.port == 0 for address in addresses):
        raise InvalidURLError(f"{shown}: nobody can connect to port 0")
    if len(addresses) > ADDRESSES_MAX:
        raise InvalidURLError(f"{shown}: {len(addresses)} addresses, {ADDRESSES_MAX} are enough")
    return addresses


def name_space_of(shown: str, path: str) -> str:
    """Return the namespace."""
    name_space = path.removeprefix("/").removesuffix("/") or "default"
    if not NAME_PATTERN.fullmatch(name_space):
        raise InvalidURLError(
            f"{shown}: {name_space!r} is no namespace: "
            "1 to 63 letters, digits, '-', '_' and '.', and no further '/'"
        )
    return name_space


def name_of(name: str, value: object) -> str:
    """Take the name of a tenant."""
    if isinstance(value, str) and NAME_PATTERN.fullmatch(value):
        return value
    raise InvalidOptionError(
        f"{name}: {value!r} is no name: 1 to 63 letters, digits, '-', '_' and '.'"
    )


def token_of(name: str, value: object) -> bytes:
    """Take a token, which no message shows."""
    token = value.encode() if isinstance(value, str) else value
    if not isinstance(token, bytes) or not 0 < len(token) <= TOKEN_SIZE_MAX:
        raise InvalidOptionError(f"{name}: expected text or bytes, {TOKEN_SIZE_MAX} at most")
    return token


def secret_value_of(name: str, value: object) -> bytes:
    """Take a secret, which no message shows."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if not isinstance(value, str):
        raise InvalidOptionError(f"{name}: expected text or bytes, got {type(value).__name__}")
    return secret_of(value, name)


def path_of(name: str, value: object) -> Path:
    """Take the name of a file."""
    return value if isinstance(value, Path) else Path(text_of(name, value))


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

CLIENT_PARSERS: Mapping[str, Callable[[str, object], object]] = {
    "tenant": name_of,
    "token": token_of,
    "secret": secret_value_of,
    "secret_file": path_of,
    "timeout_s": seconds_of,
    "connect_timeout_s": seconds_of,
    "lanes": count_between(1, LANES_MAX),
    "connections": count_between(1, CONNECTIONS_MAX),
    "verify": boolean_of,
    "reactor": choice_from(ReactorDriver),
}

assert set(PARSERS) | set(CLIENT_PARSERS) == set(Options.__annotations__)
