"""A session of etcd: a lease, renewed in time, with a deadline on the holder's own clock."""

import asyncio
import math
from contextlib import suppress

import grpc
import grpc.aio

from kvstore.cluster.metadata import etcd_pb2 as wire
from kvstore.cluster.metadata.etcd_connection import (
    GRANT,
    RENEW,
    REVOKE,
    EtcdConnection,
    token_refused,
)
from kvstore.cluster.metadata.port import SessionId
from kvstore.errors import MetadataError, MetadataUnavailableError

RENEWALS_PER_TTL = 4
RETRY_PAUSE_S = 0.1
ATTEMPT_MIN_S = 0.3
CLOCK_DRIFT_MAX = 0.02
"""How much faster etcd's clock may run than the holder's, as a fraction."""


class EtcdSession:
    """Implements Session. A cut-off holder stops by itself before etcd lets anybody else in."""

    def __init__(self, connection: EtcdConnection, id: int, ttl_s: float, sent_s: float) -> None:
        """Hold a lease that was asked for at `sent_s`."""
        self._connection = connection
        self._id = id
        self._ttl_s = ttl_s
        self._lost = asyncio.Event()
        self._deadline_s = self._deadline_after(sent_s)
        self._renewing = True
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def id(self) -> SessionId:
        """The session's id, for Put."""
        return SessionId(self._id)

    def alive(self) -> bool:
        """Say whether the keys are certain to be there still."""
        return not self._lost.is_set() and self._connection.clock_s() < self._deadline_s

    async def lost(self) -> None:
        """Wait until the session is no longer alive."""
        await self._lost.wait()

    async def close(self) -> None:
        """End it, and its keys, now; where etcd cannot be reached, when its time has run out."""
        await self.stop()
        left_s = self._deadline_s - self._connection.clock_s()
        with suppress(MetadataError, TimeoutError):
            async with asyncio.timeout(max(0.0, left_s)):
                await self._connection.send_once(REVOKE, wire.LeaseRevokeRequest(ID=self._id))

    async def abandon(self) -> None:
        """Stop renewing: the keys stay until the time has run out."""
        self._renewing = False

    async def stop(self) -> None:
        """End it here, and leave the rest to time."""
        self._lost.set()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        pause_s = self._ttl_s / RENEWALS_PER_TTL
        while self._connection.clock_s() < self._deadline_s:
            left_s = self._deadline_s - self._connection.clock_s()
            await asyncio.sleep(max(0.0, min(pause_s, left_s)))
            if not self._renewing:
                continue
            turn = self._connection.turn
            sent_s = self._connection.clock_s()
            ttl_s = await self._renew()
            if ttl_s is None:
                self._connection.rotate(turn)
                pause_s = RETRY_PAUSE_S
            elif ttl_s <= 0:
                break
            else:
                self._deadline_s = self._deadline_after(sent_s)
                pause_s = self._ttl_s / RENEWALS_PER_TTL
        self._lost.set()

    async def _renew(self) -> int | None:
        """Return what etcd says is left: 0 when the lease is gone, None when no answer came."""
        attempt_s = max(ATTEMPT_MIN_S, self._ttl_s / RENEWALS_PER_TTL)
        try:
            call = await self._connection.stream(RENEW, attempt_s)
            try:
                await call.write(wire.LeaseKeepAliveRequest(ID=self._id))
                response = await call.read()
            finally:
                call.cancel()
        except grpc.aio.AioRpcError as error:
            if token_refused(error):
                await self._connection.forget_token()
            return None
        except (asyncio.InvalidStateError, MetadataUnavailableError):
            return None
        return response.TTL if isinstance(response, wire.LeaseKeepAliveResponse) else None

    def _deadline_after(self, sent_s: float) -> float:
        return sent_s + self._ttl_s * (1 - CLOCK_DRIFT_MAX)


async def open_session(connection: EtcdConnection, ttl_s: float) -> EtcdSession:
    """Ask for a lease. etcd counts whole seconds, and grants no less than its election needs.

    A lease whose answer is lost ends by itself, so it is safe to ask again.
    """
    sent_s = connection.clock_s()
    response = await connection.read(GRANT, wire.LeaseGrantRequest(TTL=math.ceil(ttl_s)))
    return EtcdSession(connection, response.ID, response.TTL, sent_s)
