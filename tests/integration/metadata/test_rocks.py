"""What the embedded metadata store does over restarts, kills and full logs."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore.cluster.metadata.port import Delete, Put, Revision
from kvstore.cluster.metadata.rocks import open_rocks
from kvstore.errors import CompactedError, MetadataError

CHILD = """
import asyncio, sys
from pathlib import Path
from kvstore.cluster.metadata.port import Put
from kvstore.cluster.metadata.rocks import open_rocks

async def main():
    store = await open_rocks(Path(sys.argv[1]))
    count = 0
    while True:
        await asyncio.gather(*(
            store.transaction([], [Put(b"%d/%d" % (count, index), b"")]) for index in range(8)
        ))
        print(count, flush=True)
        count += 1

asyncio.run(main())
"""


async def test_what_was_answered_is_there_again(tmp_path: Path) -> None:
    store = await open_rocks(tmp_path / "m")
    made = await store.transaction([], [Put(b"a", b"1"), Put(b"b", b"1")])
    changed = await store.transaction([], [Put(b"a", b"2"), Delete(b"b")])
    await store.close()

    store = await open_rocks(tmp_path / "m")
    snapshot = await store.range(b"")
    entry = await store.get(b"a")
    changes = await anext(store.watch(b"", made.revision))
    later = await store.transaction([], [Put(b"c", b"")])
    await store.close()

    assert changed.revision == snapshot.revision == changes.revision
    assert entry is not None
    assert (b"2", made.revision, changed.revision) == (entry.value, entry.created, entry.modified)
    assert later.revision == changed.revision + 1


async def test_the_keys_of_a_former_processs_sessions_go_at_the_next_open(tmp_path: Path) -> None:
    store = await open_rocks(tmp_path / "m")
    session = await store.session(3600)
    made = await store.transaction([], [Put(b"a", b"1", session.id), Put(b"b", b"")])
    await store.close()

    store = await open_rocks(tmp_path / "m")
    entries = (await store.range(b"")).entries
    changes = await anext(store.watch(b"", made.revision))
    await store.close()

    assert [b"b"] == [entry.key for entry in entries]
    assert [b"a"] == [change.key for change in changes.changes]


async def test_a_directory_is_open_once(tmp_path: Path) -> None:
    store = await open_rocks(tmp_path / "m")

    with pytest.raises(MetadataError, match="does not open"):
        await open_rocks(tmp_path / "m")
    await store.close()


async def test_another_format_version_is_refused(tmp_path: Path) -> None:
    from rocksdict import Options, Rdict

    database = Rdict(str(tmp_path / "m"), Options(raw_mode=True))
    database.put(b"mformat", (2).to_bytes(8, "big"))
    database.close()

    with pytest.raises(MetadataError, match="format version 2, this release reads 1"):
        await open_rocks(tmp_path / "m")


async def test_the_log_forgets_its_oldest_changes(tmp_path: Path) -> None:
    store = await open_rocks(tmp_path / "m", log_revisions_max=10)
    for count in range(25):
        last = await store.transaction([], [Put(b"a", b"%d" % count)])

    with pytest.raises(CompactedError, match="up to revision 15"):
        await anext(store.watch(b"", Revision(14)))
    assert 16 == (await anext(store.watch(b"", Revision(15)))).revision
    assert 25 == last.revision
    await store.close()


async def test_a_session_whose_process_was_paused_is_lost(tmp_path: Path) -> None:
    now_ns = 0

    def clock_ns() -> int:
        return now_ns

    store = await open_rocks(tmp_path / "m", clock_ns=clock_ns)
    session = await store.session(0.02)
    made = await store.transaction([], [Put(b"a", b"1", session.id)])
    assert session.alive()

    now_ns = 20_000_000
    assert not session.alive()
    changes = await anext(store.watch(b"", made.revision))

    assert [b"a"] == [change.key for change in changes.changes]
    await store.close()


async def test_closing_in_the_middle_of_a_range_ends_it(tmp_path: Path) -> None:
    store = await open_rocks(tmp_path / "m")
    for first in range(0, 2000, 100):
        await store.transaction([], [Put(b"%d" % (first + index), b"") for index in range(100)])
    listing = asyncio.ensure_future(store.range(b""))
    await asyncio.sleep(0)

    await store.close()

    with pytest.raises(MetadataError, match="closed"):
        await listing
    again = await open_rocks(tmp_path / "m")
    assert 2000 == len((await again.range(b"")).entries)
    await again.close()


async def test_a_killed_process_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    answered = await asyncio.to_thread(killed_while_writing, tmp_path / "m")

    store = await open_rocks(tmp_path / "m")
    keys = {entry.key for entry in (await store.range(b"")).entries}
    await store.close()

    wanted = {b"%d/%d" % (count, index) for count in range(answered + 1) for index in range(8)}
    assert wanted <= keys


def killed_while_writing(directory: Path) -> int:
    """Kill a process that writes all the time; return the last round that it saw answered."""
    command = [sys.executable, "-c", CHILD, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        rounds = [child.stdout.readline() for _ in range(20)]
        child.kill()
        rounds += child.stdout.read().splitlines(keepends=True)
    return max(int(line) for line in rounds if line.endswith(b"\n"))
