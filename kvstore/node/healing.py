"""Damaged values of a node's targets, replaced by what other targets of their chains hold.

    damaged objects, from the core ──► read from who else serves ──► given to the core, which checks

Guarantees: an object is replaced by the bytes that it was set with, or stays as it is: the core
compares checksums, and passes over what changed meanwhile. So a target heals while it serves.
Leaves to others: finding damage (reads, the scrub), and telling of it (reports).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kvstore.cluster.ids import TargetId
from kvstore.cluster.routing import RoutingInfo
from kvstore.errors import KVStoreError
from kvstore.native.client import NativeClient
from kvstore.native.listing import StoredObject, split_stored_key
from kvstore.native.request import Operation, Request
from kvstore.node.devices import chain_of, others_serving
from kvstore.node.log import Log
from kvstore.options import ClientOptions
from kvstore.types import ChainState, Status

LOOK_S = 1.0
"""Between two looks for damaged values."""
VALUES_A_LOOK_MAX = 16
"""Of one target; the others wait for the next look."""
FETCH_TIMEOUT_S = 2.0
CLOSE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Source:
    """Who serves a chain beside a target, as the core's client wants it."""

    chain_version: int
    nodes: tuple[str, ...]
    members: tuple[tuple[int, int], ...]
    """Index of the node, and target; head first."""


class Damaged(Protocol):
    """A node that tells of damage and takes what heals it."""

    def chain_states(self) -> list[ChainState]:
        """Return how every target is."""

    def damaged(self, target: int) -> list[StoredObject]:
        """Return the objects of a target that are known to be damaged."""

    def repair(self, target: int, stored_key: bytes, value: bytes | bytearray) -> bool:
        """Replace the value of one; False: it is not damaged any more, or is another one."""


Fetch = Callable[[Source, StoredObject], bytearray | None]
"""Reads a value; None where nobody has it."""


class Healer:
    """Looks after the targets of one node."""

    def __init__(
        self, node: Damaged, routing: Callable[[], RoutingInfo], fetch: Fetch, log: Log
    ) -> None:
        """Do nothing yet."""
        self.log = log
        self._node = node
        self._routing = routing
        self._fetch = fetch
        self._told: dict[TargetId, int] = {}
        self._ended = False

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                await self.look()
        finally:
            self._ended = True  # a thread that is at it ends soon

    async def look(self) -> None:
        """Heal what can be healed now, in a thread."""
        for state in self._node.chain_states():
            target = TargetId(state.target)
            self._tell(target, state.damaged)
            if state.damaged:
                await asyncio.to_thread(self.heal, target)

    def heal(self, target: TargetId) -> None:
        """Replace damaged values of a target, as many as one look may."""
        damaged = self._node.damaged(target)
        source = source_of(self._routing(), target)
        if source is None:
            return
        for object in damaged[:VALUES_A_LOOK_MAX]:
            if self._ended:
                return
            try:
                value = self._fetch(source, object)
                healed = value is not None and self._node.repair(target, object.stored_key, value)
            except KVStoreError as error:
                self.log.warning("a value was not healed", target=target, error=str(error))
                return
            if healed:
                self.log.info("damaged value replaced", target=target, size=object.size)

    def _tell(self, target: TargetId, count: int) -> None:
        if count > self._told.get(target, 0):
            self.log.warning("damaged values", target=target, count=count)
        self._told[target] = count


def source_of(routing: RoutingInfo, target: TargetId) -> Source | None:
    """Return where else the values of a target are served; None: nowhere."""
    others, chain = others_serving(routing, target), chain_of(routing, target)
    if not others or chain is None:
        return None
    nodes = [routing.targets[other].node for other in others]
    return Source(
        chain_version=chain.version,
        nodes=tuple(routing.nodes[node].addresses[0] for node in nodes),
        members=tuple(enumerate(others)),
    )


def fetch_with(secret: Callable[[], bytes]) -> Fetch:
    """Return what reads values over the network; *secret* is what nodes want proven."""

    def fetch(source: Source, object: StoredObject) -> bytearray | None:
        tenant, name_space, key = split_stored_key(object.stored_key)
        client = NativeClient(
            ClientOptions(
                addresses=(),
                tenant=tenant,
                name_space=name_space,
                secret=secret(),
                timeout_s=FETCH_TIMEOUT_S,
                connect_timeout_s=FETCH_TIMEOUT_S,
                lanes=1,
            )
        )
        try:
            chain = (source.chain_version, 0, len(source.members))
            client.route_chains(1, source.nodes, source.members, [chain], [0])
            return _read(client, key, object.size)
        finally:
            client.close(CLOSE_TIMEOUT_S)

    return fetch


def _read(client: NativeClient, key: bytes, size: int) -> bytearray | None:
    value = bytearray(size)
    with Request.get_into([key], [value]) as request:
        assert request.operation is Operation.GET
        client.run(request)
        found = request.columns.statuses() == [Status.OK] and request.columns.sizes() == [size]
    return value if found else None
