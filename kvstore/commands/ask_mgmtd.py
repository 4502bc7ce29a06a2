"""Asking the mgmtd of a URL: one question a command, or the same one until something is done."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kvstore.client import InvalidURLError
from kvstore.client.url import parse_url
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.errors import NotMgmtdError
from kvstore.options import ClientOptions

T = TypeVar("T")
Answer = dict[str, object]


def options_of(url: str) -> ClientOptions:
    """Return the options of a URL that names mgmtd."""
    options = parse_url(url, {})
    if not isinstance(options, ClientOptions):
        raise InvalidURLError(f"{url!r}: this is about clusters: kv://mgmtd:port/namespace")
    return options


def ask_mgmtd(options: ClientOptions, call: Callable[[MgmtdClient], Awaitable[T]]) -> T:
    """Return what *call* gets from the primary."""

    async def ask() -> T:
        async with MgmtdClient(options.addresses, secret=options.secret) as mgmtd:
            return await call(mgmtd)

    try:
        return asyncio.run(ask())
    except NotMgmtdError as error:
        raise InvalidURLError(
            f"{options.name}: the URL of a cluster names its mgmtd: {error}"
        ) from error


def operate(options: ClientOptions, operation: str, **parameters: object) -> Answer:
    """Have mgmtd do an operator's operation; parameters that are None are left out."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return ask_mgmtd(
        options, lambda mgmtd: mgmtd.admin(operation, timeout_s=options.timeout_s, **given)
    )


def rows_of(answer: Answer, name: str) -> list[Answer]:
    """Return a list of an answer, whose rows are objects."""
    rows = answer.get(name, [])
    assert isinstance(rows, list)
    return rows


def list_of(answer: Answer, name: str) -> list[object]:
    """Return a list of an answer, whatever it is of; empty where there is none."""
    found = answer.get(name, [])
    assert isinstance(found, list)
    return found


def number_of(row: Answer, name: str) -> int:
    """Return a number of an answer; 0 where there is none."""
    value = row.get(name)
    return value if isinstance(value, int) else 0


def words_of(row: Answer, name: str) -> str:
    """Return a text of an answer."""
    value = row.get(name)
    return "" if value is None else str(value)
