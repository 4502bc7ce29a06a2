"""A session within one process: it lasts while the process runs its event loop in time."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from kvstore.cluster.metadata.port import SessionId
from kvstore.errors import MetadataError

RENEWALS_PER_TTL = 4
NS_A_SECOND = 1_000_000_000


class RocksSession:
    """Implements Session. Its own task renews it, and drops its keys when it has ended."""

    def __init__(
        self,
        id: SessionId,
        ttl_s: float,
        clock_ns: Callable[[], int],
        drop: Callable[[SessionId], Awaitable[None]],
    ) -> None:
        """Begin now; `drop` deletes the keys."""
        self._id = id
        self._ttl_s = ttl_s
        self._clock_ns = clock_ns
        self._drop = drop
        self._renewing = True
        self._lost = asyncio.Event()
        self._deadline_ns = self._next_deadline_ns()
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def id(self) -> SessionId:
        """The session's id, for Put."""
        return self._id

    def alive(self) -> bool:
        """Say whether the keys are certain to be there still."""
        return not self._lost.is_set() and self._clock_ns() < self._deadline_ns

    async def lost(self) -> None:
        """Wait until the session is no longer alive."""
        await self._lost.wait()

    async def close(self) -> None:
        """End it, and its keys, now."""
        await self.stop()
        await self._drop(self._id)

    async def abandon(self) -> None:
        """Stop renewing: the keys stay until the time has run out."""
        self._renewing = False

    async def stop(self) -> None:
        """End it, and leave its keys."""
        self._lost.set()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while (now_ns := self._clock_ns()) < self._deadline_ns:
            if self._renewing:
                self._deadline_ns = self._next_deadline_ns()
                await asyncio.sleep(self._ttl_s / RENEWALS_PER_TTL)
            else:
                await asyncio.sleep((self._deadline_ns - now_ns) / NS_A_SECOND)
        self._lost.set()
        with suppress(MetadataError):  # a store that has failed has nothing to delete from
            await self._drop(self._id)

    def _next_deadline_ns(self) -> int:
        return self._clock_ns() + round(self._ttl_s * NS_A_SECOND)
