"""Plants faults in the protocol and the engine, one at a time: the simulator must notice each.

    python -m simulator.mutants [--seeds N] [--short] [NAME ...]

They are those of tests/simulation/mutants.py, with what belongs to the simulated nodes planted in
this folder's nodes, and faults of durability, which chains without an engine cannot have. The core
is built without the invariants of the replica, so that what is noticed is what clients would see.
One that no seed notices, or whose text is not in the sources any more, is an error.
"""

import argparse
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from simulation.mutants import FLAGS, JOB, MUTANTS, REPLICA, TARGET, Mutant, compiler

from simulator.cluster import Cluster
from simulator.library import BUILT, build
from simulator.plan import is_duel, plan_of

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS = 1000
SEED_WITHIN_S = 300
"""A seed that does not end by then ends its process, which counts as noticed."""
COLLECT_SEEDS = 8
HERE = "tests/simulator/"
TEXTS = {
    "repeated_updates_are_applied_again": (
        "node.c",
        "    if (verdict == KV_CHANNEL_BEGUN) {",
        "    if (verdict <= KV_CHANNEL_RUNNING) {",
    ),
    "forwards_are_not_recorded": (
        "job.c",
        "    if (job->recorded || ",
        "    if (true || job->recorded || ",
    ),
    "records_are_not_forgotten": (
        "node.c",
        "        kv_channels_forget(target->node->channels);\n",
        "        (void)version_before;\n",
    ),
    "a_new_process_forgets_nothing": (
        "node.c",
        "    if (sim_node_objects(world, number) > 0)\n        kv_channels_forget(node->channels);",
        "",
    ),
    "what_is_here_is_refused": (
        "turn.c",
        "        job->refusals[i] = here ? KV_OK : KV_NO_SPACE;",
        "        job->refusals[i] = KV_NO_SPACE;",
    ),
    "what_is_here_may_be_refused_below": ("turn.c", "    job->update.careful &= !here;\n", ""),
    "leases_unchecked": (
        "node.c",
        "    return clock_of(world, node) < node->lease_end;",
        "    return clock_of(world, node) > 0 && node->lease_end > 0;",
    ),
    "dirty_checked_only_before": (
        "read.c",
        "(read->dirty[i] || is_dirty(target, read, i))",
        "read->dirty[i]",
    ),
    "dirty_checked_only_after": (
        "read.c",
        "(read->dirty[i] || is_dirty(target, read, i))",
        "is_dirty(target, read, i)",
    ),
    "synced_before_what_runs_has_ended": (
        "resync.c",
        "kv_replica_settled(target->replica, resync->turns)",
        "kv_replica_settled(target->replica, 0)",
    ),
    "sync_overtakes_updates": (
        "job.c",
        ".hash = job->items[i].key}",
        ".hash = job->items[i].key + (sync ? 1000 : 0)}",
    ),
}
"""By name: what a fault of the nodes of tests/native is in those of this folder."""
HERE_TOO = {
    "a_new_process_forgets_nothing": (
        (
            " ||\n        (view.serves && !took_part && view.chain_version > 1))",
            ")",
        ),
    ),
}
"""What else a fault takes here: a node forgets when it starts, and again when it gets a place."""
GUARDS = (
    Mutant(
        "chain_version_checked_only_when_it_comes",
        REPLICA,
        "!view->head &&\n               update->chain_version == view->chain_version;",
        "!view->head;",
        (
            (
                "    if (source == KV_UPDATE_CLIENT && chain_version != 0 &&",
                "    if (chain_version != 0 &&",
            ),
            (
                "    kv_status status = kv_replica_admits(replica, update->source,"
                " update->chain_version);",
                "    kv_status status = KV_OK;",
            ),
        ),
    ),
    Mutant(
        "leases_unchecked_by_reads",
        HERE + "read.c",
        "    if (!sim_leased(world, target->node) || !view->serves ||",
        "    if (!view->serves ||",
        ((" || !sim_leased(world, target->node))\n        status", ")\n        status"),),
    ),
)
DURABILITY = (
    Mutant(
        "sync_is_not_flushed",
        "native/engine/journal.c",
        "engine->options.durability == KV_DURABILITY_SYNC",
        "engine->options.durability == 99",
    ),
)


def mutants() -> list[Mutant]:
    """Return all, with their texts in the sources of this simulator."""
    found: list[Mutant] = []
    for mutant in MUTANTS:
        if mutant.path in (JOB, TARGET):
            file, text, instead = TEXTS[mutant.name]
            also = HERE_TOO.get(mutant.name, ())
            found.append(replace(mutant, path=HERE + file, text=text, instead=instead, also=also))
        else:
            found.append(mutant)
    return [*found, *GUARDS, *DURABILITY]


