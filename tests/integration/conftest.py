"""Stores in a directory of the test's own, as small as stores get."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from integration.commands import Shell

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


@pytest.fixture
def shell(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(capsysbinary, monkeypatch)
