"""Group commit: one flush for everybody who waits, which covers nothing that came later."""

import asyncio
import threading

import pytest

from kvstore.cluster.metadata.group_commit import GroupCommit
from kvstore.errors import MetadataError


class Disk:
    """A flush that takes until it is let go, on its own thread."""

    def __init__(self) -> None:
        self.flushes = 0
        self.failing = False
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def flush(self) -> None:
        self.flushes += 1
        self.begun.release()
        self.go.acquire()
        if self.failing:
            raise OSError("the disk is gone")


async def begun(disk: Disk) -> None:
    await asyncio.to_thread(disk.begun.acquire)


async def test_all_who_wait_share_the_next_flush() -> None:
    disk = Disk()
    commit = GroupCommit(disk.flush, 0, lambda: None)
    commit.written = 1
    first = asyncio.ensure_future(commit.wait(1))
    await begun(disk)
    commit.written = 50
    others = [asyncio.ensure_future(commit.wait(revision)) for revision in range(2, 51)]

    disk.go.release()
    await first
    await begun(disk)
    assert not any(other.done() for other in others)
    disk.go.release()
    await asyncio.gather(*others)

    assert (2, 50) == (disk.flushes, commit.durable)


async def test_what_is_durable_waits_for_nothing() -> None:
    disk = Disk()
    commit = GroupCommit(disk.flush, 7, lambda: None)

    await commit.wait(7)

    assert 0 == disk.flushes


async def test_who_gives_up_waiting_disturbs_nobody() -> None:
    disk = Disk()
    advances: list[int] = []
    commit = GroupCommit(disk.flush, 0, lambda: advances.append(commit.durable))
    commit.written = 1
    first, second = (asyncio.ensure_future(commit.wait(1)) for _ in range(2))
    await begun(disk)

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    disk.go.release()
    await second

    assert (1, [1]) == (disk.flushes, advances)


async def test_a_failed_flush_is_never_repeated() -> None:
    disk = Disk()
    commit = GroupCommit(disk.flush, 0, lambda: None)
    disk.failing = True
    commit.written = 1
    disk.go.release()

    for _ in range(2):
        with pytest.raises(MetadataError, match="the disk is gone"):
            await commit.wait(1)
    with pytest.raises(MetadataError, match="the disk is gone"):
        commit.check()

    assert (1, 0) == (disk.flushes, commit.durable)
