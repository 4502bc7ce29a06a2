"""Group commit: one flush off the event loop for everybody who waits, never two at a time."""

import asyncio
from collections.abc import Callable

from kvstore.errors import MetadataError


class GroupCommit:
    """Counts what is written and what is durable; the first who waits starts a flush.

    A flush that fails is never repeated as if nothing had happened: what it left behind is unknown,
    so every wait from then on fails.
    """

    def __init__(
        self, flush: Callable[[], None], durable: int, advanced: Callable[[], None]
    ) -> None:
        """Begin with everything up to `durable` flushed; `advanced` is called when that grows."""
        self._flush = flush
        self._advanced = advanced
        self._task: asyncio.Task[None] | None = None
        self._failure: str | None = None
        self.written = durable
        self.durable = durable

    async def wait(self, revision: int) -> None:
        """Return when everything up to a written revision is durable."""
        assert revision <= self.written
        while self.durable < revision and self._failure is None:
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._flush_once())
            await asyncio.shield(self._task)
        self.check()

    def fail(self, reason: str) -> None:
        """Refuse everything from now on: what a failed write left behind is unknown."""
        self._failure = self._failure or reason
        self._advanced()

    async def close(self) -> None:
        """Wait for the flush in progress."""
        if self._task is not None:
            await asyncio.shield(self._task)

    def check(self) -> None:
        """Raise MetadataError once a flush has failed."""
        if self._failure is not None:
            raise MetadataError(f"the metadata store failed: {self._failure}")

    async def _flush_once(self) -> None:
        revision = self.written
        try:
            await asyncio.to_thread(self._flush)
        except Exception as error:  # the engine raises bare exceptions
            self.fail(str(error))
        else:
            self.durable = revision
            self._advanced()
