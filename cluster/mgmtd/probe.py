"""Whether a process still listens: every address of a node is connected to, at the same time."""

import asyncio
import socket
from collections.abc import Iterable

from kvstore.addresses import Address
from kvstore.cluster.mgmtd.events import ProbeOutcome
from kvstore.errors import InvalidOptionError

PROBE_TIMEOUT_S = 0.5


async def probe(addresses: Iterable[str], timeout_s: float = PROBE_TIMEOUT_S) -> ProbeOutcome:
    """Connect to each, and say what came of it; takes no longer than the timeout."""
    found = await asyncio.gather(*(_bounded(text, timeout_s) for text in addresses))
    outcomes = {outcome for outcomes in found for outcome in outcomes}
    if ProbeOutcome.ANSWERED in outcomes:
        return ProbeOutcome.ANSWERED
    return ProbeOutcome.REFUSED if ProbeOutcome.REFUSED in outcomes else ProbeOutcome.SILENT


async def _bounded(text: str, timeout_s: float) -> list[ProbeOutcome]:
    try:
        async with asyncio.timeout(timeout_s):
            return await _at_name(Address.parse(text))
    except (OSError, TimeoutError, InvalidOptionError):
        return [ProbeOutcome.SILENT]


async def _at_name(address: Address) -> list[ProbeOutcome]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.name, address.port, type=socket.SOCK_STREAM)
    return await asyncio.gather(*(_at(family, where) for family, _, _, _, where in found))


async def _at(family: int, where: tuple[object, ...]) -> ProbeOutcome:
    connecting = socket.socket(family, socket.SOCK_STREAM)
    connecting.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connecting, where)
    except ConnectionRefusedError:
        return ProbeOutcome.REFUSED
    except OSError:
        return ProbeOutcome.SILENT
    finally:
        connecting.close()
    return ProbeOutcome.ANSWERED
