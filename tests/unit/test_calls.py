"""Calls in progress keep a store from being freed."""

import threading

import pytest

from kvstore.errors import ForkedError, StoreClosedError
from kvstore.native.calls import Calls


def test_refused_calls_do_not_enter() -> None:
    calls = Calls("/d")
    with calls:
        pass

    calls.refuse()

    with pytest.raises(StoreClosedError, match="the store in /d is closed"), calls:
        pytest.fail("entered")
    with pytest.raises(StoreClosedError):
        calls.check()
    calls.wait()


def test_wait_returns_when_the_last_call_left() -> None:
    calls, entered, leave, order = Calls("/d"), threading.Event(), threading.Event(), []

    def call() -> None:
        with calls:
            entered.set()
            leave.wait()
            order.append("left")

    caller = threading.Thread(target=call)
    caller.start()
    entered.wait()
    calls.refuse()

    def wait() -> None:
        calls.wait()
        order.append("waited")

    waiter = threading.Thread(target=wait)
    waiter.start()
    leave.set()
    waiter.join()
    caller.join()

    assert ["left", "waited"] == order


def test_a_forked_child_is_told_what_to_do() -> None:
    calls = Calls("/d")

    calls.forked = True

    with pytest.raises(ForkedError, match="open the store again in the child"), calls:
        pytest.fail("entered")
