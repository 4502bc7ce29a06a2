"""A storage node of the C core (kv_node): targets served over TCP by threads of the core's own.

Guarantees: safe from any thread; after close() each call raises and the freed kv_node is never
touched. Leaves to others: when to do what, and what to say about it.
"""

import errno
from collections.abc import Sequence
from typing import Any

from kvstore._native import ffi, lib
from kvstore.addresses import Address
from kvstore.native.calls import Calls
from kvstore.native.failures import call_failure, open_failure
from kvstore.native.listing import StoredObject, parse_stored
from kvstore.native.statistics import node_statistics_of, stats_of
from kvstore.native.store import DESCRIPTION_SIZE, native_options
from kvstore.native.values import milliseconds, text_of
from kvstore.options import NodeOptions, StoreOptions
from kvstore.types import (
    ChainPlace,
    ChainState,
    NodeEvent,
    NodeEventKind,
    NodeStatistics,
    SlotMoveOrder,
    Stats,
)

EVENTS_TAKEN_MAX = 64
"""Events taken by one call."""
DAMAGED_SIZE = 128 << 10
"""Room for every damaged object that the core remembers of a target."""
TARGETS_MAX = 64
"""Targets of a node, as the core limits them."""


class NativeNode:
    """An open node, which serves nobody before it listens."""

    def __init__(self, options: NodeOptions) -> None:
        """Make the node; see kvstore.errors for what this raises."""
        self.name = f"node {options.node}"
        self._calls = Calls(self.name)
        self._events = ffi.new("kv_node_event[]", EVENTS_TAKEN_MAX)
        secret = ffi.from_buffer(options.secret)
        native = ffi.new("kv_node_options *")
        native.node = options.node
        native.reactors = options.reactors
        native.reactor_driver = options.reactor
        native.secret = ffi.cast("uint8_t *", secret)
        native.secret_size = len(options.secret)
        native.connections_max = options.connections_max
        native.requests_max = options.requests_max
        native.memory_max = options.requests_memory
        native.stall_timeout_ms = milliseconds(options.stall_timeout_s)
        native.idle_timeout_ms = milliseconds(options.idle_timeout_s)
        native.hello_timeout_ms = milliseconds(options.hello_timeout_s)
        native.protocol_version_max = options.protocol_version_max
        node = ffi.new("kv_node **")
        message = ffi.new("char[]", lib.KV_MESSAGE_SIZE)
        self._check_open(lib.kv_node_open(native, node, message), message)
        self._node = node[0]

    def __repr__(self) -> str:
        """Show the id and whether the node takes calls."""
        return f"<NativeNode {self.name} {'closed' if self._calls.refusing else 'open'}>"

    def add_target(self, target: int, options: StoreOptions) -> None:
        """Open a target in its directory; before listen(). May take seconds after a crash."""
        native, _directory = native_options(options)
        message = ffi.new("char[]", lib.KV_MESSAGE_SIZE)
        with self._calls:
            code = lib.kv_node_add_target(self._node, target, native, message)
            self._check_open(code, message)

    def listen(self, address: Address) -> Address:
        """Serve at an address; returns it with the port that it is."""
        message = ffi.new("char[]", lib.KV_MESSAGE_SIZE)
        with self._calls:
            port = lib.kv_node_listen(self._node, address.name.encode(), address.port, message)
            self._check_open(port, message)
        return Address(address.name, port)

    def publish_routing(self, packed: bytes) -> None:
        """Answer clients that ask for the routing info with this from now on."""
        with self._calls:
            code = lib.kv_node_publish_routing(self._node, packed, len(packed))
            self._check(code, "publish routing info")

    def set_secret(self, secret: bytes) -> None:
        """Have new connections prove this from now on; empty: nothing."""
        with self._calls:
            self._check(lib.kv_node_set_secret(self._node, secret, len(secret)), "set the secret")

    # Chains.

    def set_chains(
        self, routing_version: int, places: Sequence[ChainPlace], addresses: Sequence[str]
    ) -> None:
        """Serve by these places from now on; a target that has none serves nobody.

        An older routing version than the last one changes nothing.
        """
        texts = [ffi.new("char[]", address.encode()) for address in addresses]
        native = ffi.new("kv_chain_place[]", len(places))
        for row, place in zip(native, places, strict=True):
            fill_place(row, place)
        message = ffi.new("char[]", lib.KV_MESSAGE_SIZE)
        with self._calls:
            code = lib.kv_node_set_chains(
                self._node,
                routing_version,
                native,
                len(places),
                ffi.new("char *[]", texts),
                len(texts),
                message,
            )
            self._check_open(code, message)

    def set_lease(self, end_ns: int) -> None:
        """Serve until then on the monotonic clock; 0: not at all. A lease is never cut short."""
        with self._calls:
            self._check(lib.kv_node_set_lease(self._node, end_ns), "set the lease")

    def chain_states(self) -> list[ChainState]:
        """Return how every target is."""
        states = ffi.new("kv_chain_state[]", TARGETS_MAX)
        with self._calls:
            count = lib.kv_node_chain_states(self._node, states, TARGETS_MAX)
            self._check(count, "describe the targets")
        return [chain_state_of(state) for state in states[0:count]]

    def damaged(self, target: int) -> list[StoredObject]:
        """Return the objects of a target whose values are known to be damaged."""
        room = ffi.new("char[]", DAMAGED_SIZE)
        with self._calls:
            size = lib.kv_node_damaged(self._node, target, room, DAMAGED_SIZE)
            self._check(size, f"list the damage of target {target}")
        return list(parse_stored(ffi.buffer(room, size)[:]))

    def repair(self, target: int, stored_key: bytes, value: bytes | bytearray) -> bool:
        """Replace a damaged value by what another target holds; may take as long as a set.

        False: the object is not damaged any more, or these are not the bytes it was set with.
        """
        with self._calls:
            code = lib.kv_node_repair(
                self._node,
                target,
                ffi.from_buffer(stored_key),
                len(stored_key),
                ffi.from_buffer(value),
                len(value),
            )
        if code in (-errno.ENOENT, -errno.EBADMSG):
            return False
        self._check(code, f"repair a value of target {target}")
        return True

    def set_moves(self, moves: Sequence[SlotMoveOrder]) -> None:
        """Have targets send what they hold of slots; what is not named ends where it is."""
        rows = ffi.new("kv_move[]", len(moves))
        slots = [slot for move in moves for slot in move.slots]
        texts = [ffi.new("char[]", move.address.encode()) for move in moves]
        first = 0
        for index, (row, move) in enumerate(zip(rows, moves, strict=True)):
            row.id, row.source, row.target = move.id, move.source, move.target
            row.chain_version, row.node, row.flags = move.chain_version, index, move.flags
            row.slot_first, row.slot_count = first, len(move.slots)
            row.table_size = move.table_size
            first += len(move.slots)
        message = ffi.new("char[]", lib.KV_MESSAGE_SIZE)
        with self._calls:
            code = lib.kv_node_set_moves(
                self._node,
                rows,
                len(moves),
                ffi.new("uint32_t[]", slots),
                len(slots),
                ffi.new("char *[]", texts),
                len(texts),
                message,
            )
            self._check_open(code, message)

    def set_resync_rate(self, bytes_per_s: int) -> None:
        """Send at most so much to bring a successor up to date; 0: as much as goes."""
        with self._calls:
            code = lib.kv_node_set_resync_rate(self._node, bytes_per_s)
            self._check(code, "set the rate of resync")

    # The end.

    def drain(self, timeout_s: float) -> bool:
        """Take no new connection, let those there are finish; whether none is left."""
        with self._calls:
            code = lib.kv_node_drain(self._node, milliseconds(timeout_s))
        if code == -errno.ETIMEDOUT:
            return False
        self._check(code, "drain")
        return True

    def close(self, timeout_s: float) -> None:
        """Cut what is left, close the targets cleanly. May be called again."""
        self._calls.refuse()
        self._calls.wait()
        if self._node is None:
            return
        node, self._node = self._node, None
        self._check(lib.kv_node_close(node, milliseconds(timeout_s)), "close")

    # What it says.

    @property
    def event_descriptor(self) -> int:
        """Readable while there are events; it stays the core's."""
        with self._calls:
            return int(lib.kv_node_event_descriptor(self._node))

    def take_events(self) -> list[NodeEvent]:
        """Return up to EVENTS_TAKEN_MAX events, in order; from one thread at a time."""
        with self._calls:
            count = lib.kv_node_take_events(self._node, self._events, EVENTS_TAKEN_MAX)
            self._check(count, "take events")
        return [
            NodeEvent(
                event.time_ms / 1000,
                NodeEventKind(event.kind),
                event.error,
                event.connection,
                text_of(event.text),
            )
            for event in self._events[0:count]
        ]

    def statistics(self) -> NodeStatistics:
        """Return every gauge and counter of the node itself."""
        statistics = ffi.new("kv_node_statistics *")
        with self._calls:
            lib.kv_node_statistics_read(self._node, statistics)
        return node_statistics_of(ffi.buffer(statistics)[:])

    def target_statistics(self, target: int) -> Stats:
        """Return every gauge and counter of a target."""
        statistics = ffi.new("kv_store_statistics *")
        with self._calls:
            code = lib.kv_node_target_statistics(self._node, target, statistics)
            self._check(code, f"describe target {target}")
        return stats_of("", ffi.buffer(statistics)[:])

    def describe(self) -> str:
        """Return which code runs: "reactor=epoll reactors=2 checksum=vpclmulqdq"."""
        text = ffi.new("char[]", DESCRIPTION_SIZE)
        with self._calls:
            self._check(lib.kv_node_describe(self._node, text, DESCRIPTION_SIZE), "describe")
        return text_of(text)

    def _check(self, code: int, call: str) -> None:
        if code < 0:
            raise call_failure(code, call, self.name)

    def _check_open(self, code: int, message: object) -> None:
        if code < 0:
            raise open_failure(code, self.name, text_of(message))


