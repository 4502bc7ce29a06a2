"""Slots that move between chains of real processes while clients write, read and delete."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from integration.commands import Shell

import kvstore
from kvstore.cluster.local import bring_up, take_down, wait_until_whole
from kvstore.cluster.processes import send_signal, wait_for_end
from kvstore.commands.ask_mgmtd import number_of, operate, options_of, rows_of, words_of

SMALL: dict[str, object] = {"memory": "96MiB", "capacity": "256MiB"}
DEADLINE_S = 60.0
WRITERS = 3
KEYS = 300
"""Of each writer, who alone changes them."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two chains of three targets."""
    directory = tmp_path_factory.mktemp("cluster")
    bring_up(directory, {"nodes": 3, "replicas": 3, "targets_per_node": 2, **SMALL})
    yield directory
    take_down(directory, 5.0)


@pytest.fixture
def url(directory: Path) -> str:
    return bring_up(directory, {}).url


@contextmanager
def working(url: str) -> Iterator[None]:
    """Have clients work; in the end each finds what it left, and nothing has failed."""
    stopping = threading.Event()
    with ThreadPoolExecutor(WRITERS) as pool:
        workers = [pool.submit(work, url, number, stopping) for number in range(WRITERS)]
        try:
            yield
        finally:
            stopping.set()
        held = {key: value for worker in workers for key, value in worker.result().items()}
    with kvstore.connect_sync(url, timeout_s=DEADLINE_S) as store:
        assert held == {key: store.get(key) for key in held}
        present = sum(value is not None for value in held.values())
        assert present == len(list(store.list()))


def work(url: str, number: int, stopping: threading.Event) -> dict[str, bytes | None]:
    """Set, delete and read keys until told to stop; return what they hold then."""
    drawn = random.Random(number)
    keys = [f"{number}/{index}" for index in range(KEYS)]
    with kvstore.connect_sync(url, timeout_s=DEADLINE_S) as store:
        held = dict(zip(keys, store.batch_get(keys), strict=True))
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
    with working(url):
        moved = shell("admin", "move-slots", url, 1, 2, "--count", 300, "--wait", "--json")
        after = slots_of(shell, url)
        back = shell("admin", "rebalance", url, "--apply", "--wait", "--json")

    assert {"slots": 300, "done": True} == moved.json
    assert {1: 212, 2: 812} == after
    assert 300 == len(back.json["slot_moves"])
    assert {1: 512, 2: 512} == slots_of(shell, url)
    assert 0 == shell("check", url, "--cluster", "--json").code


@pytest.mark.parametrize("phase", ["clearing", "copying", "frozen"])
@pytest.mark.parametrize("end", ["source", "destination"])
def test_a_node_is_killed_while_slots_move(
    directory: Path, url: str, shell: Shell, phase: str, end: str
) -> None:
    """The head of the chain that gives, or of the one that takes."""
    wait_until_whole(directory, DEADLINE_S)
    before = slots_of(shell, url)
    gives, takes = sorted(before, key=lambda chain: -before[chain])[:2]
    with working(url):
        options = options_of(url)
        operate(options, "move_slots", **{"from": gives, "to": takes, "count": 200})
        wait_for_phase(url, phase)
        kill(directory, head_node(url, gives if end == "source" else takes))
        wait_for_phase(url, "")
        bring_up(directory, {})
        wait_until_whole(directory, DEADLINE_S)

    after = slots_of(shell, url)
    assert (before[gives] - 200, before[takes] + 200) == (after[gives], after[takes])
    assert 0 == shell("check", url, "--cluster", "--json").code


def wait_for_phase(url: str, phase: str) -> None:
    """Return once slots move in that phase, or none move any more."""
    deadline_s = time.monotonic() + DEADLINE_S
    while moves := rows_of(operate(options_of(url), "status"), "slot_moves"):
        if words_of(moves[0], "phase") == phase:
            return
        assert time.monotonic() < deadline_s, moves


def head_node(url: str, chain: int) -> int:
    chains = rows_of(operate(options_of(url), "status"), "chains")
    row = next(row for row in chains if number_of(row, "id") == chain)
    return number_of(rows_of(row, "targets")[0], "node")


def kill(directory: Path, number: int) -> None:
    (node,) = [node for node in bring_up(directory, {}).nodes if node.node == number]
    send_signal(node.process, signal.SIGKILL)
    assert [] == wait_for_end([node.process], DEADLINE_S)


def test_what_cannot_move_is_refused(url: str, shell: Shell) -> None:
    assert 0 != shell("admin", "move-slots", url, 1, 1, "--json").code
    assert 0 != shell("admin", "move-slots", url, 1, 9, "--json").code


def test_a_node_leaves_though_there_is_no_spare(
    tmp_path_factory: pytest.TempPathFactory, shell: Shell
) -> None:
    """Of three chains of two, one goes, so that another one's target can be replaced."""
    directory = tmp_path_factory.mktemp("leaving")
    url = bring_up(directory, {"nodes": 3, "replicas": 2, "targets_per_node": 2, **SMALL}).url
    try:
        with working(url):
            drained = shell("admin", "drain-node", url, 1, "--wait", "--json")

        assert 0 == drained.code, drained.err
        assert 1 == len(drained.json["dissolved"])
        chains = shell("status", url, "--json").json["chains"]
        assert [2, 2] == [len(chain["targets"]) for chain in chains]
        assert {2, 3} == {place["node"] for chain in chains for place in chain["targets"]}
        assert 1024 == sum(chain["slots"] for chain in chains)
        assert 0 == shell("check", url, "--cluster", "--json").code
    finally:
        take_down(directory, 5.0)
