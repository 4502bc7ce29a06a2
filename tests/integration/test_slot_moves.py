"""Slots that move between chains of real processes while clients write, read and delete."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from integration.commands import Shell

import kvstore
from kvstore.cluster.local import bring_up, take_down

SMALL: dict[str, object] = {"memory": "96MiB", "capacity": "256MiB"}
DEADLINE_S = 60.0
WRITERS = 3
KEYS = 300
"""Of each writer, who alone changes them."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two chains of three targets."""
    directory = tmp_path_factory.mktemp("cluster")
    cluster = bring_up(directory, {"nodes": 3, "replicas": 3, "targets_per_node": 2, **SMALL})
    yield cluster.url
    take_down(directory, 5.0)


def work(url: str, number: int, stopping: threading.Event) -> dict[str, bytes | None]:
    """Set, delete and read keys until told to stop; return what they hold then."""
    drawn = random.Random(number)
    held: dict[str, bytes | None] = {}
    with kvstore.connect_sync(url, timeout_s=DEADLINE_S) as store:
        while not stopping.is_set():
            key = f"{number}/{drawn.randrange(KEYS)}"
            what = drawn.random()
            if what < 0.2:
                assert store.delete(key) == (held.get(key) is not None)
                held[key] = None
            elif what < 0.6:
                held[key] = drawn.randbytes(drawn.randrange(1, 5000))
                store.set(key, held[key])
            else:
                assert store.get(key) == held.get(key)
    return held


def slots_of(shell: Shell, url: str) -> dict[int, int]:
    chains = shell("status", url, "--json").json["chains"]
    return {chain["id"]: chain["slots"] for chain in chains}


def test_nothing_fails_and_nothing_is_lost_while_slots_move(url: str, shell: Shell) -> None:
    stopping = threading.Event()
    with ThreadPoolExecutor(WRITERS) as pool:
        workers = [pool.submit(work, url, number, stopping) for number in range(WRITERS)]
        try:
            moved = shell("admin", "move-slots", url, 1, 2, "--count", 300, "--wait", "--json")
            after = slots_of(shell, url)
            back = shell("admin", "rebalance", url, "--apply", "--wait", "--json")
        finally:
            stopping.set()
        held = {key: value for worker in workers for key, value in worker.result().items()}

    assert {"slots": 300, "done": True} == moved.json
    assert {1: 212, 2: 812} == after
    assert 300 == len(back.json["slot_moves"])
    assert {1: 512, 2: 512} == slots_of(shell, url)
    with kvstore.connect_sync(url) as store:
        assert held == {key: store.get(key) for key in held}
        present = sum(value is not None for value in held.values())
        assert present == len(list(store.list()))
    assert 0 == shell("check", url, "--cluster", "--json").code


def test_what_cannot_move_is_refused(url: str, shell: Shell) -> None:
    assert 0 != shell("admin", "move-slots", url, 1, 1, "--json").code
    assert 0 != shell("admin", "move-slots", url, 1, 9, "--json").code
