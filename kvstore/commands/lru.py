"""What a cache of blocks that forgets the least recently used would have hit, for comparison."""

from collections import OrderedDict
from collections.abc import Sequence


class LRU:
    """Block ids by how recently a request used them."""

    def __init__(self, capacity: int | None) -> None:
        """Keep at most *capacity* blocks; None: all."""
        self._capacity = capacity
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def serve(self, block_ids: Sequence[int]) -> int:
        """Return how many leading blocks are stored, then store all, the last one most recent."""
        hits = 0
        for block_id in block_ids:
            if block_id not in self._blocks:
                break
            hits += 1
        for block_id in block_ids:
            self._blocks[block_id] = None
            self._blocks.move_to_end(block_id)
        while self._capacity is not None and len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)
        return hits
