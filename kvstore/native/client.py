"""A client of storage nodes in the C core (kv_client): batches over TCP, with the GIL released.

Guarantees: those of kvstore.native.store. Leaves to others: where keys are (route() says it), and
what control replies mean.
"""

import errno
from collections.abc import Sequence

from kvstore._native import ffi, lib
from kvstore.addresses import Address
from kvstore.native.calls import Calls
from kvstore.native.failures import call_failure, open_failure
from kvstore.native.fork import open_stores
from kvstore.native.memory import Memory
from kvstore.native.queue import NativeQueue
from kvstore.native.request import Request
from kvstore.native.values import milliseconds, text_of
from kvstore.options import ClientOptions

UNREACHABLE_SIZE = 16384
"""Bytes of addresses that one call of trouble() takes; what is left comes with the next."""


def open_native(options: ClientOptions) -> object:
    """Return a new kv_client *, which has not talked to anybody yet."""
    tenant = ffi.new("char[]", options.tenant.encode())
    name_space = ffi.new("char[]", options.name_space.encode())
    secret, token = ffi.from_buffer(options.secret), ffi.from_buffer(options.token)
    native = ffi.new("kv_client_options *")
    native.tenant = tenant
    native.name_space = name_space
    native.secret = ffi.cast("uint8_t *", secret)
    native.secret_size = len(options.secret)
    native.token = ffi.cast("uint8_t *", token)
    native.token_size = len(options.token)
    native.lanes = options.lanes
    native.connections_max = options.connections
    native.unverified = not options.verify
    native.reactor_driver = options.reactor
    native.timeout_ms = milliseconds(options.timeout_s)
    native.connect_timeout_ms = milliseconds(options.connect_timeout_s)
    client = ffi.new("kv_client **")
    message = ffi.new("char[]", lib.KV_MESSAGE_SIZE)
    code = lib.kv_client_open(native, client, message)
    if code < 0:
        raise open_failure(code, options.name, text_of(message))
    return client[0]


