"""Routing info as mgmtd pushes it, on a thread of the client with an event loop of its own.

    mgmtd ──each newer version──► adopt ──► the core
    core ──a node is not reached──► suspicion ──► mgmtd, which looks at once

Guarantees: a node is suspected a few times in a second at most. While no mgmtd answers, the client
goes on by what it knows.
"""

import asyncio
import os
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from kvstore.client.nodes_follower import Adopt
from kvstore.cluster.ids import NodeId
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.cluster.routing import RoutingInfo
from kvstore.errors import ClusterError, KVStoreError, StoreAccessError
from kvstore.native.client import NativeClient

CONNECT_TIMEOUT_S = 1.0
"""Of one address of mgmtd."""
REFRESH_TIMEOUT_S = 2.0
"""How long to wait for newer routing info than a request failed by."""
SUSPECT_PAUSE_S = 0.2
"""A node is suspected at most so often: mgmtd looks at once, and looks itself after that."""
SUSPECT_TIMEOUT_S = 2.0
SUSPICIONS_MAX = 64
"""Told at a time; the core names a node again while it is not reached."""

T = TypeVar("T")


class MgmtdFollower:
    """Subscribes to the routing info."""

    chained = True

    def __init__(self, client: NativeClient, adopt: Adopt) -> None:
        """Start the thread; it asks nobody yet."""
        self.name = client.options.name
        self._client = client
        self._adopt = adopt
        self._known = RoutingInfo()
        self._newer = threading.Condition()
        self._suspected_s: dict[NodeId, float] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._main, name="kvstore-routing", daemon=True)
        self._thread.start()
        self._ready.result()

    def ask(self, timeout_s: float) -> RoutingInfo:
        """Return the routing info in force; ClusterError or StoreAccessError where that fails."""
        return self._result(self._mgmtd.routing(timeout_s=max(timeout_s, 0.001)))

    def start(self, known: RoutingInfo) -> None:
        """Subscribe."""
        self._known = known
        self._result(self._begin(known))

    def refresh(self, known_version: int) -> None:
        """Wait until newer routing info was pushed, for a moment."""
        with self._newer:
            self._newer.wait_for(lambda: self._known.version > known_version, REFRESH_TIMEOUT_S)

    def close(self) -> None:
        """Stop; the core's client is still there."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    # On the thread.

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _run(self) -> None:
        options = self._client.options
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        async with MgmtdClient(
            options.addresses,
            secret=options.secret,
            connect_timeout_s=min(CONNECT_TIMEOUT_S, options.connect_timeout_s),
        ) as self._mgmtd:
            self._ready.set_result(None)
            await self._stopping.wait()

    def _result(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _begin(self, known: RoutingInfo) -> None:
        for work in (self._follow(known), self._watch_trouble()):
            self._keep(asyncio.create_task(work))

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Hold a task until it ends; asyncio.run() cancels those that are left."""
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _follow(self, known: RoutingInfo) -> None:
        with suppress(StoreAccessError):  # the secret was changed: the client goes on as it is
            async with aclosing(self._mgmtd.subscribe(known)) as versions:
                async for routing in versions:
                    with suppress(KVStoreError):  # nothing to go by: a later version may be
                        self._adopt(routing)
                    with self._newer:
                        self._known = routing
                        self._newer.notify_all()

    # Suspicions.

    async def _watch_trouble(self) -> None:
        # Our own descriptor: the loop may forget it when the core's is closed already.
        descriptor = os.dup(self._client.trouble_descriptor)
        self._loop.add_reader(descriptor, self._on_trouble)
        try:
            await self._stopping.wait()
        finally:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def _on_trouble(self) -> None:
        with suppress(KVStoreError):  # the client is closing
            unreachable = set(self._client.trouble()[1])
            for node in self._known.nodes.values():
                if not unreachable.isdisjoint(node.addresses):
                    self._suspect(node.id)

    def _suspect(self, node: NodeId) -> None:
        now_s = time.monotonic()
        recent = now_s - self._suspected_s.get(node, 0.0) < SUSPECT_PAUSE_S
        if not recent and len(self._telling) < SUSPICIONS_MAX:
            self._suspected_s[node] = now_s
            self._keep(asyncio.create_task(self._tell(node)))

    async def _tell(self, node: NodeId) -> None:
        with suppress(ClusterError, StoreAccessError):
            await self._mgmtd.suspect(
                node, None, "a client cannot reach it", timeout_s=SUSPECT_TIMEOUT_S
            )
