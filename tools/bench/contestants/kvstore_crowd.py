"""Many clients of this store in one process, each a thread with a store of its own."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import kvstore
from tools.bench.contestants.base import Options, Peer
from tools.bench.contestants.crowd_batches import (
    BATCH_SIZE,
    MIX,
    PATTERN_SEED,
    PATTERN_SIZE,
    keys_of,
    value_of,
)
from tools.bench.failures import ContestantError


@dataclass(slots=True)
class Client:
    """One thread's store, its buffers, and what it did in the last run."""

    store: kvstore.Store
    windows: list[list[memoryview]]
    done: int = 0
    latencies: list[float] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)
    """Which batch each window holds."""
    problem: str = ""


class Crowd(Peer):
    """Options: `url`, `clients`, and `window`, the bytes of buffers that a client rotates."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Connect every client, and have each look something up."""
        del directory
        self._pattern = memoryview(random.Random(PATTERN_SEED).randbytes(PATTERN_SIZE))
        self._clients: list[Client] = []
        count = max(1, int(options["window"]) // BATCH_SIZE)
        for _ in range(int(options["clients"])):
            store = kvstore.connect_sync(str(options["url"]))
            store.batch_exists(keys_of(0))
            self._clients.append(Client(store, [self._window() for _ in range(count)]))

    @staticmethod
    def _window() -> list[memoryview]:
        memory = memoryview(bytearray(BATCH_SIZE))
        found, at = [], 0
        for size in MIX:
            found.append(memory[at : at + size])
            at += size
        return found

    def set_mixed(self, batches: int) -> None:
        """Set every value of this many batches."""
        for batch in range(batches):
            values = [
                value_of(self._pattern, batch * len(MIX) + i, size) for i, size in enumerate(MIX)
            ]
            self.set_batch(keys_of(batch), values)

    def run(self, seed: int, batches: int, start_at: float, seconds: float) -> dict[str, object]:
        """Have every client get random batches from *start_at* on; what each of them did.

        *start_at* is a time of the monotonic clock, which all processes of a machine share.
        """
        threads = [
            Thread(
                target=get_at_random,
                args=(client, random.Random(f"{seed} {i}"), batches, start_at, seconds),
            )
            for i, client in enumerate(self._clients)
        ]
        cpu_before = time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cpu_s = time.process_time() - cpu_before
        for client in self._clients:
            self._check(client)
        return {
            "amounts": [client.done * BATCH_SIZE for client in self._clients],
            "latencies_ms": [s * 1e3 for client in self._clients for s in client.latencies],
            "cpu_s": cpu_s,
        }

    def _check(self, client: Client) -> None:
        if client.problem:
            raise ContestantError(client.problem)
        for window, batch in client.held.items():
            for i, target in enumerate(client.windows[window]):
                if target != value_of(self._pattern, batch * len(MIX) + i, len(target)):
                    raise ContestantError(f"value {i} of batch {batch} came back wrong")

    def set_batch(self, keys: Sequence[bytes], values: Sequence[memoryview]) -> None:
        """Set with the first client."""
        statuses = self._clients[0].store.batch_set(keys, values)
        if any(statuses):
            raise ContestantError(f"batch_set answered {max(statuses).name}")

    def get_batch(self, keys: Sequence[bytes], targets: Sequence[memoryview]) -> None:
        """Get with the first client."""
        sizes = self._clients[0].store.batch_get_into(keys, targets)
        if min(sizes) < 0:
            raise ContestantError(f"batch_get_into answered {min(sizes)}")

    def exists_batch(self, keys: Sequence[bytes]) -> Sequence[object]:
        """Look up with the first client."""
        return self._clients[0].store.batch_exists(keys)

    def close(self) -> None:
        """Disconnect every client."""
        for client in self._clients:
            client.store.close()


def get_at_random(
    client: Client, chosen: random.Random, batches: int, start_at: float, seconds: float
) -> None:
    """Get one random batch after another until the time is over; the last one ends late."""
    client.done, client.problem = 0, ""
    client.latencies.clear()
    client.held.clear()
    turn = 0
    time.sleep(max(0.0, start_at - time.monotonic()))
    end = start_at + seconds
    before = time.monotonic()
    while before < end:
        batch = chosen.randrange(batches)
        window = turn % len(client.windows)
        sizes = client.store.batch_get_into(keys_of(batch), client.windows[window])
        if min(sizes) < 0:
            client.problem = f"batch_get_into answered {min(sizes)}"
            return
        after = time.monotonic()
        client.held[window] = batch
        client.latencies.append(after - before)
        client.done += after <= end
        before = after
        turn += 1
