"""Stores in a directory of the test's own, as small as stores get.

Tests of what every store does ask for any_url, any_store or any_async_store, and run on both kinds.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from integration.commands import Shell
from integration.forked_nodes import Starter
from integration.nodes import served

import kvstore


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store?memory=96MiB&capacity=256MiB"


@pytest.fixture
def store(url: str) -> Iterator[kvstore.Store]:
    with kvstore.connect_sync(url) as store:
        yield store


@pytest.fixture
async def async_store(url: str) -> AsyncIterator[kvstore.AsyncStore]:
    async with kvstore.connect(url) as store:
        yield store


@pytest.fixture(params=["file", "kv"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path, url: str) -> Iterator[str]:
    """The URL of an empty store, in this process or served by a node."""
    if request.param == "file":
        yield url
    else:
        with served(tmp_path / "node") as served_url:
            yield served_url


@pytest.fixture
def any_store(any_url: str) -> Iterator[kvstore.Store]:
    with kvstore.connect_sync(any_url) as store:
        yield store


@pytest.fixture
async def any_async_store(any_url: str) -> AsyncIterator[kvstore.AsyncStore]:
    async with kvstore.connect(any_url) as store:
        yield store


@pytest.fixture
def shell(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(capsysbinary, monkeypatch)


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    with Starter() as starter:
        yield starter
