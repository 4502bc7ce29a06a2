"""Finds the primary among addresses: all at once, the first that says it is primary is taken."""

import asyncio
import socket
from collections.abc import Sequence

from kvstore.addresses import Address
from kvstore.cluster.fields import Fields
from kvstore.cluster.mgmtd.wire import WHO
from kvstore.cluster.rpc.connection import Connection, Pushed, connect
from kvstore.errors import (
    InvalidOptionError,
    KVStoreError,
    MalformedRoutingError,
    MgmtdUnavailableError,
    NotMgmtdError,
    NotPrimaryError,
    RpcError,
    RpcVersionError,
    StoreAccessError,
)

ADDRESS_SIZE_MAX = 512
FINAL = (StoreAccessError, RpcVersionError, NotMgmtdError)
"""What asking again does not change; raised when nobody says anything else."""


class Finder:
    """The addresses, and the one that the primary was last said to have."""

    def __init__(
        self, addresses: Sequence[Address], secret: bytes, name: str, pushed: Pushed
    ) -> None:
        """Look for nobody yet."""
        if not addresses:
            raise InvalidOptionError("no address of mgmtd is given: write HOST:PORT")
        self._addresses = tuple(addresses)
        self.secret = secret
        """What is shown first."""
        self._proven = secret
        self._name = name
        self._pushed = pushed
        self._hint: Address | None = None

    def hint(self, address: str) -> None:
        """Try this address too, beside the others."""
        try:
            self._hint = Address.parse(address) if address else None
        except InvalidOptionError:
            self._hint = None

    async def find(self, timeout_s: float) -> Connection:
        """Return a connection to the primary, by one round over all addresses.

        MgmtdUnavailableError says of each address why it is not; another round may find it.
        """
        failures: dict[str, KVStoreError] = {}
        tried: set[Address] = set()
        wanted = list(dict.fromkeys([*filter(None, [self._hint]), *self._addresses]))
        while wanted:
            tried.update(wanted)
            attempts = await self._resolved(wanted, failures, timeout_s)
            found = await self._first(attempts, failures, timeout_s)
            if found is not None:
                return found
            # Somebody may have named the primary.
            wanted = [self._hint] if self._hint and self._hint not in tried else []
        raise self._failed(failures)

    def _failed(self, failures: dict[str, KVStoreError]) -> KVStoreError:
        kinds = {type(failure) for failure in failures.values()}
        for kind in FINAL:
            if kinds == {kind}:
                return next(iter(failures.values()))
        said = "; ".join(sorted({str(failure) for failure in failures.values()}))
        return MgmtdUnavailableError(said or "no address of mgmtd can be resolved")

    async def _resolved(
        self, addresses: Sequence[Address], failures: dict[str, KVStoreError], timeout_s: float
    ) -> list[Address]:
        """Return every address of every name, resolved now."""
        loop = asyncio.get_running_loop()
        found: dict[Address, None] = {}
        for address in addresses:
            try:
                async with asyncio.timeout(timeout_s):
                    rows = await loop.getaddrinfo(
                        address.name, address.port, type=socket.SOCK_STREAM
                    )
            except TimeoutError:
                failures[str(address)] = RpcError(f"{address}: the name is not resolved in time")
            except OSError as error:
                failures[str(address)] = RpcError(f"{address}: {error.strerror or error}")
            else:
                found.update((Address(str(row[4][0]), address.port), None) for row in rows)
        return list(found)

    async def _first(
        self, addresses: Sequence[Address], failures: dict[str, KVStoreError], timeout_s: float
    ) -> Connection | None:
        """Return the first connection whose other end is primary; the others are ended."""
        attempts = [asyncio.ensure_future(self._attempt(each, timeout_s)) for each in addresses]
        primary: Connection | None = None
        try:
            for attempt, address in zip(asyncio.as_completed(attempts), addresses, strict=True):
                try:
                    primary = await attempt
                except KVStoreError as error:
                    failures[f"{address} {error}"] = error
                else:
                    return primary
        finally:
            for task in attempts:
                task.cancel()
            for task in attempts:
                await asyncio.wait((task,))
                other = None if task.cancelled() or task.exception() else task.result()
                if other is not None and other is not primary:
                    other.abort()
        return None

    async def _attempt(self, address: Address, timeout_s: float) -> Connection:
        """Return a connection to one address, if that is the primary."""
        connection = await self._connected(address, timeout_s)
        try:
            fields = Fields(await connection.call(WHO, None, timeout_s), "who", 2)
            primary = fields.integer("primary", 1)
            where = fields.text("address", ADDRESS_SIZE_MAX)
        except (KVStoreError, asyncio.CancelledError) as error:
            connection.abort()
            if isinstance(error, MalformedRoutingError):
                raise RpcError(f"{address}: {error}") from error
            raise
        if not primary:
            connection.abort()
            self.hint(where)
            raise NotPrimaryError(f"{address} is not primary" + (f", {where} is" if where else ""))
        return connection

    async def _connected(self, address: Address, timeout_s: float) -> Connection:
        """Return a connection by the secret, or by the one that was taken last."""
        refused: list[StoreAccessError] = []
        for secret in dict.fromkeys((self.secret, self._proven)):
            try:
                connection = await connect(
                    address,
                    secret=secret,
                    name=self._name,
                    timeout_s=timeout_s,
                    pushed=self._pushed,
                )
            except StoreAccessError as error:
                refused.append(error)
            else:
                self._proven = secret
                return connection
        raise refused[0]
