"""The log of a node: one line an event, as JSON, and not too many of them."""

import io
import json
from typing import Any

from kvstore.node.config import LogLevel, LogStyle
from kvstore.node.events import LINES_PER_S_MAX, EventLog
from kvstore.node.log import make_log
from kvstore.types import NodeEvent, NodeEventKind


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def event(kind: NodeEventKind, error: int = 0) -> NodeEvent:
    return NodeEvent(1.5, kind, error, 7, "127.0.0.1:4711: why")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_a_line_with_its_level() -> None:
    stream = io.StringIO()
    log = EventLog(make_log(LogStyle.JSON, LogLevel.DEBUG, stream).bind(node=3))

    log.write([event(NodeEventKind.CONNECTED), event(NodeEventKind.REFUSED, 13)])

    first, second = lines(stream)
    assert ("debug", "connected", 3, 7) == (
        first["level"],
        first["event"],
        first["node"],
        first["connection"],
    )
    assert ("warning", "connection refused", "EACCES") == (
        second["level"],
        second["event"],
        second["error"],
    )
    assert "127.0.0.1:4711: why" == second["about"]


def test_every_kind_of_event_has_its_line() -> None:
    stream = io.StringIO()
    log = EventLog(make_log(LogStyle.JSON, LogLevel.DEBUG, stream))

    log.write([event(kind) for kind in NodeEventKind])

    assert len(NodeEventKind) == len({line["event"] for line in lines(stream)})


def test_the_level_leaves_lines_out() -> None:
    stream = io.StringIO()
    log = EventLog(make_log(LogStyle.JSON, LogLevel.WARNING, stream))

    log.write([event(NodeEventKind.CONNECTED), event(NodeEventKind.CUT_STALLED)])

    assert ["connection cut: stalled"] == [line["event"] for line in lines(stream)]


def test_a_flood_is_counted_instead() -> None:
    stream, clock = io.StringIO(), Clock()
    log = EventLog(make_log(LogStyle.JSON, LogLevel.INFO, stream), clock)

    log.write([event(NodeEventKind.REFUSED)] * (LINES_PER_S_MAX + 50))
    log.write([event(NodeEventKind.TARGET_OFFLINE)])
    clock.now += 1
    log.write([event(NodeEventKind.REFUSED)])

    found = lines(stream)
    assert LINES_PER_S_MAX + 3 == len(found)
    assert "target offline" == found[-3]["event"]
    assert ("events left out of the log", 50) == (found[-2]["event"], found[-2]["count"])


def test_lines_for_people_are_no_json() -> None:
    stream = io.StringIO()

    make_log(LogStyle.PEOPLE, LogLevel.INFO, stream).info("serving", listen="127.0.0.1:7400")

    assert "serving" in stream.getvalue()
    assert "listen=127.0.0.1:7400" in stream.getvalue()
    assert 1 == stream.getvalue().count("\n")
