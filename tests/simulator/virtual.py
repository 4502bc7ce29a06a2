"""An event loop whose time is the simulated world's, and processes that are paused and killed.

Whatever runs has a context, and by it a process. What a paused process has to do waits until it
goes on; what a killed one had to do is never done. Time passes only when nobody has anything to do
at this moment.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any, TypeVarTuple

PROCESS: ContextVar["Process | None"] = ContextVar("PROCESS", default=None)
NOBODY = Context()
"""In which no process runs."""
NEVER_S = 1e9
ENDING_TURNS_MAX = 10_000

Given = TypeVarTuple("Given")
Advance = Callable[[float], float]
"""Lets the world go on until a time at most; returns the time reached."""


class Process:
    """What runs together, is paused together, and dies together."""

    def __init__(self, name: str) -> None:
        """Run."""
        self.name = name
        self.dead = False
        self.failure = ""
        self.paused_until_s = 0.0
        self.parked: list[Due] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.context = Context()
        """In which it runs."""
        self.context.run(PROCESS.set, self)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in this process."""
        task = asyncio.get_running_loop().create_task(work, context=self.context)
        task.add_done_callback(self._ended, context=NOBODY)
        self.tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failure = self.failure or f"{self.name} failed: {task.exception()!r}"


class Due(asyncio.TimerHandle):
    """Something to be done, now or at a time. asyncio's own handles cost several times as much."""

    __slots__ = ("context", "do", "ended", "given", "process", "when_s")

    def __init__(
        self, when_s: float, do: Callable[..., object], given: tuple[Any, ...], context: Context
    ) -> None:
        """Be due at that time."""
        self.when_s = when_s
        self.do = do
        self.given = given
        self.context = context
        self.process = context.get(PROCESS)
        self.ended = False

    def when(self) -> float:
        """Return its time."""
        return self.when_s

    def cancel(self) -> None:
        """Let it never be done."""
        self.ended = True

    def cancelled(self) -> bool:
        """Say whether it is never done."""
        return self.ended


class NumberedTask(asyncio.Task[Any]):
    """A task whose hash is its number, so that sets of tasks have the same order in every run."""

    numbers = count(1)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Begin."""
        self._number = next(self.numbers)
        super().__init__(*arguments, **options)

    def __hash__(self) -> int:
        """Return the number."""
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """As much of an event loop as mgmtd and agents use."""

    def __init__(self, advance: Advance) -> None:
        """Begin at 0."""
        self._advance = advance
        self._now_s = 0.0
        self._due: deque[Due] = deque()
        self._timers: list[tuple[float, int, Due]] = []
        self._order = count()
        self._stopping = False
        self.failures: list[str] = []

    # Time.

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now_s

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run until `work` is done, and raise what it raises."""
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(work)
            task.add_done_callback(lambda _: self.stop())
            while not self._stopping:
                self._once()
            task.result()
        finally:
            asyncio._set_running_loop(None)

    def stop(self) -> None:
        """Run no more."""
        self._stopping = True

    def _once(self) -> None:
        due, timers = self._due, self._timers
        if not due:
            while timers and timers[0][2].ended:
                heapq.heappop(timers)
            self._now_s = self._advance(timers[0][0] if timers else NEVER_S)
        now_s = self._now_s
        while timers and timers[0][0] <= now_s:
            due.append(heapq.heappop(timers)[2])
        for _ in range(len(due)):
            what = due.popleft()
            process = what.process
            if what.ended:
                continue
            if process is not None and (process.dead or process.paused_until_s > now_s):
                process.parked.append(what)
            else:
                self._do(what)

    def _do(self, what: Due) -> None:
        try:
            what.context.run(what.do, *what.given)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": f"in {what.do}", "exception": error})

    def end(self, processes: list[Process]) -> None:
        """Cancel everything that these processes do; dead ones live again for that."""
        asyncio._set_running_loop(self)
        tasks = [task for process in processes for task in process.tasks]
        for process in processes:
            process.dead = False
            process.paused_until_s = 0.0
            self._due.extend(process.parked)
        for task in tasks:
            task.cancel()
        for _ in range(ENDING_TURNS_MAX):
            if all(task.done() for task in tasks) and not self._due:
                break
            self._turn_ending()
        asyncio._set_running_loop(None)

    def _turn_ending(self) -> None:
        """Do what is to be done now, or what would be next: no time passes."""
        if not self._due and self._timers:
            self._due.append(heapq.heappop(self._timers)[2])
        for _ in range(len(self._due)):
            what = self._due.popleft()
            if not what.ended:
                self._do(what)

    def pause(self, process: Process, until_s: float) -> None:
        """Let a process do nothing till then."""
        process.paused_until_s = max(process.paused_until_s, until_s)
        self.call_at(process.paused_until_s, self._go_on, process, context=NOBODY)

    def _go_on(self, process: Process) -> None:
        if process.dead or process.paused_until_s > self._now_s:
            return
        self._due.extend(process.parked)
        process.parked.clear()

    # What asyncio asks of a loop.

    def call_soon(
        self, callback: Callable[[*Given], object], *args: *Given, context: Context | None = None
    ) -> asyncio.Handle:
        """Call it in this turn of the loop, or the next."""
        due = Due(self._now_s, callback, args, copy_context() if context is None else context)
        self._due.append(due)
        return due

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Given], object],
        *args: *Given,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call it after so many seconds."""
        context = copy_context() if context is None else context
        when_s = self._now_s + delay
        due = Due(when_s, callback, args, context)
        heapq.heappush(self._timers, (when_s, next(self._order), due))
        return due

    def call_at(
        self,
        when: float,
        callback: Callable[[*Given], object],
        *args: *Given,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call it at that time."""
        due = Due(when, callback, args, copy_context() if context is None else context)
        heapq.heappush(self._timers, (when, next(self._order), due))
        return due

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # typeshed's is generic in what the task returns
        self,
        work: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        """Return a task that does it."""
        return NumberedTask(work, loop=self, name=name, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, function: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        """Call it at once: threads would bring chance in."""
        future = self.create_future()
        future.set_result(function(*arguments))
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Remember what nobody caught."""
        error = context.get("exception")
        self.failures.append(f"{context.get('message')}: {error!r}")

    def get_debug(self) -> bool:
        """Return False."""
        return False

    def is_running(self) -> bool:
        """Return True: it is only asked while it runs."""
        return True

    def is_closed(self) -> bool:
        """Return True: nothing is left over that would have to be closed."""
        return True
