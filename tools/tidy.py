"""Enforces what ruff cannot: lengths, docstrings, the test of each C file, the words of the table.

Prints one line for each finding, `file:line: what`, and exits with 1 when there is one.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("client", "cluster", "kvstore", "native", "tests", "tools")
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

BANNED_WORDS = {
    "bucket": "slot, slab class",
    "chunk": "extent",
    "shard": "chain",
    "topology": "routing info",
    "vnode": "slot",
}
BANNED = re.compile(rf"(?<![A-Za-z])({'|'.join(BANNED_WORDS)})(?:s|ed)?(?![a-z])", re.IGNORECASE)
# This file names what it bans.
WORDS_EXEMPT = {"tools/tidy.py"}
LEFTOVER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")

TESTED_ELSEWHERE = {
    "native/client/call.c": "tests/native/test_client.c",
    "native/client/connection.c": "tests/native/test_client_retry.c",
    "native/client/connection_message.c": "tests/native/test_client_replies.c",
    "native/client/connection_receive.c": "tests/native/test_client_replies.c",
    "native/client/connection_send.c": "tests/native/test_client_updates.c",
    "native/client/connection_silence.c": "tests/native/test_client_silence.c",
    "native/client/connection_waiting.c": "tests/native/test_client_chains.c",
    "native/client/control.c": "tests/native/test_client.c",
    "native/client/lane.c": "tests/native/test_client_cancel.c",
    "native/client/placing.c": "tests/native/test_client_chains.c",
    "native/client/pool.c": "tests/native/test_client.c",
    "native/client/routing.c": "tests/native/test_client_chains.c",
    "native/drivers/driver_thread.c": "tests/native/test_device.c",
    "native/drivers/uring.c": "tests/native/test_device.c",
    "native/drivers/uring_memory.c": "tests/native/test_device.c",
    "native/embedded/directory.c": "tests/integration/test_lifetime.py",
    "native/embedded/store.c": "tests/integration/test_batches.py",
    "native/embedded/task.c": "tests/integration/test_async.py",
    "native/embedded/upkeep.c": "tests/integration/test_batches.py",
    "native/engine/checkpoint.c": "tests/native/test_engine_crash.c",
    "native/engine/compact.c": "tests/native/test_engine_space.c",
    "native/engine/get_fill.c": "tests/native/test_engine.c",
    "native/engine/journal.c": "tests/native/test_engine_faults.c",
    "native/engine/maintain.c": "tests/native/test_engine_space.c",
    "native/engine/operation.c": "tests/native/test_engine.c",
    "native/engine/operation_get.c": "tests/native/test_engine.c",
    "native/engine/operation_keys.c": "tests/native/test_engine.c",
    "native/engine/operation_set.c": "tests/native/test_engine.c",
    "native/engine/peek.c": "tests/native/test_engine_chain.c",
    "native/engine/recovery.c": "tests/native/test_engine_faults.c",
    "native/engine/recovery_journal.c": "tests/native/test_engine_faults.c",
    "native/engine/recovery_tail.c": "tests/native/test_engine_faults.c",
    "native/engine/set_append.c": "tests/native/test_engine.c",
    "native/engine/set_reserve.c": "tests/native/test_engine_space.c",
    "native/engine/space.c": "tests/native/test_engine_space.c",
    "native/engine/superblock.c": "tests/native/test_engine_faults.c",
    "native/engine/survey.c": "tests/native/test_engine.c",
    "native/engine/tier.c": "tests/native/test_engine.c",
    "native/engine/update.c": "tests/native/test_engine.c",
    "native/engine/victims.c": "tests/native/test_engine_victims.c",
    "native/node/chain.c": "tests/native/test_node_chain.c",
    "native/node/chain_claim.c": "tests/native/test_node_chain_memory.c",
    "native/node/chain_decide.c": "tests/native/test_node_chain_updates.c",
    "native/node/chain_peer.c": "tests/native/test_node_chain_forwards.c",
    "native/node/chain_read.c": "tests/native/test_node_chain_updates.c",
    "native/node/chain_routing.c": "tests/native/test_node_chain_updates.c",
    "native/node/chain_serve.c": "tests/native/test_node_chain_memory.c",
    "native/node/chain_space.c": "tests/native/test_node_chain_evict.c",
    "native/node/chain_update.c": "tests/native/test_node_chain_updates.c",
    "native/node/control.c": "tests/native/test_node.c",
    "native/node/evict_batch.c": "tests/native/test_node_chain_evict.c",
    "native/node/evictor.c": "tests/native/test_node_chain_evict.c",
    "native/node/forwarding.c": "tests/native/test_node_chain_forwards.c",
    "native/node/greeting.c": "tests/native/test_node_hostile.c",
    "native/node/incoming.c": "tests/native/test_node.c",
    "native/node/listen.c": "tests/native/test_node_limits.c",
    "native/node/loop.c": "tests/native/test_node_load.c",
    "native/node/move_batch.c": "tests/native/test_node_mover.c",
    "native/node/mover.c": "tests/native/test_node_mover.c",
    "native/node/moves.c": "tests/native/test_node_mover.c",
    "native/node/outgoing.c": "tests/native/test_node.c",
    "native/node/peer.c": "tests/native/test_node_chain_updates.c",
    "native/node/peer_receive.c": "tests/native/test_node_chain_updates.c",
    "native/node/peer_send.c": "tests/native/test_node_chain_updates.c",
    "native/node/receive.c": "tests/native/test_node_hostile.c",
    "native/node/resync.c": "tests/native/test_node_resync.c",
    "native/node/resync_digest.c": "tests/native/test_node_resync.c",
    "native/node/resync_messages.c": "tests/native/test_node_resync.c",
    "native/node/serving.c": "tests/native/test_node_load.c",
    "native/node/session.c": "tests/native/test_node_limits.c",
    "native/node/space_question.c": "tests/native/test_node_chain_evict.c",
    "native/node/stored.c": "tests/native/test_node_resync.c",
    "native/node/sync_batch.c": "tests/native/test_node_resync.c",
    "native/python/arguments.c": "tests/unit/test_columns.py",
    "native/python/columns.c": "tests/unit/test_columns.py",
    "native/python/results.c": "tests/unit/test_columns.py",
}
"""C files without a test of their name, each with the file that tests it.

