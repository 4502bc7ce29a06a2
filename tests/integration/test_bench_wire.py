"""The ideal TCP peer as the benchmark runs it: two programs, driven by commands."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.bench.environment import Environment
from tools.bench.failures import ContestantError
from tools.bench.process import Process, process
from tools.bench.servers import Server, ideal

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler"
)
SIZE, BATCH_COUNT, COUNT = 4096, 16, 1024


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    found = Environment(tmp_path_factory.mktemp("bench"), lambda text: None)
    found.install(["ideal"])
    assert found.problem("ideal") is None
    return found


@pytest.fixture
def server(environment: Environment) -> Iterator[Server]:
    with ideal(environment, SIZE * COUNT) as started:
        yield started


@pytest.fixture
def client(environment: Environment, server: Server, tmp_path: Path) -> Iterator[Process]:
    with process(environment.command("ideal"), tmp_path / "log") as started:
        started.call("open", directory=str(tmp_path), options={"port": server.port})
        started.call("prepare", size=SIZE, batch_count=BATCH_COUNT, count=COUNT)
        yield started


def test_values_come_back_as_they_were_set(client: Process) -> None:
    assert SIZE * COUNT == client.call("set", limit_s=60.0)["amount"]

    for arguments in ({"seed": 1}, {"seed": 2, "depth": 8}):
        answer = client.call("get", limit_s=0.02, **arguments)
        assert 0 == answer["amount"] % (SIZE * BATCH_COUNT)
        assert 0 < answer["p50_ms"] <= answer["p99_ms"]
    client.call("verify", seed=1)


def test_a_single_get_moves_one_value(client: Process) -> None:
    client.call("set", limit_s=60.0)

    answer = client.call("get_single", seed=1, limit_s=0.0)

    assert SIZE == answer["amount"]


def test_a_client_that_asks_for_what_is_not_there_ends_with_a_reason(client: Process) -> None:
    with pytest.raises(ContestantError, match="no keys"):
        client.call("get", seed=1, limit_s=0.0)