class NativeClient:
    """A client whose batches go where the last route() said."""

    answers_at_once = False
    """Whether looking a key up, and stats(), take no longer than a call."""

    def __init__(self, options: ClientOptions) -> None:
        """Make the client; does no I/O."""
        self.options = options
        self._calls = Calls(options.name)
        self._registered: dict[int, Memory] = {}
        self._client = open_native(options)
        open_stores().add(self)

    def __repr__(self) -> str:
        """Show the URL and whether the client takes calls."""
        state = "forked" if self.forked else "closed" if self._calls.refusing else "open"
        return f"<{type(self).__name__} {self.options.name} {state}>"

    @property
    def forked(self) -> bool:
        """Whether this is the child of a fork, to which the client does not belong."""
        return self._calls.forked

    def check_open(self) -> None:
        """Raise StoreClosedError or ForkedError unless calls are taken."""
        self._calls.check()

    def refuse(self) -> None:
        """Take no new calls; those in progress go on."""
        self._calls.refuse()

    def close(self, timeout_s: float) -> None:
        """Wait for calls in progress, close every connection."""
        self._calls.refuse()
        self._calls.wait()
        if self._client is None:
            return
        client, self._client = self._client, None
        open_stores().discard(self)
        code = lib.kv_client_close(client, milliseconds(timeout_s))
        self._registered.clear()
        self._check(code, "close the store")

    def abandon(self) -> None:
        """In the child of a fork: give up the inherited descriptors."""
        self._calls.forked = True
        client, self._client = self._client, None
        if client is not None:
            lib.kv_client_abandon(client)

    # Batches.

    def run(self, request: Request) -> None:
        """Execute on this thread; every item has its status afterwards."""
        with self._calls:
            code = lib.kv_client_run(self._client, request.pointer)
        if code < 0:
            self._check(code, "run a batch")

    def open_queue(self) -> NativeQueue:
        """Return a new queue of completions, to be closed before the client."""
        queue = ffi.new("kv_queue **")
        descriptor = ffi.new("int *")
        with self._calls:
            code = lib.kv_queue_open(queue, descriptor)
            self._check(code, "open a queue of completions")
        return NativeQueue(queue[0], descriptor[0])

    def submit(self, queue: NativeQueue, request: Request) -> None:
        """Execute in the background; request and buffers are the core's until the tag is reaped."""
        with self._calls:
            code = lib.kv_client_submit(self._client, queue.pointer, request.pointer)
            self._check(code, "submit a batch")

    def cancel(self, request: Request) -> None:
        """Ask for an early end of a request that was submitted and is not reaped yet.

        It works while the client refuses calls, since closing is when it is needed most.
        """
        self._calls.check_not_forked()
        assert self._client is not None, "a client closes after its queues"
        lib.kv_client_cancel(self._client, request.pointer)

    # Memory.

    def register(self, memory: Memory) -> None:
        """Hold memory in which values will often lie; sockets need no more than that."""
        with self._calls:
            self._registered[memory.address] = memory

    def unregister(self, memory: Memory) -> None:
        """Take register() back."""
        with self._calls:
            self._registered.pop(memory.address, None)

    # Where keys are.

    def route(
        self,
        routing_version: int,
        nodes: Sequence[Address],
        slot_nodes: Sequence[int],
        slot_targets: Sequence[int],
    ) -> None:
        """Send batches there from now on: slot i to slot_targets[i] on nodes[slot_nodes[i]]."""
        assert len(slot_nodes) == len(slot_targets)
        texts = [ffi.new("char[]", str(node).encode()) for node in nodes]
        message = ffi.new("char[]", lib.KV_MESSAGE_SIZE)
        with self._calls:
            code = lib.kv_client_route(
                self._client,
                routing_version,
                ffi.new("char *[]", texts),
                len(texts),
                ffi.new("uint32_t[]", slot_nodes),
                ffi.new("uint32_t[]", slot_targets),
                len(slot_nodes),
                message,
            )
        if code < 0:
            raise open_failure(code, self.options.name, text_of(message))

    def route_chains(
        self,
        routing_version: int,
        nodes: Sequence[str],
        members: Sequence[tuple[int, int]],
        chains: Sequence[tuple[int, int, int]],
        slot_chains: Sequence[int],
    ) -> None:
        """Send batches there from now on: slot i to chains[slot_chains[i]].

        *nodes* are "host:port"; *members* the (index of its node, target) of every target that
        serves; *chains* the (chain version, index of its head in members, count of members) of each
        chain, head first and tail last. A chain keeps its index in all routing versions.
        """
        texts = [ffi.new("char[]", node.encode()) for node in nodes]
        message = ffi.new("char[]", lib.KV_MESSAGE_SIZE)
        with self._calls:
            code = lib.kv_client_route_chains(
                self._client,
                routing_version,
                ffi.new("char *[]", texts),
                len(texts),
                ffi.new("kv_chain_member[]", members),
                len(members),
                ffi.new("kv_chain_route[]", chains),
                len(chains),
                ffi.new("uint32_t[]", slot_chains),
                len(slot_chains),
                message,
            )
        if code < 0:
            raise open_failure(code, self.options.name, text_of(message))

    def trouble(self) -> tuple[int, list[str]]:
        """Return what mgmtd should hear of.

        First a count that grows whenever a chain refused a part for its version or had nobody to
        serve it, so that newer routing info is wanted; then the addresses of nodes that could not
        be reached, or were lost, since the last call. Makes trouble_descriptor unreadable.
        """
        unreachable = ffi.new("char[]", UNREACHABLE_SIZE)
        with self._calls:
            count = lib.kv_client_trouble(self._client, unreachable, UNREACHABLE_SIZE, ffi.NULL)
            self._check(count, "ask for trouble")
        return int(count), text_of(unreachable).split()

    @property
    def trouble_descriptor(self) -> int:
        """An eventfd that is readable while trouble() has something new; the client's own."""
        descriptor = ffi.new("int *")
        with self._calls:
            lib.kv_client_trouble(self._client, ffi.NULL, 0, descriptor)
        return int(descriptor[0])

    def control(
        self, node: Address, target: int, kind: int, body: bytes, room: int, timeout_s: float
    ) -> bytes:
        """Return what a node answers to a control request, in *room* bytes at most.

        Raises ControlError, which has the errno.
        """
        reply = ffi.new("char[]", room)
        message = ffi.new("char[]", lib.KV_MESSAGE_SIZE)
        with self._calls:
            size = lib.kv_client_control(
                self._client,
                str(node).encode(),
                target,
                kind,
                body,
                len(body),
                reply,
                room,
                max(1, milliseconds(timeout_s)),
                message,
            )
        if size < 0:
            raise ControlError(-size, text_of(message))
        answer: bytes = ffi.buffer(reply, size)[:]
        return answer

    def setback_count(self) -> int:
        """Return a count that grows whenever a batch finds a node or a target not to be there."""
        statistics = ffi.new("kv_client_statistics *")
        with self._calls:
            lib.kv_client_statistics_read(self._client, statistics)
        return int(
            statistics.retries
            + statistics.connect_failures
            + statistics.reconnects
            + statistics.timeouts
        )

    def explain(self) -> str:
        """Return why the last connection failed; empty when none has."""
        message = ffi.new("char[]", lib.KV_MESSAGE_SIZE)
        with self._calls:
            lib.kv_client_explain(self._client, message)
        return text_of(message)

    def _check(self, code: int, call: str) -> None:
        if code < 0:
            raise call_failure(code, call, self.options.name)


class ControlError(Exception):
    """A control request failed; whoever sent it knows what that means."""

    def __init__(self, number: int, message: str) -> None:
        """Remember the errno, and what the core said."""
        super().__init__(message or errno.errorcode.get(number, str(number)))
        self.number = number
