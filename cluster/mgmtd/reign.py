"""A primary's time: the core, and everything that its effects do. It ends when it fails.

Effects are performed in their order; only stores and probes take time, and come back as events.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from kvstore.cluster.metadata.election import Primary
from kvstore.cluster.mgmtd.core import Core
from kvstore.cluster.mgmtd.events import (
    Answer,
    Continue,
    Effect,
    Event,
    Note,
    Probe,
    Probed,
    ProbeOutcome,
    Proceed,
    Publish,
    Refuse,
    Save,
    Saved,
    Ticket,
)
from kvstore.cluster.mgmtd.feed import Feed
from kvstore.cluster.mgmtd.persistence import Loaded, Stored
from kvstore.cluster.mgmtd.settings import Settings
from kvstore.errors import KVStoreError, KVTimeoutError, MetadataError, NotPrimaryError

PROBES_AT_ONCE_MAX = 64

Clock = Callable[[], int]
Spawn = Callable[[Coroutine[None, None, None]], None]
Look = Callable[[Iterable[str]], Awaitable[ProbeOutcome]]
"""Says whether a process still listens at any of these addresses."""


class Log(Protocol):
    """Where lines of the log go."""

    def info(self, event: str, **about: object) -> object:
        """Write a line."""

    def warning(self, event: str, **about: object) -> object:
        """Write a line that an operator should see."""

    def error(self, event: str, **about: object) -> object:
        """Write a line that an operator must see."""


@dataclass(slots=True)
class Counts:
    """What has been done, for metrics; it outlives a reign."""

    heartbeats: int = 0
    saves: int = 0
    deltas: int = 0
    probes: int = 0
    failures: int = 0
    """Nodes that were found dead."""
    reigns: int = 0


class Reign:
    """The core and what it works with, until `over`."""

    def __init__(
        self,
        primary: Primary,
        loaded: Loaded,
        settings: Settings,
        *,
        spawn: Spawn,
        log: Log,
        counts: Counts,
        clock: Clock = time.monotonic_ns,
        probe: Look,
    ) -> None:
        """Begin with what was loaded."""
        self.primary = primary
        self.feed = Feed(loaded.basis.routing, loaded.base, loaded.deltas)
        self._stored = Stored(b"", None)
        self.core = Core(settings, primary.epoch, loaded.basis, clock())
        self.over: asyncio.Future[KVStoreError] = asyncio.get_running_loop().create_future()
        self._persistence = loaded.persistence
        self._spawn = spawn
        self._log = log
        self._counts = counts
        self._clock = clock
        self._look = probe
        self._tickets = count(1)
        self._asking: Ticket = 0
        self._settled: Answer | Refuse | None = None
        self._waiting: dict[Ticket, asyncio.Future[object]] = {}
        self._probes = asyncio.Semaphore(PROBES_AT_ONCE_MAX)

    def tell(self, event: Event) -> None:
        """Let something happen that nobody waits for."""
        if not self.over.done():
            self._step(event)

    def ask(self, make: Callable[[Ticket, int], Event], timeout_s: float) -> object:
        """Let a request happen: its result, or something to await for it; raises its refusal.

        `make` gets the ticket, and the deadline on this clock.
        """
        if self.over.done() or not self.primary.alive():
            raise NotPrimaryError(f"epoch {self.primary.epoch} is over")
        ticket = next(self._tickets)
        with self._asked(ticket):
            deadline_ns = self._clock() + round(timeout_s * 1e9)
            self._step(make(ticket, deadline_ns))
            settled = self._settled
        if isinstance(settled, Refuse):
            raise settled.error
        if settled is not None:
            return settled.result
        return self._later(ticket, timeout_s)

    async def change_secret(self, secret: bytes) -> None:
        """Store that another secret is the cluster's from now on."""
        await self._persistence.change_secret(secret)

    def end(self, why: KVStoreError) -> None:
        """End it: nothing is answered or published any more."""
        if self.over.done():
            return
        self.over.set_result(why)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(NotPrimaryError(f"epoch {self.primary.epoch} is over: {why}"))

    @contextmanager
    def _asked(self, ticket: Ticket) -> Iterator[None]:
        """Keep the answer of a ticket that comes at once."""
        self._asking, self._settled = ticket, None
        try:
            yield
        finally:
            self._asking = 0

    async def _later(self, ticket: Ticket, timeout_s: float) -> object:
        waiting = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                return await waiting
        except TimeoutError:
            raise KVTimeoutError(f"mgmtd did not do it within {timeout_s:g} s") from None
        finally:
            del self._waiting[ticket]

    def _step(self, event: Event) -> None:
        """Do what comes of an event; a bug ends the reign, as what is stored is still right."""
        done = False
        try:
            self._perform(self.core.step(event, self._clock()))
            done = True
        finally:
            if not done:
                self.end(MetadataError(f"a {type(event).__name__} brought a bug out"))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Answer() | Refuse():
                    self._settle(effect)
                case Save():
                    self._counts.saves += 1
                    self._spawn(self._save(effect))
                case Publish(proposal):
                    assert proposal.delta is not None
                    self._counts.deltas += 1
                    stored = self._stored
                    self.feed.publish(proposal.after.routing, stored.delta, stored.base)
                case Probe():
                    self._counts.probes += 1
                    self._spawn(self._probe(effect))
                case Continue():
                    asyncio.get_running_loop().call_soon(self.tell, Proceed())
                case Note(text, about, warning):
                    write = self._log.warning if warning else self._log.info
                    write(text, **about)

    def _settle(self, settled: Answer | Refuse) -> None:
        if settled.ticket == self._asking:
            self._settled = settled
            return
        waiting = self._waiting.get(settled.ticket)
        if waiting is None or waiting.done():
            return
        if isinstance(settled, Answer):
            waiting.set_result(settled.result)
        else:
            waiting.set_exception(settled.error)

    async def _save(self, effect: Save) -> None:
        stored = False
        try:
            self._stored = await self._persistence.save(effect.proposal)
            stored = True
        except KVStoreError as error:
            self.end(error)
        finally:
            if not stored:
                self.end(MetadataError("a change was not stored"))
        self.tell(Saved())

    async def _probe(self, effect: Probe) -> None:
        async with self._probes:
            outcome = await self._look(effect.addresses)
        about = {"node": effect.node, "outcome": outcome.name.lower()}
        self._log.info("probed", **about)
        self.tell(Probed(effect.node, effect.incarnation, outcome))
