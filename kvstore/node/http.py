"""A small HTTP endpoint: GET of a few pages, for scrapers and load balancers.

Guarantees: bounded time, bytes and connections, whoever connects. Leaves to others: what the pages
say. It knows no more of HTTP than that: each answer closes its connection.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from kvstore.addresses import Address

REQUEST_SIZE_MAX = 16 << 10
REQUEST_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 64


@dataclass(frozen=True, slots=True)
class Page:
    """What a path answers."""

    status: HTTPStatus
    content_type: str
    body: bytes


Pages = Mapping[str, Callable[[], Page]]


class Endpoint:
    """A listening endpoint; close() ends it."""

    def __init__(self, listening: asyncio.Server) -> None:
        """Own what open_endpoint made."""
        self._listening = listening

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listening.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no more; answers under way have their time limit."""
        self._listening.close()
        await self._listening.wait_closed()


async def open_endpoint(address: Address, pages: Pages) -> Endpoint:
    """Serve *pages* at an address."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            page = plain(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
            if connections <= CONNECTIONS_MAX:
                page = await asyncio.wait_for(page_of(reader, pages), REQUEST_TIMEOUT_S)
            await asyncio.wait_for(send(writer, page), REQUEST_TIMEOUT_S)
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            pass  # who asks so is not answered
        finally:
            connections -= 1
            writer.close()

    listening = await asyncio.start_server(
        serve, address.name, address.port, limit=REQUEST_SIZE_MAX
    )
    return Endpoint(listening)


async def page_of(reader: asyncio.StreamReader, pages: Pages) -> Page:
    """Return the page that a request asks for."""
    request = await reader.readuntil(b"\r\n\r\n")
    words = request.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return plain(HTTPStatus.BAD_REQUEST, "no request of HTTP/1.1")
    if words[0] != "GET":
        return plain(HTTPStatus.METHOD_NOT_ALLOWED, "GET only")
    page = pages.get(words[1].partition("?")[0])
    if page is None:
        return plain(HTTPStatus.NOT_FOUND, f"there is {' and '.join(pages)}")
    return page()


def plain(status: HTTPStatus, text: str) -> Page:
    """Return a page of one line."""
    return Page(status, "text/plain; charset=utf-8", f"{text}\n".encode())


async def send(writer: asyncio.StreamWriter, page: Page) -> None:
    """Send a page."""
    head = (
        f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\n"
        f"Content-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    writer.write(head.encode("latin-1") + page.body)
    await writer.drain()
