"""Schedules: as written, as drawn, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from tools.chaos.attack import steps_of
from tools.chaos.drawing import POWERS, draw_schedule, drawable, same_place
from tools.chaos.kinds import DRAWN, TRAITS, FaultKind
from tools.chaos.run import prefixed
from tools.chaos.schedule import (
    ClusterShape,
    Fault,
    Schedule,
    ScheduleError,
    Work,
    read_schedule,
    write_schedule,
)

KILL = Fault(FaultKind.KILL, "node-1", 5.0, 3.0)


def drawn(seed: int, *, links: bool = True) -> Schedule:
    return draw_schedule(seed, 120.0, {}, kinds=DRAWN, links=links, disks=links)


def read(tmp_path: Path, text: str) -> Schedule:
    path = tmp_path / "schedule.toml"
    path.write_text(text)
    return read_schedule(path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    command = Fault(FaultKind.COMMAND, 'rack "4"', 1.0, 2.0, begin="echo 'a\\b'", end="true")
    shape = ClusterShape(url="kv://10.0.0.1:7400/chaos", clocks=False)
    schedule = Schedule(7, 60.0, shape, Work(keys=5), (command,))
    path = tmp_path / "schedule.toml"

    write_schedule(path, schedule)

    assert schedule == read_schedule(path)


@pytest.mark.parametrize("seed", range(30))
def test_a_seed_always_draws_the_same_schedule_that_makes_sense(seed: int, tmp_path: Path) -> None:
    schedule = drawn(seed)
    path = tmp_path / "schedule.toml"
    write_schedule(path, schedule)

    assert schedule == drawn(seed) == read_schedule(path)
    assert schedule.faults


def test_each_run_on_a_cluster_of_the_operators_has_keys_of_its_own() -> None:
    schedule = Schedule(7, 60.0, ClusterShape(url="kv://10.0.0.1:7300"))

    prefixes = {prefixed(schedule).work.prefix for _ in range(2)}

    assert 2 == len(prefixes - {""})
    assert drawn(1) == prefixed(drawn(1))


def test_every_kind_is_drawn_by_some_seed() -> None:
    kinds = {fault.kind for seed in range(60) for fault in drawn(seed).faults}

    assert set(DRAWN) == kinds


def test_without_links_their_faults_are_left_out() -> None:
    kinds = {fault.kind for seed in range(60) for fault in drawn(seed, links=False).faults}

    assert {kind for kind in DRAWN if not TRAITS[kind].links and not TRAITS[kind].root} == kinds


def test_no_member_has_two_faults_at_once() -> None:
    for seed in range(60):
        faults = drawn(seed).faults
        for index, fault in enumerate(faults):
            for other in faults[:index]:
                apart = fault.at_s > other.at_s + other.for_s
                assert apart or fault.on != other.on or fault.on == "cluster"


def test_what_loses_power_has_a_disk_and_has_promised_to_survive_it() -> None:
    for seed in range(60):
        schedule = drawn(seed)
        if any(fault.kind in POWERS for fault in schedule.faults):
            assert schedule.cluster.disk_mib
            assert "sync" == schedule.cluster.durability


def test_a_fault_of_all_of_a_role_is_alone_with_them_but_not_with_others() -> None:
    outage = Fault(FaultKind.OUTAGE, "cluster", 5.0, 3.0)

    assert same_place(outage, KILL)
    assert same_place(outage, replace(outage, kind=FaultKind.BLACKOUT))
    assert not same_place(outage, replace(KILL, on="mgmtd-1"))
    assert not same_place(outage, replace(outage, kind=FaultKind.NO_MGMTD))
    assert same_place(replace(KILL, kind=FaultKind.FLIP), replace(KILL, on="mgmtd-1"))


def test_a_kind_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="earthquake"):
        drawable(["kill", "earthquake"])


def test_of_two_steps_at_once_the_undoing_comes_first() -> None:
    steps = steps_of([KILL, replace(KILL, at_s=8.0)])

    assert [(0, False), (0, True), (1, False), (1, True)] == [
        (step.index, step.undoing) for step in steps
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("duration_s = 0", "not within a day"),
        ("duration_s = 9\nspeed = 1", "speed: no such key"),
        ("duration_s = 9\n[cluster]\nreplicas = 4", "no chain of 4 replicas"),
        ("duration_s = 9\n[cluster]\nnodes = 'x'", r"\[cluster\] nodes: expected int"),
        ("duration_s = 9\n[cluster]\nsanitize = 'msan'", "asan and tsan"),
        ("duration_s = 9\n[work]\nkey = 3", r"\[work\] key: no such key"),
        ("duration_s = 9\n[[faults]]\nkind = 'quake'\non = 'a'\nat_s = 1\nfor_s = 1", "quake"),
        ("duration_s = 9\n[[faults]]\nkind = 'kill'\non = 'a'\nat_s = 8\nfor_s = 2", "after the"),
        ("duration_s = 9\n[[faults]]\nkind = 'part'\non = 'a'\nat_s = 1\nfor_s = 1", "of a pair"),
        (
            "duration_s = 9\n[[faults]]\nkind = 'command'\non = 'a'\nat_s = 1\nfor_s = 1",
            "for commands",
        ),
        (
            "duration_s = 9\n[cluster]\nurl = 'kv://a:1'\n"
            "[[faults]]\nkind = 'kill'\non = 'a'\nat_s = 1\nfor_s = 1",
            "commands only",
        ),
        ("duration_s =", "schedule.toml"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=said):
        read(tmp_path, text)
