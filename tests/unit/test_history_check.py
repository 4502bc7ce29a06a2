"""The checker of histories: against all orders tried, and by what it must find."""

import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tools.history.check import check
from tools.history.operation import Answer, Kind, Operation
from tools.history.plant import FAULTS, right_history, wrong_history
from tools.history.register import contradiction_in
from tools.history.timeline import draw

Y, N, U, F, W = Answer.YES, Answer.NO, Answer.UNKNOWN, Answer.FAILED, Answer.WRONG


def operation(
    kind: str, value: int | None, called: int, ended: int | None, answer: Answer | None = None
) -> Operation:
    if answer is None:
        answer = U if ended is None else Y
    return Operation(called % 7, Kind(kind), "key", value, called, ended, answer)


def fits(*operations: Operation) -> bool:
    found = contradiction_in(operations) is None
    assert found == fits_by_trying(operations)
    return found


def fits_by_trying(operations: Sequence[Operation]) -> bool:
    """Whether some order of some of the operations explains every answer: tries all."""
    asked = [each for each in operations if each.answer is not F]
    certain = [each for each in asked if each.ended is not None]
    unknown = [each for each in asked if each.ended is None and each.kind.writing]
    for count in range(len(unknown) + 1):
        for effective in itertools.combinations(unknown, count):
            if leads_to_end(frozenset([*certain, *effective]), None, set()):
                return True
    return False


def leads_to_end(left: frozenset[Operation], state: int | None, seen: set[object]) -> bool:
    if not left:
        return True
    if (left, state) in seen:
        return False
    seen.add((left, state))
    first_end = min((each.ended for each in left if each.ended is not None), default=1 << 60)
    for each in left:
        possible = each.called <= first_end and explains(each, state)
        if possible and leads_to_end(left - {each}, after(each, state), seen):
            return True
    return False


def explains(each: Operation, state: int | None) -> bool:
    there = state is not None
    if each.answer is U or each.kind is Kind.SET:
        return True
    if each.kind is Kind.GET:
        return each.answer is not W and each.value == state
    return (each.answer is Y) == (there if each.kind is not Kind.ADD else not there)


def after(each: Operation, state: int | None) -> int | None:
    if each.kind is Kind.SET or (each.kind is Kind.ADD and state is None):
        return each.value
    return None if each.kind is Kind.DELETE else state


def test_an_empty_history_fits() -> None:
    assert fits()


def test_a_read_during_a_set_may_find_either() -> None:
    for value, answer in ((None, N), (1, Y)):
        assert fits(operation("set", 1, 0, 10), operation("get", value, 5, 6, answer))


def test_a_read_after_a_set_finds_it() -> None:
    assert not fits(operation("set", 1, 0, 10), operation("get", None, 11, 12, N))
    assert not fits(operation("set", 1, 0, 10), operation("exists", None, 11, 12, N))


def test_a_read_never_goes_back() -> None:
    sets = [operation("set", 1, 0, 5), operation("set", 2, 6, 30)]

    assert fits(*sets, operation("get", 2, 20, 21))
    assert not fits(*sets, operation("get", 2, 10, 11), operation("get", 1, 20, 21))


def test_sets_in_flight_take_effect_in_any_order() -> None:
    sets = [operation("set", 1, 0, 10), operation("set", 2, 1, 9), operation("set", 3, 2, 8)]

    for value in (1, 2, 3):
        assert fits(*sets, operation("get", value, 11, 12))


def test_an_unknown_set_may_happen_late_or_never_but_once() -> None:
    late = [operation("set", 1, 0, None), operation("set", 2, 5, 6), operation("get", 2, 7, 8)]

    assert fits(*late)
    assert fits(*late, operation("get", 1, 9, 10))
    again = [operation("get", 1, 9, 10), operation("set", 3, 11, 12), operation("get", 3, 13, 14)]
    assert not fits(*late, *again, operation("get", 1, 15, 16))


def test_an_unknown_delete_and_an_unknown_add_work_together() -> None:
    unknown = [operation("delete", None, 2, None), operation("add", 2, 3, None)]

    assert fits(operation("set", 1, 0, 1), *unknown, operation("get", 2, 5, 6))
    assert not fits(operation("set", 1, 0, 1), unknown[1], operation("get", 2, 5, 6))


def test_only_one_add_succeeds() -> None:
    adds = [operation("add", 1, 0, 10), operation("add", 2, 0, 10)]

    assert not fits(*adds)
    assert fits(*adds, operation("delete", None, 0, 10))
    assert fits(adds[0], replace(adds[1], answer=N))


def test_only_one_delete_finds_a_key() -> None:
    deletes = [operation("delete", None, 2, 10), operation("delete", None, 3, 10)]

    assert not fits(operation("set", 1, 0, 1), *deletes)
    assert fits(operation("set", 1, 0, 1), deletes[0], replace(deletes[1], answer=N))


def test_what_failed_has_no_effect() -> None:
    failed = operation("set", 1, 0, 5, F)

    assert fits(failed, operation("get", None, 6, 7, N))
    assert not fits(failed, operation("get", 1, 6, 7))


def test_wrong_bytes_never_fit() -> None:
    verdict = check([operation("set", 1, 0, 5), operation("get", None, 6, 7, W)])

    assert "wrong bytes" == verdict.violations[0].what


@pytest.mark.parametrize("block", range(8))
def test_the_search_agrees_with_trying_all_orders(block: int) -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(block * 150, block * 150 + 150):
        draw_random = random.Random(seed)
        history = right_history(seed, draw_random.randrange(3, 11), keys=1, clients=5)
        if draw_random.random() < 0.7:
            history = [disturbed(each, history, draw_random) for each in history]

        verdicts[fits(*history)] += 1

    assert min(verdicts.values()) > 20


def disturbed(each: Operation, history: list[Operation], source: random.Random) -> Operation:
    """Return an operation whose answer may be another one."""
    if source.random() > 0.3 or each.ended is None or each.kind is Kind.SET:
        return each
    if each.kind is not Kind.GET:
        return replace(each, answer=Y if each.answer is N else N)
    values = [other.value for other in history if other.kind in (Kind.SET, Kind.ADD)]
    value = source.choice([*values, None])
    return replace(each, value=value, answer=N if value is None else Y)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_planted_fault_is_found(fault: str) -> None:
    for seed in range(10):
        assert check(wrong_history(fault, seed, 400)).violations, (fault, seed)


def test_a_contradiction_is_shown_by_the_few_operations_that_make_it() -> None:
    noise = [replace(each, key="other") for each in right_history(1, 200, keys=1)]
    around = [operation("set", 10 + i, 100 + 3 * i, 101 + 3 * i) for i in range(20)]
    wrong = [operation("set", 1, 1, 2), operation("set", 2, 3, 4), operation("get", 1, 5, 6)]

    (violation,) = check([*noise, *wrong, *around]).violations

    assert ("key", tuple(wrong), 23) == (violation.key, violation.core, violation.count)
    assert 5 == len(draw(violation).splitlines())


def test_a_write_that_the_last_read_does_not_show_is_called_lost() -> None:
    history = [operation("set", 1, 0, 1), operation("set", 2, 2, 3), operation("get", 1, 9, 10)]

    (violation,) = check(history).violations

    assert (
        "an acknowledged write is lost: after `set 2` the last read shows value 1" == violation.what
    )


def test_a_hundred_thousand_operations_are_checked_in_seconds() -> None:
    history = right_history(7, 100_000, keys=150, clients=12)
    start = time.process_time()

    verdict = check(history)

    assert verdict.good
    assert time.process_time() - start < 10
