"""The log of a node: one line an event on stderr, as JSON for programs or coloured for people."""

import sys
from typing import TextIO

import structlog

from kvstore.node.config import LogLevel, LogStyle

Log = structlog.typing.FilteringBoundLogger


def make_log(style: LogStyle, level: LogLevel, stream: TextIO = sys.stderr) -> Log:
    """Return a log; what it is bound to goes onto every line."""
    people = style is LogStyle.PEOPLE or (style is LogStyle.AUTO and stream.isatty())
    rendered: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty())
        if people
        else structlog.processors.JSONRenderer()
    )
    log: Log = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            rendered,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    return log
