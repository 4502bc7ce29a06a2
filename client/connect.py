"""From a URL to an open store."""

import asyncio
from collections.abc import Generator
from types import TracebackType
from typing import Unpack

from kvstore.client.async_store import AsyncStore
from kvstore.client.store import Store
from kvstore.client.threads import run_to_end
from kvstore.client.url import Options, parse_url
from kvstore.options import ClientOptions, StoreOptions


def connect(url: str, **options: Unpack[Options]) -> "Connecting":
    """Open a store for asyncio: `await connect(url)` or `async with connect(url) as store:`.

    *url* is file:///directory?option=value for a store in this process, whose options and defaults
    are those of kvstore.options.StoreOptions, or kv://mgmtd:port[,mgmtd:port]/namespace?option=value
    for one that nodes serve, with ClientOptions; a keyword wins over the query. The secret that
    nodes share comes as secret, as secret_file, or from the variable KVSTORE_SECRET. A bad URL or
    option raises here, at once; see kvstore.errors for what opening raises.
    """
    return Connecting(parse_url(url, options))


def connect_sync(url: str, **options: Unpack[Options]) -> Store:
    """Open a store whose calls block; a context manager. Arguments are those of connect."""
    return Store(parse_url(url, options))


class Connecting:
    """A store about to be opened: await it, or enter it."""

    def __init__(self, options: StoreOptions | ClientOptions) -> None:
        """Remember how to open the store; nothing happens yet."""
        self._options = options
        self._store: AsyncStore | None = None

    def __repr__(self) -> str:
        """Show the directory or the URL."""
        return f"<Connecting to {self._options.name}>"

    def __await__(self) -> Generator[object, None, AsyncStore]:
        """Open the store."""
        return self._open().__await__()

    async def __aenter__(self) -> AsyncStore:
        """Open the store."""
        self._store = await self._open()
        return self._store

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        assert self._store is not None
        await self._store.close()

    async def _open(self) -> AsyncStore:
        opened: list[AsyncStore] = []
        try:
            # Opening reads the disk, after a crash for seconds, or talks to nodes.
            await run_to_end(lambda: opened.append(AsyncStore(self._options)))
        except asyncio.CancelledError:
            for store in opened:
                await store.close()
            raise
        return opened[0]