def sources() -> list[str]:
    """Return what the library is made of, beside the core."""
    return [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob(HERE + "*.c"))]


def compile_one(tree: Path, path: str, target: Path) -> None:
    """Compile one source of a tree."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler(), *FLAGS, "-DSIM_UNCHECKED", "-fPIC", "-fvisibility=hidden"]
    subprocess.run([*command, "-c", "-o", str(target), path], cwd=tree, check=True)


def link(objects: list[Path], target: Path) -> Path:
    """Make a library with the core that is built; what is among the objects comes before it."""
    core = str(BUILT.with_name("libkvcore.a"))
    command = [compiler(), "-shared", "-pthread", "-o", str(target), *map(str, objects), core]
    subprocess.run(command, check=True)
    return target


def plant(tree: Path, mutant: Mutant, target: Path) -> None:
    """Compile the source that a fault is in, with it; the tree is as it was after that."""
    path = tree / mutant.path
    sound = source = path.read_text(encoding="utf-8")
    for text, instead in ((mutant.text, mutant.instead), *mutant.also):
        if source.count(text) != 1:
            sys.exit(f"{mutant.name}: {mutant.path} has its text {source.count(text)} times")
        source = source.replace(text, instead)
    path.write_text(source, encoding="utf-8")
    compile_one(tree, mutant.path, target)
    path.write_text(sound, encoding="utf-8")


def order(seeds: int, *, short: bool) -> list[int]:
    """Return the seeds to try, those that cost least first."""
    duels = [seed for seed in range(1, seeds + 1) if is_duel(seed)]
    return duels if short else duels + [seed for seed in range(1, seeds + 1) if not is_duel(seed)]


def hunt(seeds: int, *, short: bool) -> int:
    """Live seed after seed, in a process of its own, until one notices a fault."""
    gc.disable()
    for count, seed in enumerate(order(seeds, short=short), 1):
        print(f"seed {seed} begins, number {count}", flush=True)
        signal.alarm(SEED_WITHIN_S)
        result = Cluster(plan_of(seed)).run()
        if result.failure:
            print(f"seed {seed} at {result.time_s:.6f} s: {result.failure}", flush=True)
            return 1
        if count % COLLECT_SEEDS == 0:
            gc.collect()
    return 0


def noticed(library: Path, seeds: int, *, short: bool) -> str:
    """Return how a fault was noticed, "" where it was not."""
    environment = {**os.environ, "SIMULATOR": str(library), "PYTHONPATH": str(ROOT / "tests")}
    code = f"import sys; from simulator.mutants import hunt; sys.exit(hunt({seeds}, short={short}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    begun = re.findall(r"^seed (\d+) begins, number (\d+)", done.stdout, re.MULTILINE)
    said = re.findall(r"^seed \d+ at.*", done.stdout, re.MULTILINE)
    said = said or re.findall(r"Assertion.*", done.stdout)
    if not begun:
        sys.exit(f"it does not begin: {done.stdout}")
    what = said[-1] if said else f"status {done.returncode}"
    return f"{what} [seed {begun[-1][0]}, number {begun[-1][1]}]"


def main() -> int:
    """Try every mutant, or those that are named; 1 when one was not noticed."""
    options = argparse.ArgumentParser(prog="python -m simulator.mutants", description=__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--seeds", type=int, default=SEEDS)
    options.add_argument("--short", action="store_true", help="only the seeds that cost little")
    options.add_argument("names", nargs="*")
    arguments = options.parse_args()
    chosen = [one for one in mutants() if not arguments.names or one.name in arguments.names]
    if unknown := set(arguments.names) - {one.name for one in chosen}:
        options.error(f"there is no {', '.join(sorted(unknown))}")
    survivors = 0
    build()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        tree = folder / "tree"
        for part in ("native", "tests/native", HERE):
            shutil.copytree(ROOT / part, tree / part)
        objects = {path: folder / "sound" / f"{path}.o" for path in sources()}
        for path, target in objects.items():
            compile_one(ROOT, path, target)
        for mutant in chosen:
            changed = folder / "mutant.o"
            plant(tree, mutant, changed)
            linked = [at for path, at in objects.items() if path != mutant.path] + [changed]
            begun_s = time.monotonic()
            library = link(linked, folder / f"{mutant.name}.so")
            said = noticed(library, arguments.seeds, short=arguments.short)
            survivors += not said
            spent_s = time.monotonic() - begun_s
            print(f"{mutant.name}: {said or 'NOT NOTICED'} ({spent_s:.0f} s)", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
