"""Which damaged values a node asks others for, and what it does with what it gets."""

import asyncio

from unit.chained_nodes import routing, state

from kvstore.cluster.ids import TargetId
from kvstore.cluster.routing import RoutingInfo
from kvstore.errors import StoreClosedError
from kvstore.native.listing import StoredObject
from kvstore.node.config import LogLevel, LogStyle
from kvstore.node.healing import VALUES_A_LOOK_MAX, Healer, Source, source_of
from kvstore.node.log import make_log
from kvstore.types import ChainState

ONE = TargetId(1)
CHAIN = routing(3, c1="v7 2S 1S 3S 4Y")


class Node:
    """A node with damaged values in target 1."""

    def __init__(self, count: int) -> None:
        self.left = [StoredObject(b"%d" % i, 2, 9, 1, 0, pinned=False) for i in range(count)]
        self.repaired: list[tuple[int, bytes, bytes]] = []

    def chain_states(self) -> list[ChainState]:
        return [state(1, damaged=len(self.left)), state(11)]

    def damaged(self, target: int) -> list[StoredObject]:
        assert target == ONE
        return list(self.left)

    def repair(self, target: int, stored_key: bytes, value: bytes | bytearray) -> bool:
        self.repaired.append((target, stored_key, bytes(value)))
        self.left = [object for object in self.left if object.stored_key != stored_key]
        return True


class Copies:
    """What the other targets hold."""

    def __init__(self, value: bytes | None = b"ok", error: Exception | None = None) -> None:
        self.asked: list[tuple[Source, bytes]] = []
        self._value, self._error = value, error

    def fetch(self, source: Source, object: StoredObject) -> bytearray | None:
        self.asked.append((source, object.stored_key))
        if self._error is not None:
            raise self._error
        return None if self._value is None else bytearray(self._value)


def healer_of(node: Node, copies: Copies, info: RoutingInfo = CHAIN) -> Healer:
    log = make_log(LogStyle.JSON, LogLevel.ERROR)
    return Healer(node, lambda: info, copies.fetch, log)


async def test_a_damaged_value_is_replaced_by_what_another_target_serves() -> None:
    node, copies = Node(2), Copies()

    await healer_of(node, copies).look()

    expected = Source(7, ("n2:7400", "n3:7400"), ((0, 2), (1, 3)))
    assert [(expected, b"0"), (expected, b"1")] == copies.asked
    assert [(1, b"0", b"ok"), (1, b"1", b"ok")] == node.repaired


async def test_a_lone_copy_stays_as_it_is() -> None:
    node, copies = Node(1), Copies()

    await healer_of(node, copies, routing(3, c1="v7 1S 2Y 3O")).look()

    assert [] == copies.asked
    assert [] == node.repaired


async def test_what_nobody_has_is_asked_for_again() -> None:
    node, copies = Node(1), Copies(value=None)
    healer = healer_of(node, copies)

    await healer.look()
    await healer.look()

    assert 2 == len(copies.asked)
    assert [] == node.repaired


async def test_one_look_heals_only_so_many() -> None:
    node = Node(VALUES_A_LOOK_MAX + 3)
    healer = healer_of(node, Copies())

    await healer.look()
    first = len(node.repaired)
    await healer.look()

    assert (VALUES_A_LOOK_MAX, VALUES_A_LOOK_MAX + 3) == (first, len(node.repaired))


async def test_an_error_waits_for_the_next_look() -> None:
    node, copies = Node(3), Copies(error=StoreClosedError("closing"))

    await healer_of(node, copies).look()

    assert 1 == len(copies.asked)


async def test_when_the_node_ends_what_is_left_stays() -> None:
    node, copies = Node(3), Copies()
    healer = healer_of(node, copies)
    task = asyncio.create_task(healer.run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    healer.heal(ONE)

    assert [] == node.repaired


def test_targets_of_no_chain_have_nobody_to_ask() -> None:
    assert source_of(routing(1), ONE) is None
