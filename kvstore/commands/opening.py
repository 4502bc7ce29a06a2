"""Opening the store of a URL as a command wants it, whichever kind it is."""

from typing import Unpack

from kvstore.client import Connecting, Store, connect, connect_sync
from kvstore.client.url import CLIENT_PARSERS, PARSERS, Options, serves_nodes


def fitting(url: str, options: Options) -> Options:
    """Return the options that make sense for the URL."""
    known = CLIENT_PARSERS if serves_nodes(url) else PARSERS
    return {name: value for name, value in options.items() if name in known}  # type: ignore[return-value]


def open_store(url: str, **options: Unpack[Options]) -> Store:
    """Open a store whose calls block; options of the other kind of store are left out."""
    return connect_sync(url, **fitting(url, options))


def open_async_store(url: str, **options: Unpack[Options]) -> Connecting:
    """Open a store of asyncio in the same way."""
    return connect(url, **fitting(url, options))