client/: a client is tested as a whole, against nodes that misbehave.
drivers/: the parts of a driver are tested through the device port, each driver by the same tests.
embedded/: it is the API, and is tested as the API. engine/: an engine is tested as a whole, by what
it promises. node/: a node is tested as a whole, over sockets. python/: it needs an interpreter.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is out of order."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        """Return the line that editors can jump to."""
        return f"{self.path}:{self.line}: {self.what}"


def sources() -> Iterator[Path]:
    """Yield every source file once; links are followed by their own folder."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            linked = {ROOT / "kvstore" / "client", ROOT / "kvstore" / "cluster"}
            if path.suffix in (".py", ".c", ".h", ".sh") and not linked & set(path.parents):
                yield path


def findings_in(path: str, text: str) -> Iterator[Finding]:
    """Yield what is wrong with one file."""
    lines = text.splitlines()
    if len(lines) > FILE_LINES_MAX:
        yield Finding(path, len(lines), f"{len(lines)} lines, {FILE_LINES_MAX} is the limit")
    yield from leftovers(path, lines)
    if path.endswith(".py"):
        yield from python_findings(path, text)
    if path.endswith((".c", ".h")):
        yield from c_findings(path, lines)


def leftovers(path: str, lines: list[str]) -> Iterator[Finding]:
    """Yield marks of unfinished work, and words that the table replaces."""
    if path in WORDS_EXEMPT:
        return
    for number, line in enumerate(lines, 1):
        if match := LEFTOVER.search(line):
            yield Finding(path, number, f"{match[1]}: finish it, or file an issue")
        if match := BANNED.search(line):
            instead = BANNED_WORDS[match[1].lower()]
            yield Finding(path, number, f"{match[1]!r}: the word here is {instead}")


def python_findings(path: str, text: str) -> Iterator[Finding]:
    """Yield modules without a docstring and functions that are too long."""
    tree = ast.parse(text)
    if text.strip() and ast.get_docstring(tree) is None:
        yield Finding(path, 1, "a module opens with a docstring")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > FUNCTION_LINES_MAX:
                yield Finding(path, node.lineno, too_long(node.name, size))


def c_findings(path: str, lines: list[str]) -> Iterator[Finding]:
    """Yield files that open without a comment and functions that are too long."""
    if path.startswith("native/") and lines and not lines[0].startswith("/*"):
        yield Finding(path, 1, "a file opens with a comment: what it is, guarantees, leaves")
    start = 0
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start:
            size = number - start + 2
            if size > FUNCTION_LINES_MAX:
                yield Finding(path, start - 1, too_long(lines[start - 2].strip(), size))
            start = 0


def too_long(name: str, size: int) -> str:
    """Say that a function is too long."""
    return f"{name}: {size} lines, {FUNCTION_LINES_MAX} is the limit of a function"


def untested(paths: set[str]) -> Iterator[Finding]:
    """Yield C files without a test.

    native/engine/slab_pack.c is tested by test_slab_pack.c, or with its concept by test_slab.c.
    """
    tests = {Path(path).stem for path in paths if path.startswith("tests/native/test_")}
    for path in sorted(paths):
        if not (path.startswith("native/") and path.endswith(".c")):
            continue
        words = Path(path).stem.split("_")
        names = {"test_" + "_".join(words[: i + 1]) for i in range(len(words))}
        if not names & tests and TESTED_ELSEWHERE.get(path) not in paths:
            yield Finding(path, 1, f"no tests/native/test_{Path(path).stem}.c")


def main() -> int:
    """Print every finding; 1 when there is one."""
    paths = {str(path.relative_to(ROOT)): path for path in sources()}
    findings = [
        finding
        for name, path in paths.items()
        for finding in findings_in(name, path.read_text(encoding="utf-8"))
    ]
    findings.extend(untested(set(paths)))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
