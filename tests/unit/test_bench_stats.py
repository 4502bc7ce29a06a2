"""What the benchmark makes of the figures of its rounds."""

import pytest

from tools.bench.stats import median_ratio, quantile, ratios, rotated, slope


def test_a_quantile_is_one_of_the_values() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]

    assert 1.0 == quantile(values, 0.0)
    assert 3.0 == quantile(values, 0.5)
    assert 5.0 == quantile(values, 0.99)
    assert 5.0 == quantile(values, 1.0)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1)])
def test_there_is_no_quantile_of_nothing_or_beyond_the_ends(
    values: list[float], share: float
) -> None:
    with pytest.raises(ValueError, match=r"no values|share"):
        quantile(values, share)


def test_ratios_compare_within_a_round() -> None:
    assert [2.0, 0.5] == ratios([4.0, 1.0], [2.0, 2.0])


def test_rounds_that_one_contestant_lacks_do_not_count() -> None:
    assert [2.0] == ratios([4.0, 1.0, 1.0], [2.0])
    assert [2.0] == ratios([1.0, 4.0], [0.0, 2.0])


def test_the_median_of_ratios_resists_one_bad_round() -> None:
    assert 2.0 == median_ratio([2.0, 2.0, 2.0], [1.0, 1.0, 100.0])
    assert median_ratio([], [1.0]) is None


def test_a_slope_is_that_of_the_line() -> None:
    assert 96.0 == pytest.approx(slope([(0.0, 5.0), (10.0, 965.0), (20.0, 1925.0)]))


def test_a_slope_takes_two_places() -> None:
    with pytest.raises(ValueError, match="two points"):
        slope([(1.0, 1.0)])
    with pytest.raises(ValueError, match="same x"):
        slope([(1.0, 1.0), (1.0, 2.0)])


def test_each_name_is_first_in_turn() -> None:
    orders = [rotated(["a", "b", "c"], i) for i in range(4)]

    assert ["a", "b", "c", "a"] == [order[0] for order in orders]
    assert all(["a", "b", "c"] == sorted(order) for order in orders)
    assert [] == rotated([], 3)
