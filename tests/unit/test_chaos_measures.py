"""What the harness of faults measures and records, without a cluster."""

from dataclasses import replace

import pytest

import kvstore
from kvstore import SetStatus
from tools.chaos.attack import DoneFault
from tools.chaos.calls import failed, read_batch_set, read_batch_truth
from tools.chaos.kinds import FaultKind
from tools.chaos.outcome import Outcome, windows_of
from tools.chaos.page import page_of
from tools.chaos.schedule import Fault, Work
from tools.chaos.series import series_of
from tools.chaos.stalls import CALM, Stall, Window, cause_of, stall_rows, stalls_in
from tools.chaos.values import SIZE_MIN, ValueCoder, number_of
from tools.chaos.work import Ask, Asking
from tools.history.check import check
from tools.history.operation import Answer, Kind, Operation

SECOND = 1_000_000
Y, U, F = Answer.YES, Answer.UNKNOWN, Answer.FAILED


def asked(kind: Kind, called_ms: int, ended_ms: int | None, answer: Answer = Y) -> Operation:
    ended = None if ended_ms is None else ended_ms * 1000
    return Operation(1, kind, "key", called_ms, called_ms * 1000, ended, answer)


# Stalls.


def test_a_slow_answer_is_a_stall() -> None:
    history = [asked(Kind.GET, 0, 5), asked(Kind.GET, 10, 110)]

    assert [Stall("key", False, 10_000, 110_000)] == list(stalls_in(history))


def test_a_stall_goes_on_until_something_succeeds() -> None:
    history = [
        asked(Kind.SET, 0, None, U),
        asked(Kind.SET, 100, 101, F),
        asked(Kind.GET, 120, 121),
        asked(Kind.SET, 200, 201),
        asked(Kind.SET, 300, 301),
    ]

    assert [Stall("key", True, 0, 201_000)] == list(stalls_in(history))


def test_a_stall_is_not_the_time_in_which_nobody_asked() -> None:
    late = replace(asked(Kind.SET, 0, None, U), given_up=200_000)
    history = [late, asked(Kind.SET, 30_000, 30_001), asked(Kind.SET, 31_000, 31_100)]

    stalls = [(stall.begun, stall.ended) for stall in stalls_in(history)]

    assert [(0, 200_000), (31_000_000, 31_100_000)] == stalls
    assert [Stall("key", True, 0, 200_000)] == list(stalls_in([late]))


def test_a_stall_belongs_to_the_faults_that_were_there_or_else_to_the_last_one() -> None:
    windows = [Window("kill node", SECOND, 2 * SECOND), Window("cut node", 3 * SECOND, 4 * SECOND)]

    for begun_s, ended_s, cause in (
        (0, 0.5, CALM),
        (0, 1.5, "kill node"),
        (1.5, 3.5, "cut node + kill node"),
        (2.5, 2.9, "kill node"),
        (5, 6, "cut node"),
        (9.5, 10, CALM),
    ):
        stall = Stall("key", True, int(begun_s * SECOND), int(ended_s * SECOND))
        assert cause == cause_of(stall, windows)


def test_a_row_shows_the_longest_stall_of_a_kind() -> None:
    window = Window("kill node", 0, SECOND)
    stalls = [Stall("a", False, 0, 50_000), Stall("b", False, 0, 70_000), Stall("a", True, 0, 1000)]

    killed, calm = stall_rows(stalls, [window])

    assert (1, 2, 70.0, "b", 1.0) == (
        killed.faults,
        killed.keys,
        killed.read_ms,
        killed.read_key,
        killed.write_ms,
    )
    assert (CALM, 0) == (calm.name, calm.keys)


def test_a_series_counts_answers_and_failures() -> None:
    history = [asked(Kind.GET, 0, 5), asked(Kind.SET, 0, 300), asked(Kind.SET, 600, None, U)]

    points = series_of(history, 0, SECOND)

    assert [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0)] == [
        (point.reads, point.writes, point.failures) for point in points
    ]
    assert 300.0 == points[1].write_ms_max


def test_the_page_shows_faults_and_contradictions() -> None:
    history = [
        asked(Kind.SET, 1, 2),
        Operation(7, Kind.GET, "key", None, 5000, 6000, Answer.NO),
    ]
    done = DoneFault(Fault(FaultKind.KILL, "node-2", 1.0, 2.0), SECOND, 3 * SECOND)
    windows = windows_of([done])
    outcome = Outcome(
        seed=3,
        duration_s=5.0,
        worked_s=5.5,
        origin=0,
        faults=(done,),
        verdict=check(history),
        stalls=tuple(stall_rows(stalls_in(history), windows)),
        series=tuple(series_of(history, 0, 5 * SECOND)),
        problems=("node-3 <ended>",),
        replay="do it again",
    )

    page = page_of(outcome)

    assert not outcome.good
    for text in ("FAILED", "kill node-2: 1.00 … 3.00 s", "is lost", "node-3 &lt;ended&gt;"):
        assert text in page


# Values.


@pytest.mark.parametrize("size", [SIZE_MIN, 100, 65536, 1 << 20])
def test_a_value_tells_its_number(size: int) -> None:
    coder, number = ValueCoder(), number_of(3, 17)
    value = coder.value(number, size)

    assert size == len(value)
    assert number == coder.number(value)


@pytest.mark.parametrize("at", [0, 8, 13, 99])
def test_a_wrong_byte_is_noticed(at: int) -> None:
    value = bytearray(ValueCoder().value(number_of(3, 17), 100))
    value[at] ^= 1

    assert ValueCoder().number(bytes(value)) is None


def test_a_cut_value_is_noticed() -> None:
    value = ValueCoder().value(number_of(3, 17), 100)

    assert ValueCoder().number(value[:-1]) is None
    assert ValueCoder().number(b"short") is None


# Work and answers.


def test_a_client_asks_the_same_of_the_same_seed_with_numbers_of_its_own() -> None:
    asks = [Asking(5, 1, Work()).next() for _ in range(2)]
    one, other = Asking(5, 1, Work()), Asking(5, 2, Work())
    numbers = [
        number for asking in (one, other) for _ in range(500) for number in asking.next().numbers
    ]

    assert asks[0] == asks[1]
    assert len(numbers) == len(set(numbers))


def test_a_write_that_raised_may_have_happened() -> None:
    ask = Ask(Kind.SET, ("a",), (number_of(1, 1),), (SIZE_MIN,), True, 0.0)

    assert [U] == list(failed(ask, kvstore.StoreUnavailableError("gone")).answers)
    assert [U] == list(failed(ask, kvstore.KVTimeoutError("late")).answers)
    assert [F] == list(failed(ask, kvstore.NoSpaceError("full")).answers)


def test_a_read_that_raised_says_nothing() -> None:
    ask = Ask(Kind.GET, ("a",), (), (), True, 0.0)

    assert [F] == list(failed(ask, kvstore.StoreUnavailableError("gone")).answers)


def test_a_batch_claims_no_more_than_it_promises() -> None:
    statuses = [SetStatus.OK, SetStatus.EXISTS, SetStatus.UNAVAILABLE, SetStatus.NO_SPACE]

    assert [Y, Answer.NO, U, F] == list(read_batch_set(statuses).answers)
    assert [Y, U] == list(read_batch_truth([True, False]).answers)
