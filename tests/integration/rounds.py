"""A client that works without a pause while a test takes nodes away and brings them back."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import kvstore

DEADLINE_S = 60.0
ROUND = 100
"""Keys of one round of updates."""


@contextmanager
def updating(url: str) -> Iterator[threading.Event]:
    """Write and read without a pause, on a client of its own; every answer must be right.

    Yields an event that is set after each round.
    """
    stopping, went_round = threading.Event(), threading.Event()

    def update() -> None:
        with kvstore.connect_sync(url, timeout_s=DEADLINE_S) as store:
            number = 0
            while not stopping.is_set():
                number += 1
                value = b"%d" % number
                keys = [f"updating/{index}" for index in range(ROUND)]
                assert [kvstore.SetStatus.OK] * ROUND == store.batch_set(keys, [value] * ROUND)
                assert [value] * ROUND == store.batch_get(keys)
                went_round.set()

    with ThreadPoolExecutor(1) as pool:
        updates = pool.submit(update)
        try:
            yield went_round
        finally:
            stopping.set()
            updates.result()


def wait_for_rounds(went_round: threading.Event, count: int = 2) -> None:
    """Return when so many rounds have ended, the first of which may have begun before."""
    for _ in range(count):
        went_round.clear()
        assert went_round.wait(DEADLINE_S)
