"""A watch that goes on over any loss of connection, from the last revision that it delivered."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from itertools import groupby
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from kvstore.cluster.metadata import etcd_pb2 as wire
from kvstore.cluster.metadata.etcd_connection import (
    DOUBTFUL,
    PAUSE_MAX_S,
    PAUSE_MIN_S,
    WATCH,
    EtcdConnection,
    failure,
    token_refused,
)
from kvstore.cluster.metadata.port import Changes, Deleted, Entry, Revision, SessionId
from kvstore.errors import CompactedError, MetadataError, MetadataUnavailableError

if TYPE_CHECKING:
    from grpc.aio import StreamStreamCall

SILENCES_MAX = 3
"""Questions without an answer, one each heartbeat, after which a member counts as hung."""


async def watch(
    connection: EtcdConnection, prefix: bytes, end: bytes, after: Revision
) -> AsyncGenerator[wire.WatchResponse, None]:
    """Yield responses with events later than `after`, each event once.

    The revision to go on from is that of the last event that was yielded. Progress reports move it
    no further: members before 3.4.25 and 3.5.8 send them ahead of events that are still to come.
    """
    pause_s = PAUSE_MIN_S
    while True:
        turn = connection.turn
        try:
            async with aclosing(_responses(connection, prefix, end, after)) as responses:
                async for response in responses:
                    pause_s = PAUSE_MIN_S
                    if response.events:
                        after = Revision(response.events[-1].kv.mod_revision)
                        yield response
        except grpc.aio.AioRpcError as error:
            if token_refused(error):
                await connection.forget_token()
            elif error.code() not in DOUBTFUL:
                raise failure(error) from error
        except MetadataUnavailableError:
            pass
        connection.rotate(turn)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, PAUSE_MAX_S)


def changes_of(response: wire.WatchResponse, cut: int) -> Iterator[Changes]:
    """Yield the changes of a response, one for each revision; keys lose `cut` bytes."""
    for revision, events in groupby(response.events, lambda event: event.kv.mod_revision):
        yield Changes(Revision(revision), tuple(_changes(events, cut)))


def entry_of(pair: wire.KeyValue, cut: int) -> Entry:
    """Return an entry of etcd; its key loses `cut` bytes."""
    return Entry(
        pair.key[cut:],
        pair.value,
        Revision(pair.create_revision),
        Revision(pair.mod_revision),
        SessionId(pair.lease),
    )


def _changes(events: Iterable[wire.Event], cut: int) -> Iterator[Entry | Deleted]:
    for event in events:
        if event.type == wire.Event.PUT:
            yield entry_of(event.kv, cut)
        else:
            yield Deleted(event.kv.key[cut:], Revision(event.kv.mod_revision))


async def _responses(
    connection: EtcdConnection, prefix: bytes, end: bytes, after: Revision
) -> AsyncGenerator[wire.WatchResponse, None]:
    """Yield what one member sends, until it hangs up or goes silent."""
    call = await connection.stream(WATCH)
    reading: asyncio.Task[wire.WatchResponse] | None = None
    try:
        create = wire.WatchCreateRequest(key=prefix, range_end=end, start_revision=after + 1)
        await call.write(wire.WatchRequest(create_request=create))
        silences = 0
        while True:
            if reading is None:
                reading = asyncio.ensure_future(_read(call))
            await asyncio.wait([reading], timeout=connection.options.heartbeat_s)
            if not reading.done():
                silences += 1
                if silences > SILENCES_MAX:
                    return
                await _ask_for_progress(call, connection.options.heartbeat_s)
                continue
            if reading.cancelled():  # by the end of the call, not by whoever waits here
                return
            response, reading, silences = reading.result(), None, 0
            _check_canceled(response)
            yield response
    except EOFError:
        return
    finally:
        call.cancel()
        if reading is not None:
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.exception()


async def _read(
    call: "StreamStreamCall[wire.WatchRequest, wire.WatchResponse]",
) -> wire.WatchResponse:
    response = await call.read()
    if not isinstance(response, wire.WatchResponse):
        raise EOFError
    return response


async def _ask_for_progress(
    call: "StreamStreamCall[wire.WatchRequest, wire.WatchResponse]", timeout_s: float
) -> None:
    """Ask for a sign of life; a stream that takes no question either will go silent."""
    question = wire.WatchRequest(progress_request=wire.WatchProgressRequest())
    try:
        async with asyncio.timeout(timeout_s):
            await call.write(question)
    except TimeoutError:
        return
    except asyncio.InvalidStateError as error:  # the call has ended meanwhile
        raise EOFError from error


def _check_canceled(response: wire.WatchResponse) -> None:
    if not response.canceled:
        return
    if response.compact_revision:
        raise CompactedError(f"changes up to revision {response.compact_revision} are forgotten")
    if "permission" in response.cancel_reason:
        raise MetadataError(f"etcd refuses the watch: {response.cancel_reason}")
    raise EOFError(response.cancel_reason)
