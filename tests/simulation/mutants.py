"""Plants faults in the chain protocol, one at a time, and shows that the simulation notices each.

    mutants.py [NAME ...]

A mutant is a copy of the sources with one text replaced. It is built without the invariants of the
replica, so that what is noticed is what clients would see, and runs until a seed fails. One that no
seed of `SEEDS` notices, or whose text is not in the sources any more, is an error.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS = 6000
REPLICA = "native/protocol/replica.c"
CONFIGURE = "native/protocol/replica_configure.c"
KEYS = "native/protocol/replica_keys.c"
CHANNEL = "native/protocol/channel.c"
JOB = "tests/native/chain_job.h"
TARGET = "tests/native/chain_target.h"
SOURCES = (
    "tests/simulation/simulate_chains.c",
    REPLICA,
    CONFIGURE,
    KEYS,
    CHANNEL,
    "native/protocol/channel_invariants.c",
    "native/bytes/hash.c",
)
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-Inative", "-O1", "-g", "-UNDEBUG", "-DCHAIN_UNCHECKED")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: a text of a file, and what it becomes; other texts of the file with it."""

    name: str
    path: str
    text: str
    instead: str
    also: tuple[tuple[str, str], ...] = ()


MUTANTS = (
    Mutant(
        "chain_version_unchecked",
        REPLICA,
        "!view->head &&\n               update->chain_version == view->chain_version;",
        "!view->head &&\n               update->chain_version <= view->chain_version;",
    ),
    Mutant(
        "dirty_unchecked",
        REPLICA,
        "    return holder && holder->state == KV_UPDATE_RUNNING &&",
        "    return false && holder && holder->state == KV_UPDATE_RUNNING &&",
    ),
    Mutant(
        "clean_without_a_successor",
        REPLICA,
        "(replica->view.has_successor || holder->forwarded)",
        "(replica->view.has_successor)",
    ),
    Mutant(
        "late_words_count",
        REPLICA,
        "!update->acknowledged && update->forward_version == forward_version &&\n"
        "           update->forward_attempt == attempt;",
        "!update->acknowledged && (forward_version | attempt);",
    ),
    Mutant(
        "words_of_older_attempts_count",
        REPLICA,
        "           update->forward_attempt == attempt;",
        "           update->forward_attempt >= attempt;",
    ),
    Mutant(
        "attempts_unchecked",
        REPLICA,
        "    if (update->attempt < replica->attempt_heard)\n        return false;\n",
        "",
    ),
    Mutant(
        "a_new_tail_drops_what_runs",
        CONFIGURE,
        "        kv_replica_apply(replica, update);\n    kv_replica_forward(replica, update);\n",
        "    {\n        kv_replica_give_up(replica, update);\n        return;\n    }\n"
        "    kv_replica_forward(replica, update);\n",
    ),
    Mutant(
        "a_new_successor_is_not_told",
        CONFIGURE,
        "    kv_replica_forward(replica, update);\n    if (update->acknowledged)\n",
        "    kv_replica_unwant(update, KV_EFFECT_FORWARD);\n"
        "    update->acknowledged = true;\n    if (update->acknowledged)\n",
    ),
    Mutant(
        "applied_ones_are_not_forwarded_again",
        CONFIGURE,
        "    kv_replica_forward(replica, update);\n    if (update->acknowledged)\n",
        "    if (!update->applied)\n        kv_replica_forward(replica, update);\n"
        "    else\n        update->acknowledged = true;\n    if (update->acknowledged)\n",
    ),
    Mutant(
        "order_ignored",
        KEYS,
        "        update->blockers++;\n",
        "        update->blockers += 0;\n",
    ),
    Mutant(
        "repeated_updates_are_applied_again",
        TARGET,
        "    if (verdict == KV_CHANNEL_KNOWN) {",
        "    if (verdict == KV_CHANNEL_KNOWN || verdict == KV_CHANNEL_RUNNING) {\n"
        "        job = job_make(world, target, KV_UPDATE_CLIENT, request);\n"
        "        chain_plan(world, chain_delay(world), EVENT_CAME, target->id, job->id, 0);\n"
        "    } else if (verdict == KV_CHANNEL_KNOWN) {",
    ),
    Mutant(
        "forwards_are_not_recorded",
        JOB,
        "    if (job->update.source == KV_UPDATE_PEER && job->forward == KV_FORWARD_UPDATE &&",
        "    if (false && job->forward == KV_FORWARD_UPDATE &&",
    ),
    Mutant(
        "records_are_not_forgotten",
        TARGET,
        "        kv_channels_forget(target->channels);\n        target->uptodate = 0;",
        "        target->uptodate = 0;",
    ),
    Mutant(
        "a_new_process_forgets_nothing",
        TARGET,
        "    if (target->run > 1)\n        kv_channels_forget(target->channels);",
        "    if (target->run > 1000000)\n        kv_channels_forget(target->channels);",
    ),
    Mutant(
        "ended_before_it_is_applied",
        REPLICA,
        "    if (update->applying)\n        return;\n",
        "    if (update->applying && update->acknowledged && !update->effects) {\n"
        "        update->applying = false;\n"
        "        kv_replica_end(replica, update, KV_OK);\n"
        "    }\n"
        "    if (update->applying || update->state == KV_UPDATE_ENDED)\n        return;\n",
    ),
    Mutant(
        "ended_before_it_is_acknowledged",
        REPLICA,
        "        if (update->acknowledged)\n            kv_replica_end",
        "        if (update->acknowledged || update->source != KV_UPDATE_SYNC)\n"
        "            kv_replica_end",
    ),
    Mutant(
        "sequences_are_used_twice",
        REPLICA,
        "    replica->sequence += update->count;",
        "    replica->sequence += update->count - (update->count > 2);",
    ),
    Mutant(
        "what_left_the_chain_overtakes_the_resync",
        REPLICA,
        "view->syncs && replica->lost_count > 0 ? KV_BUSY : KV_OK",
        "view->syncs && replica->lost_count > 1000000 ? KV_BUSY : KV_OK",
    ),
    Mutant(
        "a_careful_update_is_applied_whatever_the_successor_says",
        REPLICA,
        "            update->statuses[i] = statuses[i];",
        "            update->statuses[i] = KV_OK;",
    ),
    Mutant(
        "careful_until_the_end",
        REPLICA,
        "    update->careful = false;\n    update->applying = true;",
        "    update->applying = true;",
    ),
    Mutant(
        "what_is_here_is_refused",
        JOB,
        "            job->statuses[i] = KV_OK;\n",
        "",
    ),
    Mutant(
        "what_is_here_may_be_refused_below",
        JOB,
        "            job->update.careful = false;\n",
        "",
    ),
    Mutant(
        "leases_unchecked",
        JOB,
        "    return world->now < target->lease_end;",
        "    return world->now < FOREVER && target->up;",
    ),
    Mutant(
        "dirty_checked_only_before",
        TARGET,
        "    else if (dirty)",
        "    else if (dirty && event->kind == EVENT_BEFORE)",
    ),
    Mutant(
        "dirty_checked_only_after",
        TARGET,
        "    else if (dirty)",
        "    else if (dirty && event->kind == EVENT_AFTER)",
    ),
    Mutant(
        "synced_before_what_runs_has_ended",
        TARGET,
        "        !kv_replica_settled(target->replica, resync->turns))",
        "        !kv_replica_settled(target->replica, 0))",
    ),
    Mutant(
        "another_successor_may_refuse",
        CONFIGURE,
        "!(view->has_successor && view->successor == update->successor))",
        "!view->has_successor)",
    ),
    Mutant(
        "records_are_older_than_forwards",
        CHANNEL,
        "    return update->forwarded ? KV_CHANNEL_BEGUN : KV_CHANNEL_KNOWN;",
        "    return KV_CHANNEL_KNOWN;",
    ),
    Mutant(
        "sync_overtakes_updates",
        TARGET,
        "    chain_job *job = job_make(world, target, KV_UPDATE_SYNC, &nobody);\n",
        "    chain_job *job = job_make(world, target, KV_UPDATE_SYNC, &nobody);\n\n"
        '    job->keys[0].hash = 1000;\n    job->keys[0].key = (const uint8_t *)"sync";\n',
    ),
)


