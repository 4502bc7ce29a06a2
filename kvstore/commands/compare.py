"""Comparing the replicas of a chain: every object that each target stores, key by key.

Guarantees: what differs only because updates are under way is not reported: a difference counts
when it is the same a moment later. Memory: the keys of one target.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kvstore.addresses import Address
from kvstore.client import StoreUnavailableError
from kvstore.client.nodes_follower import reason_of
from kvstore.cluster.ids import ChainId
from kvstore.cluster.routes import address_of
from kvstore.cluster.routing import RoutingInfo
from kvstore.cluster.states import PublicState
from kvstore.native.client import ControlError, NativeClient
from kvstore.native.listing import END, LIST_BODY, LIST_REPLY, StoredObject, parse_stored
from kvstore.types import ControlKind

PAGE_SIZE = 4 << 20
SETTLE_S = 0.5
"""What updates under way may take; differences are looked at again after it."""
CLOCKS_APART_S = 5.0
"""What expires within it counts as absent: some target may have removed it."""

Facts = StoredObject | None
"""What one replica says of a key; None: it has no such key."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A target that serves, and where it is."""

    target: int
    node: int
    address: Address


@dataclass(frozen=True, slots=True)
class Difference:
    """A key of which the replicas of a chain do not say the same."""

    stored_key: bytes
    facts: tuple[Facts, ...]
    """In the order of the replicas."""


@dataclass(frozen=True, slots=True)
class ComparedChain:
    """What the replicas of a chain hold."""

    chain: int
    version: int
    replicas: tuple[Replica, ...]
    objects: int
    """Of the first replica."""
    differences: tuple[Difference, ...]


def compare_chains(client: NativeClient, routing: RoutingInfo) -> Iterator[ComparedChain]:
    """Yield each chain, in the order of their ids."""
    for id in sorted(routing.chains):
        yield compare_chain(client, routing, id)


def compare_chain(client: NativeClient, routing: RoutingInfo, id: ChainId) -> ComparedChain:
    """Compare what the serving replicas of a chain hold, twice where they differ."""
    chain = routing.chains[id]
    replicas = tuple(
        Replica(target, node.id, address_of(node))
        for target in chain.in_state(PublicState.SERVING)
        for node in (routing.nodes[routing.targets[target].node],)
    )
    objects, found = differences(client, replicas)
    if found:
        time.sleep(SETTLE_S)
        objects, again = differences(client, replicas)
        found = {key: facts for key, facts in again.items() if found.get(key) == facts}
    settled = tuple(Difference(key, facts) for key, facts in sorted(found.items()))
    return ComparedChain(id, chain.version, replicas, objects, settled)


def differences(
    client: NativeClient, replicas: Sequence[Replica]
) -> tuple[int, Mapping[bytes, tuple[Facts, ...]]]:
    """Return how many objects the first replica has, and the keys that are not the same in all."""
    if not replicas:
        return 0, {}
    return differing([stored_objects(client, replica) for replica in replicas])


def differing(
    listings: Sequence[Iterable[StoredObject]],
) -> tuple[int, dict[bytes, tuple[Facts, ...]]]:
    """Return the count of the first listing, and what each says of keys that they disagree on."""
    first = {found.stored_key: found for found in listings[0]}
    rows: dict[bytes, list[Facts]] = {}
    for index, listing in enumerate(listings[1:], 1):
        missing = set(first)
        for found in listing:
            missing.discard(found.stored_key)
            if first.get(found.stored_key) != found:
                row_of(rows, found.stored_key, first, len(listings))[index] = found
        for key in missing:
            row_of(rows, key, first, len(listings))[index] = None
    return len(first), {key: tuple(row) for key, row in rows.items()}


def row_of(
    rows: dict[bytes, list[Facts]], key: bytes, first: Mapping[bytes, StoredObject], count: int
) -> list[Facts]:
    """Return the row of a key; who has not disagreed is taken to say what the first says."""
    return rows.setdefault(key, [first.get(key)] * count)


def stored_objects(client: NativeClient, replica: Replica) -> Iterator[StoredObject]:
    """Yield every object that a target stores, of all namespaces."""
    cursor = 0
    expired_ms = int((time.time() + CLOCKS_APART_S) * 1000)
    while cursor != END:
        try:
            reply = client.control(
                replica.address,
                replica.target,
                ControlKind.LIST_STORED,
                LIST_BODY.pack(cursor, PAGE_SIZE),
                LIST_REPLY.size + PAGE_SIZE,
                client.options.timeout_s,
            )
        except ControlError as error:
            raise StoreUnavailableError(
                f"cannot list target {replica.target} of node {replica.node} at"
                f" {replica.address}: {reason_of(error)}"
            ) from error
        (cursor,) = LIST_REPLY.unpack_from(reply)
        yield from unexpired(parse_stored(reply[LIST_REPLY.size :]), expired_ms)


def unexpired(found: Iterable[StoredObject], expired_ms: int) -> Iterator[StoredObject]:
    """Yield what outlives a time: each target removes what has expired at a time of its own."""
    return (each for each in found if each.expiry_ms == 0 or each.expiry_ms > expired_ms)
