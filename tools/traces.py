"""Generates traces in the Mooncake format, with the shape of real ones.

    a chat           |0|                               short, asked once
    a document       |== 1 2 3 ==|- 4 5 6 7 8 9 -|     long, behind one of a few system prompts
    its next turn    |== 1 2 3 ==|- 4 5 6 7 8 9 -|10|  asked again after a pause, if it ever is

Guarantees: the same arguments give the same trace, also in another release of Python, since nothing
but Random.random() is asked for. `python -m tools.traces > kvstore/commands/sample_trace.jsonl`
writes what `kvstore demo` replays.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from math import log
from random import Random

BLOCK_TOKENS = 512
SEED = 1
REQUESTS = 250
CHAT_SHARE = 0.35
"""Of all conversations."""
ONE_TURN_SHARE = 0.5
"""Of all documents."""
TURNS_MEAN = 5
SYSTEM_PROMPTS = 6
SYSTEM_BLOCKS_MEAN = 3
DOCUMENT_BLOCKS_MIN = 8
DOCUMENT_BLOCKS_MEAN = 24
TURN_BLOCKS_MEAN = 1
PROMPT_BLOCKS_MAX = 200
ARRIVAL_MS_MEAN = 700
PAUSE_MS_MEAN = 30_000
"""How long a user thinks between two turns."""
OUTPUT_TOKENS_MEAN = 250


@dataclass(slots=True)
class Conversation:
    """One user's prompt, as it has grown so far."""

    turns_left: int
    block_ids: list[int] = field(default_factory=list)


class TraceGenerator:
    """A seed, and the requests that come from it."""

    def __init__(self, seed: int) -> None:
        """Draw the system prompts."""
        self._random = Random(seed)
        self._next_id = count()
        self._systems = [self._new_blocks(1, SYSTEM_BLOCKS_MEAN) for _ in range(SYSTEM_PROMPTS)]

    def requests(self, wanted: int) -> Iterator[dict[str, object]]:
        """Yield *wanted* requests in the order of time."""
        waiting: list[tuple[float, int, Conversation]] = []
        arrival_ms, order = 0.0, count()
        for _ in range(wanted):
            if not waiting or arrival_ms <= min(waiting)[0]:
                waiting.append((arrival_ms, next(order), self._new_conversation()))
                arrival_ms += self._exponential(ARRIVAL_MS_MEAN)
            due = min(waiting)
            waiting.remove(due)
            now_ms, _, conversation = due
            yield self._request(now_ms, conversation)
            if conversation.turns_left and len(conversation.block_ids) < PROMPT_BLOCKS_MAX:
                again_ms = now_ms + self._exponential(PAUSE_MS_MEAN)
                waiting.append((again_ms, next(order), conversation))

    def _request(self, now_ms: float, conversation: Conversation) -> dict[str, object]:
        """Return the next turn of a conversation."""
        conversation.block_ids += self._new_blocks(1, TURN_BLOCKS_MEAN)
        conversation.turns_left -= 1
        whole = len(conversation.block_ids) * BLOCK_TOKENS
        return {
            "timestamp": int(now_ms),
            "input_length": whole - self._below(BLOCK_TOKENS),
            "output_length": 1 + int(self._exponential(OUTPUT_TOKENS_MEAN)),
            "hash_ids": list(conversation.block_ids),
        }

    def _new_conversation(self) -> Conversation:
        """Start a chat or a document; the first system prompts are the popular ones."""
        if self._random.random() < CHAT_SHARE:
            return Conversation(1)
        system = self._systems[self._below(1 + self._below(SYSTEM_PROMPTS))]
        document = self._new_blocks(DOCUMENT_BLOCKS_MIN, DOCUMENT_BLOCKS_MEAN)
        if self._random.random() < ONE_TURN_SHARE:
            return Conversation(1, system + document)
        return Conversation(2 + int(self._exponential(TURNS_MEAN)), system + document)

    def _new_blocks(self, at_least: int, mean: int) -> list[int]:
        """Return blocks that nobody has seen, *mean* more than *at_least* on average."""
        return [next(self._next_id) for _ in range(at_least + int(self._exponential(mean)))]

    def _below(self, limit: int) -> int:
        """Return a whole number from 0 to *limit* - 1."""
        return int(self._random.random() * limit)

    def _exponential(self, mean: float) -> float:
        """Return a time or a size; many are small, a few large."""
        return -log(1 - self._random.random()) * mean


def trace_lines(seed: int, requests: int) -> Iterator[str]:
    """Yield the lines of a trace."""
    for request in TraceGenerator(seed).requests(requests):
        yield json.dumps(request) + "\n"


def main() -> None:
    """Write a trace to stdout."""
    parser = argparse.ArgumentParser(prog="python -m tools.traces", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    arguments = parser.parse_args()
    sys.stdout.writelines(trace_lines(arguments.seed, arguments.requests))


if __name__ == "__main__":
    main()
