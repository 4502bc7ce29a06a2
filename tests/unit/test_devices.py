"""When a target is left out of its chain for a device that does not answer, and when it is back."""

from unit.chained_nodes import routing, state

from kvstore.cluster.ids import TargetId
from kvstore.cluster.mgmtd.wire import ERROR_SIZE_MAX
from kvstore.node.devices import (
    NO_ROOM_MS,
    SLOW_MS,
    STUCK_MS,
    WELL_S,
    Devices,
    others_serving,
    remark_on,
)
from kvstore.types import ChainState

CHAIN = routing(3, c1="v1 1S 2S 3Y")


def stuck(target: int) -> ChainState:
    return state(target, io_oldest_ms=STUCK_MS, io_silent_ms=STUCK_MS)


def with_one_left_out() -> Devices:
    devices = Devices()
    devices.look([stuck(1)], CHAIN, 100.0)
    assert {1} == devices.left_out
    return devices


def test_a_device_that_is_merely_slow_leaves_its_target_in() -> None:
    devices = Devices()

    devices.look([state(1, io_oldest_ms=60_000, io_silent_ms=STUCK_MS - 1)], CHAIN, 100.0)

    assert not devices.left_out


def test_only_the_target_of_the_device_that_does_not_answer_is_left_out() -> None:
    devices = Devices()

    devices.look([stuck(2), state(11)], CHAIN, 100.0)

    assert {2} == devices.left_out


def test_the_last_copy_is_never_left_out() -> None:
    devices = Devices()

    for text in ("v1 1S", "v1 1S 2Y", "v1 1S 2O", "v1 1L 2L"):
        devices.look([stuck(1)], routing(3, c1=text), 100.0)
    devices.look([stuck(1)], routing(3), 100.0)

    assert not devices.left_out


def test_it_comes_back_when_it_has_been_well_for_a_while() -> None:
    devices = with_one_left_out()

    devices.look([state(1)], CHAIN, 100.0 + WELL_S - 0.1)
    early = devices.left_out
    devices.look([state(1)], CHAIN, 100.0 + WELL_S)

    assert {1} == early
    assert not devices.left_out


def test_it_stays_out_while_its_device_is_slow() -> None:
    devices = with_one_left_out()

    devices.look([state(1, io_oldest_ms=SLOW_MS)], CHAIN, 100.0 + WELL_S)
    devices.look([state(1)], CHAIN, 100.0 + 2 * WELL_S - 0.1)

    assert {1} == devices.left_out


def test_it_comes_back_at_once_when_no_other_serves_any_more() -> None:
    devices = with_one_left_out()

    devices.look([stuck(1)], routing(4, c1="v3 2L 1O 3O"), 100.1)

    assert not devices.left_out


def test_who_else_serves() -> None:
    assert (TargetId(2),) == others_serving(CHAIN, TargetId(1))
    assert (1, 2) == others_serving(CHAIN, TargetId(3))
    assert () == others_serving(CHAIN, TargetId(9))


def test_what_operators_hear() -> None:
    assert "" == remark_on(state(1, io_oldest_ms=SLOW_MS - 1))
    assert "" == remark_on(state(1, resync_vain_ms=NO_ROOM_MS - 1))
    too_small = remark_on(state(1, resync_vain_ms=NO_ROOM_MS))
    assert too_small.startswith("its successor has had no room for 5 s")
    assert len(too_small) <= ERROR_SIZE_MAX
    assert "its device is slow, 2 damaged values" == remark_on(
        state(1, io_oldest_ms=SLOW_MS, damaged=2)
    )