def compiler() -> str:
    """Return the C compiler that there is."""
    found = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not found:
        sys.exit("no C compiler: set CC")
    return found


def build(mutant: Mutant | None, folder: Path) -> Path:
    """Build the simulation with one fault, or with none."""
    tree = folder / (mutant.name if mutant else "sound")
    shutil.copytree(ROOT / "native", tree / "native")
    for name in ("native", "simulation"):
        shutil.copytree(ROOT / "tests" / name, tree / "tests" / name)
    if mutant:
        path = tree / mutant.path
        source = path.read_text(encoding="utf-8")
        for text, instead in ((mutant.text, mutant.instead), *mutant.also):
            if source.count(text) != 1:
                sys.exit(f"{mutant.name}: {mutant.path} has its text {source.count(text)} times")
            source = source.replace(text, instead)
        path.write_text(source, encoding="utf-8")
    program = tree / "simulate_chains"
    command = [compiler(), *FLAGS, "-o", str(program), *SOURCES]
    subprocess.run(command, cwd=tree, check=True)
    return program


def noticed(program: Path) -> str:
    """Return how a fault was noticed: the last line that was said; empty: it was not."""
    environment = {key: value for key, value in os.environ.items() if key not in ("SEED", "TALK")}
    done = subprocess.run(
        [str(program), "--seeds", str(SEEDS)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    said = [line for line in done.stdout.splitlines() if re.search(r"^seed \d+ at|Assert", line)]
    return said[-1] if said else f"status {done.returncode}"


def main() -> int:
    """Try every mutant, or those that are named; 1 when one was not noticed."""
    chosen = sys.argv[1:]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        if said := noticed(build(None, folder)):
            print(f"without a fault: {said}")
            return 1
        for mutant in MUTANTS:
            if chosen and mutant.name not in chosen:
                continue
            said = noticed(build(mutant, folder))
            survivors += not said
            print(f"{mutant.name}: {said or 'NOT NOTICED'}", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
