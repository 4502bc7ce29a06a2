"""Blocking calls from an event loop: on a thread, and never left behind."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

R = TypeVar("R")


async def run_to_end(call: Callable[[], R]) -> R:
    """Run *call* on a thread of the loop's; when cancelled, still wait until it is over."""
    running = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # what failed is nobody's news any more
        raise
