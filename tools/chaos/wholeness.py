"""Whether a cluster is whole: every chain has its targets, all of them serve, and are equal."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvstore.addresses import Address
from kvstore.cluster.mgmtd.client import MgmtdClient
from kvstore.errors import KVStoreError
from tools.chaos.patience import Deadline, slowness

WHOLE_TIMEOUT_S = 90.0
"""After the last fault: a lease, a takeover, and a resync of everything."""
HEAL_TIMEOUT_S = 60.0
"""Of at most some hundred values, 16 a second."""
POLL_S = 0.1
CALL_TIMEOUT_S = 3.0
CHECK_TIMEOUT_S = 120.0
DIFFERENCES_SHOWN = 5


class ClusterError(Exception):
    """The cluster is not what it has to be, although no fault is left."""


def wait_until_whole(mgmtds: Sequence[Address], watch: Callable[[], None]) -> None:
    """Return once the cluster is whole; raises ClusterError when that takes too long."""
    wait_until_nothing_is_missing(lambda: asyncio.run(missing_in(mgmtds)), watch)


def wait_until_theirs_is_whole(url: str, watch: Callable[[], None]) -> None:
    """Wait for a cluster of the operator's, whose URL says how it is reached."""
    wait_until_nothing_is_missing(lambda: missing_at(url), watch)


def wait_until_nothing_is_missing(
    look: Callable[[], Sequence[str]], watch: Callable[[], None]
) -> None:
    """Look until nothing is missing; raises ClusterError when that takes too long."""
    deadline = Deadline(WHOLE_TIMEOUT_S)
    while True:
        watch()
        missing = look()
        if not missing:
            return
        if deadline.over:
            raise ClusterError(f"not whole after {WHOLE_TIMEOUT_S:g} s: {'; '.join(missing)}")
        time.sleep(POLL_S)


def missing_at(url: str) -> list[str]:
    """Return what the command status says is missing."""
    status = asked("status", url)
    return [status] if isinstance(status, str) else missing_of(status)


async def missing_in(mgmtds: Sequence[Address]) -> list[str]:
    """Return what mgmtd says is missing."""
    async with MgmtdClient(mgmtds, timeout_s=CALL_TIMEOUT_S) as client:
        try:
            status = await client.admin("status")
        except KVStoreError as error:
            return [f"mgmtd does not answer: {error}"]
    return missing_of(status)


def missing_of(status: Mapping[str, Any]) -> list[str]:
    """Return what is missing by a status of mgmtd."""
    missing = [str(problem) for problem in status["problems"]]
    if not status["chains"]:
        missing.append("there are no chains")
    for chain in status["chains"]:
        states = {target["target"]: target["state"] for target in chain["targets"]}
        serving = [target for target, state in states.items() if state == "serving"]
        if len(serving) < max(chain["wanted"], len(states)):
            shown = ", ".join(f"target {target} {state}" for target, state in states.items())
            missing.append(f"chain {chain['id']} wants {chain['wanted']} targets, has {shown}")
    return missing


def wait_until_healed(url: str, watch: Callable[[], None]) -> None:
    """Return once every value that is stored is right; raises ClusterError when it takes long."""
    deadline = Deadline(HEAL_TIMEOUT_S)
    while True:
        watch()
        damaged = damaged_values(url)
        if not damaged:
            return
        if deadline.over:
            raise ClusterError(f"not healed after {HEAL_TIMEOUT_S:g} s: {'; '.join(damaged)}")
        time.sleep(POLL_S)


def damaged_values(url: str) -> list[str]:
    """Read every value on every target; return what is wrong with them."""
    found = asked("check", url)
    if isinstance(found, str):
        return [f"the values could not be checked: {found}"]
    bad = found["bad"]
    return [f"{len(bad)} values are damaged: {json.dumps(bad[0])}"] if bad else []


def compare_replicas(url: str) -> list[str]:
    """Return how the targets of chains differ."""
    found = asked("check", "--cluster", url)
    if isinstance(found, str):
        return [f"the replicas could not be compared: {found}"]
    different = [each for chain in found["chains"] for each in chain["different"]]
    if found["ok"]:
        return []
    shown = "; ".join(json.dumps(each) for each in different[:DIFFERENCES_SHOWN])
    return [f"replicas differ in {len(different)} keys: {shown}"]


def asked(*arguments: str) -> Any:
    """Return the JSON that the command answers, or a text that says why there is none."""
    command = [sys.executable, "-P", "-m", "kvstore", *arguments, "--json"]
    timeout_s = CHECK_TIMEOUT_S * slowness()
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout_s:g} s"
    try:
        found = json.loads(ended.stdout)
    except ValueError:
        return ended.stderr.strip() or ended.stdout
    return found if "ok" in found else ended.stdout
