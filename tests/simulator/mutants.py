"""Plants faults in the protocol and the engine, one at a time: the simulator must notice each.

    python -m simulator.mutants [--seeds N] [NAME ...]

They are those of tests/simulation/mutants.py, with what belongs to the simulated nodes planted in
this folder's nodes, and faults of durability, which chains without an engine cannot have. The core
is built without the invariants of the replica, so that what is noticed is what clients would see.
One that no seed notices, or whose text is not in the sources any more, is an error.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from simulation.mutants import FLAGS, JOB, MUTANTS, TARGET, Mutant, compiler

from simulator.library import BUILT, build

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS = 1000
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
            found.append(replace(mutant, path=HERE + file, text=text, instead=instead))
        else:
            found.append(mutant)
    return [*found, *DURABILITY]


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


def plant(tree: Path, mutant: Mutant) -> None:
    """Put a fault into a tree."""
    path = tree / mutant.path
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.text) != 1:
        sys.exit(f"{mutant.name}: {mutant.path} has its text {text.count(mutant.text)} times")
    path.write_text(text.replace(mutant.text, mutant.instead), encoding="utf-8")


def noticed(library: Path, seeds: int) -> str:
    """Return how a fault was noticed, "" where it was not."""
    environment = {key: value for key, value in os.environ.items() if key != "SEED"}
    environment["SIMULATOR"] = str(library)
    environment["PYTHONPATH"] = str(ROOT / "tests")
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "--seeds", str(seeds)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    said = re.findall(r"^seed \d+ (?:at|aborted).*", done.stdout, re.MULTILINE)
    return said[-1] if said else f"status {done.returncode}"


def main() -> int:
    """Try every mutant, or those that are named; 1 when one was not noticed."""
    options = argparse.ArgumentParser(prog="python -m simulator.mutants", description=__doc__)
    options.add_argument("--seeds", type=int, default=SEEDS)
    options.add_argument("names", nargs="*")
    arguments = options.parse_args()
    survivors = 0
    build()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        objects = {path: folder / "sound" / f"{path}.o" for path in sources()}
        for path, target in objects.items():
            compile_one(ROOT, path, target)
        for mutant in mutants():
            if arguments.names and mutant.name not in arguments.names:
                continue
            tree = folder / "tree"
            shutil.copytree(ROOT / "native", tree / "native")
            shutil.copytree(ROOT / HERE, tree / HERE)
            plant(tree, mutant)
            changed = folder / "mutant.o"
            compile_one(tree, mutant.path, changed)
            shutil.rmtree(tree)
            linked = [at for path, at in objects.items() if path != mutant.path] + [changed]
            begun_s = time.monotonic()
            said = noticed(link(linked, folder / f"{mutant.name}.so"), arguments.seeds)
            survivors += not said
            spent_s = time.monotonic() - begun_s
            print(f"{mutant.name}: {said or 'NOT NOTICED'} ({spent_s:.0f} s)", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
