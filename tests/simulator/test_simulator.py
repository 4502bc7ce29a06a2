"""The simulator itself: it finds nothing in the code as it is, does the same again, and finds what
is planted.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.cluster.leases import LeaseTerms
from simulator.cluster import Cluster, Result
from simulator.library import build
from simulator.nodes import Core
from simulator.plan import Fault, Kind, Plan, plan_of

TESTS = Path(__file__).resolve().parent.parent
SEED = 102
SECOND = 1_000_000_000


@pytest.fixture(scope="session")
def live() -> Callable[[Plan], Result]:
    """Simulate one cluster, with the library built."""
    build()

    def run(plan: Plan) -> Result:
        return Cluster(plan).run()

    return run


def short(seed: int) -> Plan:
    """Return a seed's world with less to do."""
    return replace(plan_of(seed), work_s=1.0, operations=300)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_keeps_every_promise(live: Callable[[Plan], Result], seed: int) -> None:
    result = live(plan_of(seed))

    assert result.failure == ""
    assert result.counts["operations"] == plan_of(seed).operations


def test_the_same_seed_leaves_the_same_trace(live: Callable[[Plan], Result]) -> None:
    traces = [replayed(SEED, hash_seed) for hash_seed in ("1", "2")]

    assert traces[0] == traces[1]
    assert f"trace {live(plan_of(SEED)).trace:016x}" in traces[0]


def test_the_trace_tells_seeds_and_faults_apart(live: Callable[[Plan], Result]) -> None:
    plans = [short(1), short(2), short(1).with_faults(())]

    assert len({live(plan).trace for plan in plans}) == len(plans)


def test_a_node_that_outlives_its_lease_is_found(
    live: Callable[[Plan], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Fault(0, 0.3, Kind.MGMTD_LINK, node=0, other=0, lasts_s=1.0, amount=0)
    terms = LeaseTerms(heartbeat_ms=80, lease_ms=320, drift_ms_max=8)
    plan = replace(short(SEED), terms=terms).with_faults((cut,))
    set_lease = Core.set_lease

    honest = live(plan)
    monkeypatch.setattr(Core, "set_lease", lambda core, end_ns: set_lease(core, end_ns + SECOND))
    late = live(plan)

    assert honest.failure == ""
    assert "(P4)" in late.failure


def replayed(seed: int, hash_seed: str) -> str:
    """Return what a process of its own says of a seed."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(TESTS)}
    environment.pop("SEED", None)
    command = [sys.executable, "-m", "simulator", "--seed", str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout
