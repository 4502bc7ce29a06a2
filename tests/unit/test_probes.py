"""What the probes of the demo count as a stall."""

from kvstore.commands.probes import Calls

MS = 1_000_000


def test_the_longest_call_under_way_between_two_moments() -> None:
    calls = Calls([(0, 5 * MS), (10 * MS, 40 * MS), (100 * MS, 7 * MS)])

    assert 40.0 == calls.longest_ms(20 * MS, 30 * MS)
    assert 7.0 == calls.longest_ms(60 * MS, 200 * MS)
    assert 5.0 == calls.longest_ms(0, 10 * MS)
    assert 0.0 == calls.longest_ms(60 * MS, 90 * MS)
