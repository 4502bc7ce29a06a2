"""A client process: works on the cluster until it is asked to end, and records a history.

    python -m tools.chaos.client SCHEDULE URL CLIENT asyncio|blocking FILE

Every second client talks through the blocking API, the others through asyncio. It ends with code 0
on SIGTERM, once what is in flight is answered or out of time, and by any error that is not the
cluster's fault with a traceback.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import kvstore
from tools.chaos.calls import Answers, Calls, failed
from tools.chaos.schedule import Schedule, read_schedule
from tools.chaos.values import ValueCoder
from tools.chaos.work import Ask, Asking
from tools.history.files import HistoryWriter

ERROR_PAUSE_S = 0.05
"""After a call that failed at once, so that an outage is not an endless loop."""
OPEN_PAUSE_S = 0.2


def now_us() -> int:
    """Return the time of histories."""
    return time.monotonic_ns() // 1000


class Recorder:
    """Writes down calls and answers of a client's tasks."""

    def __init__(self, writer: HistoryWriter) -> None:
        """Write to this history."""
        self._writer = writer

    def begin(self, ask: Ask) -> int:
        """Write down an ask that is about to be sent."""
        return self._writer.begin(now_us(), ask.kind, ask.keys, ask.numbers)

    def end(self, number: int, answers: Answers) -> None:
        """Write down its answers."""
        self._writer.end(number, now_us(), answers.answers, answers.values, answers.error)


def work_blocking(
    url: str, schedule: Schedule, client: int, recorder: Recorder, ended: threading.Event
) -> None:
    """Work through the blocking API."""
    asking = Asking(schedule.seed, client, schedule.work)
    calls = Calls(ValueCoder(), schedule.work.batch_count_max, schedule.work.size_max)
    store = open_blocking(url, ended.is_set)
    if store is None:
        return
    with store:
        while not ended.is_set():
            ask = asking.next()
            number = recorder.begin(ask)
            pause_s = ask.pause_s
            try:
                found, read = calls.of(ask, store)
                answers = read(found)
            except kvstore.KVStoreError as error:
                answers = failed(ask, error)
                pause_s += ERROR_PAUSE_S
            recorder.end(number, answers)
            ended.wait(pause_s)


def open_blocking(url: str, ended: Callable[[], bool]) -> kvstore.Store | None:
    """Open the store, once it can be reached; None when the client has to end first."""
    while not ended():
        try:
            return kvstore.connect_sync(url)
        except kvstore.StoreUnreachableError:
            time.sleep(OPEN_PAUSE_S)
    return None


async def work_async(
    url: str, schedule: Schedule, client: int, recorder: Recorder, ended: asyncio.Event
) -> None:
    """Work through asyncio, with several tasks on one store."""
    store = await open_async(url, ended)
    if store is None:
        return
    asking = Asking(schedule.seed, client, schedule.work)
    coder = ValueCoder()
    async with store, asyncio.TaskGroup() as tasks:
        for _ in range(schedule.work.tasks):
            calls = Calls(coder, schedule.work.batch_count_max, schedule.work.size_max)
            tasks.create_task(work_of_task(store, asking, calls, recorder, ended))


async def open_async(url: str, ended: asyncio.Event) -> kvstore.AsyncStore | None:
    """Open the store, once it can be reached; None when the client has to end first."""
    while not ended.is_set():
        try:
            return await kvstore.connect(url)
        except kvstore.StoreUnreachableError:
            await asyncio.sleep(OPEN_PAUSE_S)
    return None


async def work_of_task(
    store: kvstore.AsyncStore,
    asking: Asking,
    calls: Calls,
    recorder: Recorder,
    ended: asyncio.Event,
) -> None:
    """Make one call after the other."""
    while not ended.is_set():
        ask = asking.next()
        number = recorder.begin(ask)
        pause_s = ask.pause_s
        try:
            found, read = calls.of(ask, store)
            answers = read(await found)
        except kvstore.KVStoreError as error:
            answers = failed(ask, error)
            pause_s += ERROR_PAUSE_S
        recorder.end(number, answers)
        await asyncio.sleep(pause_s)


async def run_async(url: str, schedule: Schedule, client: int, recorder: Recorder) -> None:
    """Work until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await work_async(url, schedule, client, recorder, ended)


def run_blocking(url: str, schedule: Schedule, client: int, recorder: Recorder) -> None:
    """Work until SIGTERM; on a thread, since a call that blocks would hold up the signal."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    errors: list[BaseException] = []

    def work() -> None:
        try:
            work_blocking(url, schedule, client, recorder, ended)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if errors:
        raise errors[0]


def main() -> None:
    """Record one client's history."""
    path, url, client, face, history = sys.argv[1:]
    schedule = read_schedule(Path(path))
    os.nice(1)  # what is measured is the cluster
    with HistoryWriter(Path(history), int(client), face) as writer:
        if face == "asyncio":
            asyncio.run(run_async(url, schedule, int(client), Recorder(writer)))
        else:
            run_blocking(url, schedule, int(client), Recorder(writer))


if __name__ == "__main__":
    main()
