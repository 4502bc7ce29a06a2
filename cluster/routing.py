"""Routing info: one version of all nodes, targets, chains and slots, and how it travels.

slot ──slots──► chain ──chains──► targets, head first ──targets──► node ──nodes──► address

What a node answers to KV_CONTROL_ROUTING is this, as a msgpack map:

    format_version   1; any other is refused
    routing_version  grows with each change; a client goes by the highest it has seen
    nodes            [[node, "name:port"], ...]
    targets          [[target, node], ...]
    chains           [[chain, chain version, [target, ...]], ...]
    slots            [[chain, count], ...]: runs in the order of slots; the counts add up to a
                     power of two

Guarantees: whatever unpacks is whole: every slot has a chain, every chain its targets, every target
its node. Leaves to others: where it comes from, and which of two is newer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import msgpack

from kvstore.addresses import Address
from kvstore.errors import InvalidOptionError, KVStoreError

FORMAT_VERSION = 1
SLOT_COUNT_MAX = 65536
"""As the core limits it (KV_SLOT_COUNT_MAX)."""
SLOT_COUNT = 1024
"""Slots of a cluster that nobody chose a count for."""
NODES_MAX = 4096
TARGETS_MAX = 65536
ID_MAX = (1 << 32) - 1
"""Of nodes, targets and chains; 0 names none."""
PACKED_SIZE_MAX = 4 << 20


class RoutingError(KVStoreError):
    """Routing info is malformed or contradicts itself; the message says where."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Ordered targets that hold the same data, the head first."""

    chain: int
    chain_version: int
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RoutingInfo:
    """All of it; made whole or not at all."""

    routing_version: int
    nodes: dict[int, Address]
    targets: dict[int, int]
    """The node of each target."""
    chains: dict[int, Chain]
    slots: tuple[int, ...]
    """The chain of each slot."""

    def __post_init__(self) -> None:
        """Raise RoutingError unless everything refers to something."""
        check_slot_count(len(self.slots))
        if not 0 < self.routing_version < 1 << 64:
            raise RoutingError(f"routing_version: {self.routing_version!r} is not 1 or more")
        for what, ids in (("node", self.nodes), ("target", self.targets), ("chain", self.chains)):
            for number in ids:
                check_id(what, number)
        for target, node in self.targets.items():
            if node not in self.nodes:
                raise RoutingError(f"target {target}: there is no node {node}")
        for chain in self.chains.values():
            for target in chain.targets:
                if target not in self.targets:
                    raise RoutingError(f"chain {chain.chain}: there is no target {target}")
            if not chain.targets:
                raise RoutingError(f"chain {chain.chain}: it has no target")
        for number in set(self.slots):
            if number not in self.chains:
                raise RoutingError(f"slots: there is no chain {number}")

    def targets_of(self, node: int) -> tuple[int, ...]:
        """Return the targets of a node."""
        return tuple(target for target, of in self.targets.items() if of == node)

    def head_of(self, slot: int) -> int:
        """Return the target that a client asks for the keys of a slot."""
        return self.chains[self.slots[slot]].targets[0]

    def pack(self) -> bytes:
        """Return the bytes that unpack() reads."""
        packed: bytes = msgpack.packb(
            {
                "format_version": FORMAT_VERSION,
                "routing_version": self.routing_version,
                "nodes": [[node, str(address)] for node, address in self.nodes.items()],
                "targets": [[target, node] for target, node in self.targets.items()],
                "chains": [
                    [chain.chain, chain.chain_version, list(chain.targets)]
                    for chain in self.chains.values()
                ],
                "slots": [[chain, len(list(run))] for chain, run in groupby(self.slots)],
            }
        )
        assert len(packed) <= PACKED_SIZE_MAX
        return packed


def one_target_each(
    routing_version: int, nodes: dict[int, Address], targets: dict[int, int], slots: Sequence[int]
) -> RoutingInfo:
    """Return routing info whose chains have one target, and its number; *slots* name targets."""
    chains = {target: Chain(target, 1, (target,)) for target in targets}
    return RoutingInfo(routing_version, nodes, targets, chains, tuple(slots))


