"""The limit of the device: fio with io_uring, O_DIRECT, registered files and buffers.

Guarantees: the file is preallocated and overwritten before it is measured, as the extents of a
store in use are; each run moves the bytes that the store moves, in accesses of the same size.
"""

import json
import os
import subprocess
from pathlib import Path

from tools.bench.failures import ContestantError
from tools.bench.pages import WINDOW_SIZE
from tools.bench.result import Sample

TIMEOUT_S = 120
WRITE_SIZE = 4 << 20
GB = 1e9


class Fio:
    """A file of *size* bytes that fio reads and writes at random places."""

    def __init__(self, directory: Path, size: int) -> None:
        """Write the file."""
        self._path = directory / "fio.values"
        self._size = size
        data = os.urandom(WINDOW_SIZE)
        with self._path.open("wb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            for at in range(0, size, WRITE_SIZE):
                file.write(data[at % WINDOW_SIZE :][:WRITE_SIZE])
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def batched(self, operation: str, value_size: int, depth: int) -> Sample:
        """Submit *depth* accesses at once and wait for them all, as a blocking batch does."""
        batch = [f"--iodepth_batch_submit={depth}", f"--iodepth_batch_complete_min={depth}"]
        return self._run(operation, value_size, depth, batch)

    def continuous(self, operation: str, value_size: int, depth: int) -> Sample:
        """Keep *depth* accesses in flight all the time."""
        return self._run(operation, value_size, depth, [])

    def flushed(self, operation: str, value_size: int, depth: int) -> Sample:
        """Keep *depth* accesses in flight, with a flush after each *depth* of them."""
        return self._run(operation, value_size, depth, [f"--fdatasync={depth}"])

    def _run(self, operation: str, value_size: int, depth: int, more: list[str]) -> Sample:
        command = ["fio", "--name=limit", f"--filename={self._path}", f"--size={self._size}"]
        command += [f"--io_size={self._size}", f"--rw={operation}", f"--bs={value_size}"]
        command += ["--ioengine=io_uring", "--direct=1", "--registerfiles=1", "--fixedbufs=1"]
        command += [f"--iodepth={depth}", "--thread", "--norandommap", "--randrepeat=0"]
        command += ["--group_reporting", "--output-format=json", *more]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=TIMEOUT_S, check=True, text=True
            )
        except subprocess.TimeoutExpired as error:
            raise ContestantError(f"no end within {TIMEOUT_S} s") from error
        except subprocess.CalledProcessError as error:
            raise ContestantError(f"fio: {error.stderr.strip() or error.stdout.strip()}") from error
        return parse(done.stdout, "read" if operation.endswith("read") else "write")


def parse(output: str, direction: str) -> Sample:
    """Return what fio reports, in GB/s."""
    # Warnings may come before the object.
    job = json.loads(output[output.index("{") :])["jobs"][0]
    found = job[direction]
    seconds = found["runtime"] / 1e3
    if seconds <= 0:
        raise ContestantError("the run was too short for fio's clock")
    gigabytes = found["io_bytes"] / GB
    percentiles = found["clat_ns"].get("percentile", {})
    return Sample(
        value=gigabytes / seconds,
        cpu_s_per_gb=(job["usr_cpu"] + job["sys_cpu"]) / 100 * seconds / gigabytes,
        p50_ms=percentiles.get("50.000000", 0) / 1e6,
        p99_ms=percentiles.get("99.000000", 0) / 1e6,
    )
