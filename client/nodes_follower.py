"""Routing info of storage nodes that are on their own: asked at the start, and after trouble.

Guarantees: nodes are asked at most once in a second, and only while batches meet a node or a target
that is not there.
"""

import errno
import threading
import time
from collections.abc import Callable

from kvstore.addresses import Address
from kvstore.cluster.codec import decode_routing
from kvstore.cluster.routes import address_of
from kvstore.cluster.routing import RoutingInfo
from kvstore.cluster.states import NodeKind
from kvstore.errors import (
    KVStoreError,
    MalformedRoutingError,
    StoreAccessError,
    StoreClosedError,
    StoreOpenError,
    StoreUnreachableError,
    StoreVersionError,
)
from kvstore.native.client import ControlError, NativeClient
from kvstore.types import ControlKind

REFRESH_INTERVAL_S = 1.0
"""How often batches are looked at for trouble, and nodes are asked at most."""
REFRESH_TIMEOUT_S = 2.0
"""How long one node may take to answer in the background: closing waits for it."""
ROUTING_SIZE_MAX = 4 << 20
"""Room for what a node answers: 1,000 nodes and 20,000 chains are 1.2 MB."""
NO_TARGET = 0
"""For what a node answers as a whole."""

OPEN_ERRORS: dict[int, type[StoreOpenError]] = {
    errno.EACCES: StoreAccessError,
    errno.EPROTONOSUPPORT: StoreVersionError,
}

Adopt = Callable[[RoutingInfo], None]
"""Takes newer routing info; raises a KVStoreError for what no client can go by."""


class NodesFollower:
    """Asks nodes; a thread does it again while batches are in trouble."""

    chained = False

    def __init__(self, client: NativeClient, adopt: Adopt) -> None:
        """Do nothing yet."""
        self.all_refused = False
        """Whether nobody listens at any of the addresses that ask() tried."""
        self._client = client
        self._adopt = adopt
        self._known = RoutingInfo()
        self._stopping = threading.Event()
        self._timeout_s = min(REFRESH_TIMEOUT_S, client.options.connect_timeout_s)
        self._watcher = threading.Thread(target=self._watch, name="kvstore-routing", daemon=True)

    def ask(self, deadline: float) -> RoutingInfo:
        """Return what the first node says that answers."""
        options = self._client.options
        failures: list[StoreOpenError] = []
        for address in options.addresses:
            left_s = min(deadline - time.monotonic(), options.connect_timeout_s)
            if left_s <= 0:
                break
            try:
                return self._fetch(address, left_s)
            except StoreOpenError as failure:
                failures.append(failure)
        self.all_refused = bool(failures) and all(map(is_refused, failures))
        # A node that answered and refused says more than one that did not answer.
        telling = [f for f in failures if not isinstance(f, StoreUnreachableError)] or failures
        kind = type(telling[0]) if telling else StoreUnreachableError
        said = "; ".join(map(str, failures)) or "no time to ask any node"
        raise kind(f"cannot open {options.name}: {said}")

    def start(self, known: RoutingInfo) -> None:
        """Watch out for trouble."""
        self._known = known
        self._watcher.start()

    def refresh(self, known_version: int) -> None:
        """Ask every node that is known, until one knows more."""
        storage = [n for n in self._known.nodes.values() if n.kind is NodeKind.STORAGE]
        addresses = dict.fromkeys((*map(address_of, storage), *self._client.options.addresses))
        for address in addresses:
            if self._stopping.is_set():
                return
            try:
                routing = self._fetch(address, self._timeout_s)
                if routing.version > self._known.version:
                    self._adopt(routing)
                    self._known = routing
            except StoreClosedError:
                raise
            except KVStoreError:
                continue
            if self._known.version > known_version:
                return

    def close(self) -> None:
        """Stop; the client takes no calls any more."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()

    def _fetch(self, address: Address, timeout_s: float) -> RoutingInfo:
        try:
            kind = ControlKind.ROUTING
            encoded = self._client.control(
                address, NO_TARGET, kind, b"", ROUTING_SIZE_MAX, timeout_s
            )
            return decode_routing(encoded)
        except ControlError as error:
            kind_of_error = OPEN_ERRORS.get(error.number, StoreUnreachableError)
            raise kind_of_error(named(address, error)) from error
        except MalformedRoutingError as error:
            raise StoreUnreachableError(f"{address}: {error}") from error

    def _watch(self) -> None:
        """Ask for newer routing info while batches are in trouble; runs on its own thread."""
        try:
            seen = self._client.setback_count()
            while not self._stopping.wait(REFRESH_INTERVAL_S):
                now = self._client.setback_count()
                if now != seen:
                    self.refresh(self._known.version)
                    # Asking a node that is not there is trouble, too: it must not ask again.
                    seen = self._client.setback_count()
        except StoreClosedError:
            pass


def is_refused(failure: StoreOpenError) -> bool:
    """Return whether nobody listens at an address of a machine that is there."""
    cause = failure.__cause__
    return isinstance(cause, ControlError) and cause.number == errno.ECONNREFUSED


def named(address: Address, error: ControlError) -> str:
    """Say what went wrong, with the address in front unless it is there already."""
    text = reason_of(error)
    return text if text.startswith(str(address)) else f"{address}: {text}"


def reason_of(error: ControlError) -> str:
    """Say what the errno of a control request means where the core does not say it."""
    if error.number == errno.ENODEV:
        return "a device failure took the target offline"
    if error.number == errno.ENOENT:
        return (
            "the node has no such target, or no routing info: of a cluster, name the address of "
            "mgmtd"
        )
    return str(error)
