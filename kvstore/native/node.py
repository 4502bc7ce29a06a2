"""A storage node of the C core (kv_node): targets served over TCP by threads of the core's own.

Guarantees: safe from any thread; after close() each call raises and the freed kv_node is never
touched. Leaves to others: when to do what, and what to say about it.
"""

import errno

from kvstore._native import ffi, lib
from kvstore.addresses import Address
from kvstore.native.calls import Calls
from kvstore.native.failures import call_failure, open_failure
from kvstore.native.statistics import node_statistics_of, stats_of
from kvstore.native.store import DESCRIPTION_SIZE, native_options
from kvstore.native.values import milliseconds, text_of
from kvstore.options import NodeOptions, StoreOptions
from kvstore.types import NodeEvent, NodeEventKind, NodeStatistics, Stats

EVENTS_TAKEN_MAX = 64
"""Events taken by one call."""


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