def even_slots(targets: Sequence[int], slot_count: int = SLOT_COUNT) -> tuple[int, ...]:
    """Return a target for each slot: runs whose lengths differ by one at most."""
    assert 0 < len(targets) <= slot_count
    return tuple(targets[slot * len(targets) // slot_count] for slot in range(slot_count))


def check_slot_count(count: int) -> None:
    """Raise unless there may be so many slots."""
    if not 0 < count <= SLOT_COUNT_MAX or count & (count - 1):
        raise RoutingError(
            f"the slot count is a power of two up to {SLOT_COUNT_MAX}, such as {SLOT_COUNT}; "
            f"{count} is none"
        )


def check_id(what: str, number: int) -> None:
    """Raise unless *number* may name something."""
    if not 0 < number <= ID_MAX:
        raise RoutingError(f"{what} {number!r}: ids go from 1 to {ID_MAX}")


# Unpacking, from whoever answers at an address.


def unpack(packed: bytes) -> RoutingInfo:
    """Return the routing info of what pack() returned; raises RoutingError for anything else."""
    if len(packed) > PACKED_SIZE_MAX:
        raise RoutingError(f"{len(packed)} bytes of routing info, {PACKED_SIZE_MAX} is the limit")
    try:
        fields: object = msgpack.unpackb(packed)
    except (ValueError, msgpack.UnpackException) as error:
        raise RoutingError(f"no routing info: {error}") from error
    if not isinstance(fields, dict):
        raise RoutingError("no routing info: not a map")
    if fields.get("format_version") != FORMAT_VERSION:
        raise RoutingError(
            f"routing info of format version {fields.get('format_version')!r}; "
            f"this release reads version {FORMAT_VERSION}"
        )
    version = number_of("routing_version", fields.get("routing_version"))
    nodes = rows_of(fields, "nodes", 2, NODES_MAX)
    targets = rows_of(fields, "targets", 2, TARGETS_MAX)
    chains = [chain_of(row) for row in rows_of(fields, "chains", 3, TARGETS_MAX)]
    slots = [ids_of("slots", row) for row in rows_of(fields, "slots", 2, SLOT_COUNT_MAX)]
    if sum(count for _, count in slots) > SLOT_COUNT_MAX:
        raise RoutingError(f"slots: more than {SLOT_COUNT_MAX}")
    return RoutingInfo(
        version,
        {number_of("nodes", node): address_of(address) for node, address in nodes},
        dict(ids_of("targets", row) for row in targets),
        {chain.chain: chain for chain in chains},
        tuple(chain for chain, count in slots for _ in range(count)),
    )


def rows_of(fields: dict[object, object], name: str, width: int, most: int) -> list[list[object]]:
    """Return a field that is a list of rows."""
    rows = fields.get(name)
    if not isinstance(rows, list) or not all(isinstance(r, list) and len(r) == width for r in rows):
        raise RoutingError(f"{name}: expected rows of {width}")
    if len(rows) > most:
        raise RoutingError(f"{name}: {len(rows)} rows, {most} is the limit")
    return rows


def number_of(name: str, value: object) -> int:
    """Return a whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RoutingError(f"{name}: expected a number, got {value!r}")
    return value


def ids_of(name: str, row: list[object]) -> tuple[int, int]:
    """Return a row of two numbers."""
    return number_of(name, row[0]), number_of(name, row[1])


def address_of(value: object) -> Address:
    """Return the address of a node."""
    if not isinstance(value, str):
        raise RoutingError(f"nodes: expected an address, got {value!r}")
    try:
        return Address.parse(value)
    except InvalidOptionError as error:
        raise RoutingError(f"nodes: {error}") from error


def chain_of(row: list[object]) -> Chain:
    """Return a chain."""
    targets = row[2]
    if not isinstance(targets, list):
        raise RoutingError(f"chains: expected targets, got {targets!r}")
    return Chain(
        number_of("chains", row[0]),
        number_of("chains", row[1]),
        tuple(number_of("chains", target) for target in targets),
    )