def fill_place(row: Any, place: ChainPlace) -> None:
    """Write a place into a kv_chain_place."""
    row.chain_version = place.chain_version
    row.target = place.target
    row.chain = place.chain
    row.flags = place.flags
    row.position = place.position
    row.successor = place.successor
    none = lib.KV_NO_SUCCESSOR
    row.successor_node = none if place.successor_node is None else place.successor_node
    row.successor_flags = place.successor_flags


def chain_state_of(state: Any) -> ChainState:
    """Return the value of a kv_chain_state."""
    return ChainState(
        chain_version=state.chain_version,
        objects=state.objects,
        value_size=state.value_size,
        capacity=state.capacity,
        space_used=state.space_used,
        space_free=state.space_free,
        updates_in_flight=state.updates_in_flight,
        updates_total=state.updates_total,
        resync_compared=state.resync_compared,
        resync_sent=state.resync_sent,
        resync_sent_bytes=state.resync_sent_bytes,
        target=state.target,
        local=state.local,
        error=state.error,
        resyncing=bool(state.resyncing),
        damaged=state.damaged,
        io_oldest_ms=state.io_oldest_ms,
        io_silent_ms=state.io_silent_ms,
        settled=bool(state.settled),
        move=state.move,
        move_state=state.move_state,
        move_objects=state.move_objects,
        resync_vain_ms=state.resync_vain_ms,
    )
