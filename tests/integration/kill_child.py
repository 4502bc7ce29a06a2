"""The victim of test_kill: a fork server whose children work on a store until they are killed.

Standard input has one order a line: `URL SEED FIRST_ID`. For each, a child is forked that opens the
store, reports what it holds, and then sets, overwrites, deletes and tidies without end. Everything
is reported on standard output, one line for each event:

    born PID            the child exists
    holds KEY=ID ...    what it found when it opened the store
    intent N KIND KEY=ID ...    before operation N; a set of ID 0 is a delete
    done N STATUS ...   operation N was acknowledged, with one status for each key
    failed TEXT         what was not to happen
    dead                the child is gone, and so is its lock of the directory

Guarantees: a line is one write of less than PIPE_BUF, so none is torn, whoever dies.
"""

import os
import random
import signal
import sys
import threading
from itertools import count

import kvstore

LANES = 3
KEYS_A_LANE = 24
KEYS = [[b"lane%d/%d" % (lane, i) for i in range(KEYS_A_LANE)] for lane in range(LANES)]
SIZES = [16, 100, 2000, 4096, 5000, 20_000, 65_536, 300_000]
ID_SIZE = 16
BATCH_COUNT_MAX = 12
UPKEEP_SHARE = 0.08
DELETE_SHARE = 0.2


def value_of(identity: int) -> bytes:
    """Return the one value of an id: it begins with it, and its size follows from it."""
    size = random.Random(identity).choice(SIZES)
    return (b"%016d" % identity * (size // ID_SIZE + 1))[:size]


def held_by(store: kvstore.Store) -> dict[bytes, int]:
    """Return the id of every key that the store holds; raises when a byte of a value is wrong."""
    keys = [key for lane in KEYS for key in lane]
    existing = [key for key, exists in zip(keys, store.batch_exists(keys), strict=True) if exists]
    held: dict[bytes, int] = {}
    for key in existing:
        value = store.get(key)
        identity = int(value[:ID_SIZE]) if value else 0
        if not identity or value != value_of(identity):
            raise ValueError(f"{key!r} has a value that was never set")
        held[key] = identity
    if store.stats().objects != len(held):
        raise ValueError(f"{store.stats().objects} objects, {len(held)} of them known")
    return held


def report(line: str) -> None:
    os.write(sys.stdout.fileno(), line.encode() + b"\n")


def words_of(identities: dict[bytes, int]) -> str:
    return " ".join(f"{key.decode()}={identity}" for key, identity in identities.items())


class Worker:
    """One thread with keys of its own, so that what it was told about them is all there is."""

    def __init__(self, store: kvstore.Store, lane: int, seed: int, first_id: int) -> None:
        self.store = store
        self.keys = KEYS[lane]
        self.random = random.Random(seed * LANES + lane)
        self.numbers = count(first_id + lane, LANES)

    def run(self) -> None:
        try:
            while True:
                self.operate()
        except BaseException as error:
            report(f"failed {error!r}")

    def operate(self) -> None:
        dice = self.random.random()
        if dice < UPKEEP_SHARE:
            self.tidy(self.random.choice(["checkpoint", "compact", "flush"]))
            return
        keys = self.random.sample(self.keys, self.random.randint(1, BATCH_COUNT_MAX))
        if dice < UPKEEP_SHARE + DELETE_SHARE:
            self.delete(keys)
        else:
            self.set(keys)

    def tidy(self, kind: str) -> None:
        number = next(self.numbers)
        report(f"intent {number} {kind}")
        getattr(self.store, kind)()
        report(f"done {number}")

    def delete(self, keys: list[bytes]) -> None:
        number = next(self.numbers)
        report(f"intent {number} delete {words_of(dict.fromkeys(keys, 0))}")
        self.store.batch_delete(keys)
        report(f"done {number} {' '.join('0' for _ in keys)}")

    def set(self, keys: list[bytes]) -> None:
        identities = {key: next(self.numbers) for key in keys}
        values = [value_of(identity) for identity in identities.values()]
        number = next(self.numbers)
        report(f"intent {number} set {words_of(identities)}")
        statuses = self.store.batch_set(keys, values)
        report(f"done {number} {' '.join(str(int(status)) for status in statuses)}")


def work(url: str, seed: int, first_id: int) -> None:
    """Open the store and use it until somebody kills this process."""
    try:
        store = kvstore.connect_sync(url)
        report(f"holds {words_of(held_by(store))}")
        for lane in range(LANES):
            worker = Worker(store, lane, seed, first_id)
            threading.Thread(target=worker.run, daemon=True).start()
    except BaseException as error:
        report(f"failed {error!r}")
    while True:
        signal.pause()


def main() -> None:
    """Fork a child for each order, one at a time."""
    for line in sys.stdin:
        url, seed, first_id = line.split()
        child = os.fork()
        if child == 0:
            work(url, int(seed), int(first_id))
        report(f"born {child}")
        os.waitpid(child, 0)
        report("dead")


if __name__ == "__main__":
    main()
