"""How long keys waited around an event, as the benchmark counts it."""

from tools.bench.stalls import around, latencies_ms, longest_of_windows, longest_stall_ms


def test_a_stall_lasts_from_one_success_to_the_next() -> None:
    calls = [[(0.0, 0.1), (0.2, 0.3), (0.4, 1.3)], [(0.0, 0.5), (0.6, 0.7), (0.8, 1.4)]]

    assert 1000 == round(longest_stall_ms(calls, 0.35, 1.5))


def test_a_stall_that_was_over_before_does_not_count() -> None:
    calls = [[(0.0, 0.1), (0.2, 1.1), (1.2, 1.3), (1.4, 1.5)]]

    assert 200 == round(longest_stall_ms(calls, 1.2, 1.5))


def test_a_key_that_never_succeeds_again_is_stalled_until_the_end() -> None:
    assert 900 == round(longest_stall_ms([[(0.0, 0.1)]], 0.2, 1.0))


def test_a_key_that_never_succeeded_is_stalled_all_the_time() -> None:
    assert 900 == round(longest_stall_ms([[]], 0.1, 1.0))


def test_latencies_are_those_of_requests_called_in_time() -> None:
    calls = [[(0.0, 0.1), (0.5, 0.7)], [(0.6, 2.0), (1.0, 1.1)]]

    assert [200, 1400] == [round(each) for each in latencies_ms(calls, 0.5, 1.0)]


def test_windows_go_backwards_from_the_event_and_are_whole() -> None:
    calls = [[(0.1, 0.2), (1.1, 1.4), (2.1, 2.3)]]

    assert [200, 300] == [round(each) for each in longest_of_windows(calls, 0.5, 2.5, 1.0)]


def test_a_request_under_way_at_the_event_counts_as_waiting() -> None:
    found = around([[(0.0, 0.1), (0.9, 1.8)]], 0.0, 1.0, 2.0)

    assert 900 == round(float(str(found["longest_ms"])))
    assert 1700 == round(float(str(found["stall_ms"])))
    assert 2 == found["count"]


def test_the_longest_request_before_the_event_was_answered_before_it() -> None:
    found = around([[(0.0, 0.4), (0.5, 0.7), (0.8, 2.0)]], 0.0, 1.0, 2.5)

    assert 400 == round(float(str(found["before_longest_ms"])))
    assert 1200 == round(float(str(found["longest_ms"])))
