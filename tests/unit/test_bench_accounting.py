"""What is read of other processes: CPU time, memory, connections."""

import os
from pathlib import Path

import pytest

from tools.bench.accounting import connection_count, cpu_s, living, resident_size

HEADING = "  sl  local_address rem_address   st tx_queue rx_queue\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for pid, thread, nanoseconds in ((7, 7, 1_500_000_000), (7, 8, 250_000_000), (9, 9, 10**9)):
        task = tmp_path / str(pid) / "task" / str(thread)
        task.mkdir(parents=True)
        (task / "schedstat").write_text(f"{nanoseconds} 5 6\n")
    return tmp_path


def test_every_thread_of_every_process_counts(proc: Path) -> None:
    assert 1.75 == pytest.approx(cpu_s([7], proc))
    assert 2.75 == pytest.approx(cpu_s([7, 9], proc))


def test_a_process_that_is_gone_counts_for_nothing(proc: Path) -> None:
    assert 0.0 == cpu_s([8], proc)
    assert 0 == resident_size(8, proc)
    assert not living(8, proc)


def test_resident_memory_is_in_bytes(proc: Path) -> None:
    (proc / "7" / "status").write_text("Name:\tnode\nVmHWM:\t 9 kB\nVmRSS:\t  2048 kB\n")

    assert 2 << 20 == resident_size(7, proc)


def test_connections_of_a_port_are_those_established_at_its_end(proc: Path) -> None:
    (proc / "net").mkdir()
    lines = [
        "0: 0100007F:1F90 00000000:0000 0A 0:0 0\n",  # listens
        "1: 0100007F:1F90 0100007F:C001 01 0:0 0\n",
        "2: 0100007F:C001 0100007F:1F90 01 0:0 0\n",  # the other end
        "3: 0100007F:1F90 0100007F:C002 06 0:0 0\n",  # closed
    ]
    (proc / "net" / "tcp").write_text(HEADING + "".join(lines))

    assert 1 == connection_count(0x1F90, proc)
    assert 0 == connection_count(80, proc)


def test_a_process_that_nobody_has_waited_for_is_not_living(proc: Path) -> None:
    (proc / "7" / "stat").write_text("7 (a (strange) name) Z 1 7 7\n")

    assert not living(7, proc)
    assert living(os.getpid())
