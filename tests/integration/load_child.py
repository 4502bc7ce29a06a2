"""Load on a node that is killed again and again: a client process that knows what must be there.

Arguments are the URL and a seed. It sets, overwrites, deletes and reads keys of its own without
end, and reports each batch that was acknowledged, a line of standard output each. Whatever it
reads must be the value that was acknowledged last, or one of those whose fate it was not told. When
standard input ends, it reads everything once more and reports "fine"; "failed TEXT" is what was
not to happen.
"""

import random
import select
import sys
from itertools import count

import kvstore
from kvstore import SetStatus

KEYS_COUNT = 40
BATCH_COUNT_MAX = 8
SIZES = [16, 100, 2000, 4096, 5000, 20_000, 65_536, 150_000]
ID_SIZE = 16
DELETE_SHARE = 0.15
READ_SHARE = 0.3
GAVE_UP = (SetStatus.UNAVAILABLE, SetStatus.TIMEOUT)


def value_of(identity: int) -> bytes:
    """Return the one value of an id: it begins with it, and its size follows from it."""
    size = random.Random(identity).choice(SIZES)
    return (b"%016d" % identity * (size // ID_SIZE + 1))[:size]


class Load:
    """Keys, and what each may be; 0: no object."""

    def __init__(self, store: kvstore.Store, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.possible = {f"load{seed}/{i}".encode(): {0} for i in range(KEYS_COUNT)}
        self.numbers = count(1 + seed * 10**9)

    def operate(self) -> bool:
        """Do something; whether it was acknowledged."""
        dice = self.random.random()
        keys = self.random.sample(list(self.possible), self.random.randint(1, BATCH_COUNT_MAX))
        if dice < READ_SHARE:
            return self.read(keys)
        if dice < READ_SHARE + DELETE_SHARE:
            return self.delete(keys)
        return self.set(keys)

    def set(self, keys: list[bytes]) -> bool:
        """Set keys to values that were never used before."""
        identities = [next(self.numbers) for _ in keys]
        statuses = self.store.batch_set(keys, [value_of(identity) for identity in identities])
        for key, identity, status in zip(keys, identities, statuses, strict=True):
            if status is SetStatus.OK:
                self.possible[key] = {identity}
            elif status in GAVE_UP:
                self.possible[key].add(identity)
            else:
                raise ValueError(f"{key!r}: {status!r}")
        return all(status is SetStatus.OK for status in statuses)

    def delete(self, keys: list[bytes]) -> bool:
        """Delete keys; a failure is one of them all."""
        try:
            deleted = self.store.batch_delete(keys)
        except (kvstore.StoreUnavailableError, kvstore.KVTimeoutError):
            for key in keys:
                self.possible[key].add(0)
            return False
        for key, existed in zip(keys, deleted, strict=True):
            if existed == (self.possible[key] == {0}) and len(self.possible[key]) == 1:
                raise ValueError(f"{key!r}: deleted {existed}, it was {self.possible[key]}")
            self.possible[key] = {0}
        return True

    def read(self, keys: list[bytes]) -> bool:
        """Read keys, and check what they are."""
        buffers = [bytearray(max(SIZES)) for _ in keys]
        written = self.store.batch_get_into(keys, buffers)
        for key, size, buffer in zip(keys, written, buffers, strict=True):
            if size == -3:
                continue
            identity = 0 if size < 0 else int(buffer[:ID_SIZE])
            if identity not in self.possible[key]:
                raise ValueError(f"{key!r}: found {identity}, possible were {self.possible[key]}")
            if identity and bytes(buffer[:size]) != value_of(identity):
                raise ValueError(f"{key!r}: wrong bytes")
            self.possible[key] = {identity}
        return -3 not in written


def work(url: str, seed: int) -> None:
    """Operate until standard input ends."""
    with kvstore.connect_sync(url) as store:
        load = Load(store, seed)
        while not select.select([sys.stdin], [], [], 0)[0]:
            if load.operate():
                print("acknowledged", flush=True)
        if not load.read(list(load.possible)):
            raise ValueError("not everything can be read")
    print("fine", flush=True)


if __name__ == "__main__":
    try:
        work(sys.argv[1], int(sys.argv[2]))
    except Exception as error:
        print(f"failed {error!r}", flush=True)
        raise
