"""A row's verdict follows from its figures, and rounds survive a contestant's failure."""

import json

from tools.bench.failures import ContestantError
from tools.bench.result import CostGoal, LimitGoal, RatioGoal, Row, Sample, Verdict
from tools.bench.rounds import Outcome, interleave


def samples(*values: float) -> list[Sample]:
    return [Sample(value) for value in values]


def ratio_row(
    ours: list[Sample], theirs: list[Sample], problems: dict[str, str] | None = None
) -> Row:
    figures = {"kvstore": ours, "peer": theirs}
    return Row("r", "a measure", "GB/s", figures, RatioGoal(0.9, "peer"), problems or {})


def test_a_ratio_goal_is_met_by_the_median_of_rounds() -> None:
    assert Verdict.PASS is ratio_row(samples(1, 1, 1), samples(1, 1, 9)).verdict
    assert Verdict.FAIL is ratio_row(samples(8, 8, 8), samples(9, 9, 9)).verdict


def test_a_limit_is_met_by_the_median() -> None:
    def verdict(*values: float) -> Verdict:
        return Row("r", "m", "s", {"kvstore": samples(*values)}, LimitGoal(2.0, "s")).verdict

    assert Verdict.PASS is verdict(1.0, 2.0, 9.0)
    assert Verdict.FAIL is verdict(1.0, 2.1, 9.0)


def test_a_cost_is_met_by_a_small_enough_ratio() -> None:
    def verdict(*ours: float) -> Verdict:
        figures = {"kvstore": samples(*ours), "peer": samples(2, 2, 2)}
        return Row("r", "m", "s/GB", figures, CostGoal(1.25, "peer")).verdict

    assert Verdict.PASS is verdict(1, 2.5, 9)
    assert Verdict.FAIL is verdict(1, 2.6, 9)
    assert Verdict.UNKNOWN is Row("r", "m", "s", {"kvstore": samples(1)}, CostGoal(1, "x")).verdict


def test_a_missing_peer_is_no_failure_of_ours() -> None:
    row = ratio_row(samples(1), [], problems={"peer": "not available: install it"})

    assert Verdict.UNKNOWN is row.verdict


def test_our_own_failure_fails_the_row() -> None:
    assert Verdict.FAIL is ratio_row([], samples(1), problems={"kvstore": "wrong bytes"}).verdict


def test_a_row_without_a_goal_has_no_verdict() -> None:
    assert Verdict.NONE is Row("r", "m", "GB/s", {}).verdict


def test_json_holds_medians_and_every_round() -> None:
    row = Row("r", "m", "GB/s", {"kvstore": [Sample(1.0, 0.5), Sample(3.0, 0.7)]})
    found = json.loads(json.dumps(row.to_json()))["contestants"]["kvstore"]

    assert 2.0 == found["median"]
    assert [1.0, 3.0] == found["rounds"]
    assert 0.6 == found["cpu_s_per_gb"]
    assert found["p50_ms"] is None


def test_json_holds_the_ratios_of_a_cost() -> None:
    figures = {"kvstore": samples(3, 4), "peer": samples(2, 2)}
    found = Row("r", "m", "s/GB", figures, CostGoal(2, "peer")).to_json()

    assert [1.5, 2.0] == found["ratios"]


def test_round_zero_warms_up_and_the_order_rotates() -> None:
    played: list[str] = []
    outcome = Outcome()

    def turn(name: str, round_index: int) -> Sample:
        played.append(f"{name}{round_index}")
        return Sample(float(round_index))

    interleave({"a": lambda i: turn("a", i), "b": lambda i: turn("b", i)}, 2, outcome)

    assert ["a0", "b0", "b1", "a1", "a2", "b2"] == played
    assert {"a": samples(1, 2), "b": samples(1, 2)} == outcome.samples


def test_a_contestant_that_fails_is_out_and_the_others_go_on() -> None:
    def fails(round_index: int) -> Sample:
        if round_index == 2:
            raise ContestantError("no space")
        return Sample(1.0)

    outcome = Outcome()
    interleave({"bad": fails, "good": lambda _: Sample(1.0)}, 3, outcome)

    assert {"bad": "no space"} == outcome.problems
    assert 1 == len(outcome.samples["bad"])
    assert 3 == len(outcome.samples["good"])
