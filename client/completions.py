"""The batches of one event loop that the C core has, and how they wake those who await them.

      submitted ──► done in the core: the eventfd is readable ──► reaped ──► its await ends

An await that is cancelled asks the core for an early end, and still ends only when its batch is
reaped.

Guarantees: when an await ends, in whatever way, the core no longer touches the caller's buffers.
No polling, no thread of its own; any number of batches in flight. drain() may run in any thread,
also when the loop is closed or busy. Leaves to others: to submit from the loop's own thread only.
"""

import asyncio
import os
import select
import threading
import time
from contextlib import suppress
from itertools import count

from kvstore.client.port import Port
from kvstore.errors import KVStoreError
from kvstore.native.request import Request

DRAIN_STEP_MS = 10
"""How long drain() sleeps at most before it looks whether the loop itself reaped the rest."""


class Flight:
    """One batch in flight."""

    __slots__ = ("future", "reaped", "request")

    def __init__(self, request: Request, future: asyncio.Future[None]) -> None:
        """Start in the core's hands."""
        self.request = request
        self.future = future
        self.reaped = False

    def land(self) -> None:
        """Wake whoever awaits; runs on the loop."""
        if not self.future.done():
            self.future.set_result(None)


class Completions:
    """The kv_queue of one event loop."""

    def __init__(self, port: Port, loop: asyncio.AbstractEventLoop) -> None:
        """Watch a new queue from *loop*, which is running."""
        self.loop = loop
        self._port = port
        self._queue = port.open_queue()
        self._lock = threading.Lock()
        self._flights: dict[int, Flight] = {}
        self._tags = count(1)
        # Our own descriptor of the eventfd: it outlives the queue until the loop has forgotten it.
        self._descriptor = os.dup(self._queue.descriptor)
        self._closed = False
        loop.add_reader(self._descriptor, self._reap_on_loop)

    def __repr__(self) -> str:
        """Show how many batches are in flight."""
        return f"<Completions of {len(self._flights)} batches in flight>"

    async def perform(self, request: Request) -> None:
        """Execute a request; it is done when this returns or raises."""
        flight = self._submit(request)
        try:
            await flight.future
        except asyncio.CancelledError:
            await self._cancel(flight)
            raise
        except GeneratorExit:
            # The coroutine is thrown away, and nobody can be awaited any more.
            if not self._port.forked:
                self._ask_for_end(flight)
                self._wait_for(flight)
            raise

    def _submit(self, request: Request) -> Flight:
        flight = Flight(request, self.loop.create_future())
        request.tag = next(self._tags)
        self._flights[request.tag] = flight
        try:
            self._port.submit(self._queue, request)
        except (KVStoreError, MemoryError):
            del self._flights[request.tag]
            raise
        return flight

    def _ask_for_end(self, flight: Flight) -> None:
        with self._lock:
            if not flight.reaped:
                self._port.cancel(flight.request)

    async def _cancel(self, flight: Flight) -> None:
        self._ask_for_end(flight)
        while not flight.reaped:
            flight.future = self.loop.create_future()
            # Cancelling again changes nothing: the caller raises CancelledError in any case.
            with suppress(asyncio.CancelledError):
                await flight.future

    # Reaping.

    def _reap(self) -> list[Flight]:
        with self._lock:
            if self._closed:
                return []
            flights = [self._flights.pop(tag) for tag in self._queue.reap()]
            for flight in flights:
                flight.reaped = True
            return flights

    def _reap_on_loop(self) -> None:
        for flight in self._reap():
            flight.land()

    def _reap_elsewhere(self) -> None:
        for flight in self._reap():
            with suppress(RuntimeError):  # a closed loop wakes nobody
                self.loop.call_soon_threadsafe(flight.land)

    def _wait_for(self, flight: Flight) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while not flight.reaped:
            poll.poll(DRAIN_STEP_MS)
            self._reap_elsewhere()

    # Ending.

    def drain(self, timeout_s: float) -> None:
        """Wait until nothing is in flight; what is not done within *timeout_s* is cancelled."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        cancelled = False
        while self._flights:
            if not cancelled and time.monotonic() >= deadline:
                self._cancel_all()
                cancelled = True
            poll.poll(DRAIN_STEP_MS)
            self._reap_elsewhere()

    def _cancel_all(self) -> None:
        with self._lock:
            for flight in self._flights.values():
                self._port.cancel(flight.request)

    def close(self) -> None:
        """Free the queue, which is drained; the loop forgets it when it can."""
        with self._lock:
            assert not self._flights, "a queue is drained before it is closed"
            self._closed = True
            self._queue.close()
        if self.loop.is_running() and not self._on_loop():
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._forget)
                return
        self._forget()

    def _on_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def _forget(self) -> None:
        if not self.loop.is_closed():
            self.loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
