"""How large the model is made, and which rules are left out of it to see that each is missed."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Size:
    """What there is of everything, and which faults may come."""

    targets: int = 2
    behind: int = 0
    """Of the targets: those that do not serve at the beginning."""
    writes: int = 1
    reads: int = 1
    sends: int = 1
    crashes: int = 0
    lapses: int = 0
    starts: int = 0
    syncs: int = 0
    severs: int = 0
    careful: bool = False

    def constants(self, mutant: str) -> str:
        """Return the CONSTANTS of a configuration of TLC."""
        values = {
            "TargetCount": self.targets,
            "ServingCount": self.targets - self.behind,
            "WriteCount": self.writes,
            "ReadCount": self.reads,
            "SendsMax": self.sends,
            "CrashesMax": self.crashes,
            "LapsesMax": self.lapses,
            "StartsMax": self.starts,
            "SyncsMax": self.syncs,
            "SeversMax": self.severs,
            "CarefulToo": str(self.careful).upper(),
            "Mutant": f'"{mutant}"',
        }
        return "".join(f"    {name} = {value}\n" for name, value in values.items())


@dataclass(frozen=True, slots=True)
class Mutant:
    """One rule that is left out, where that shows soonest, and what it breaks."""

    name: str
    breaks: tuple[str, ...]
    size: Size = field(default_factory=Size)


READS = ("Linearizable",)
LOSES = ("Durable", "Linearizable", "Converged")
TWICE = ("Once",)

CALM = Size(targets=3, writes=2, reads=2, sends=1)
"""Writes and reads of a whole chain, without a fault."""
LOSS = Size(targets=3, writes=1, reads=2, sends=1, crashes=1, careful=True)
"""A target dies: the others go on, and updates that may be refused."""
REPEATS = Size(targets=2, writes=1, reads=1, sends=3, crashes=1)
"""Updates that are sent again, to the same head and to the next."""
LAPSE = Size(targets=2, writes=1, reads=2, sends=1, lapses=1, syncs=1)
"""A node that is cut off from mgmtd is taken out, and comes back."""
RETURN = Size(targets=2, writes=1, reads=2, sends=2, crashes=1, starts=1, syncs=1)
"""A process is killed, starts again, and is brought in line."""
CONNECTIONS = Size(targets=2, writes=2, reads=1, sends=1, severs=1)
"""What was sent by a lost connection arrives late."""
OUTAGE = Size(targets=2, writes=1, reads=2, sends=1, crashes=1, lapses=1, starts=1, syncs=1)
"""All are lost, one starts alone, the other comes back."""

BLIND = Size(targets=2, writes=1, reads=0, sends=1, crashes=1, lapses=1, starts=1, syncs=1)
"""The same without readers: what targets hold tells enough."""

BACK = Size(targets=2, writes=2, reads=0, sends=1, crashes=1, starts=1, syncs=1)
"""A return, without readers."""

LARGE = Size(
    targets=3,
    writes=3,
    reads=4,
    sends=3,
    crashes=2,
    lapses=2,
    starts=2,
    syncs=3,
    severs=2,
    careful=True,
)
"""Too large to go through: for random histories."""

SIZES = {
    "calm": CALM,
    "loss": LOSS,
    "repeats": REPEATS,
    "lapse": LAPSE,
    "return": RETURN,
    "connections": CONNECTIONS,
    "outage": BLIND,
}

MUTANTS = (
    Mutant("dirty_unchecked", READS, Size(reads=2)),
    Mutant("dirty_checked_only_before", READS, Size(reads=2)),
    Mutant("dirty_checked_only_after", READS, Size(reads=2)),
    Mutant("clean_without_a_successor", READS, Size(reads=2, crashes=1)),
    Mutant("service_checked_only_before", READS, OUTAGE),
    Mutant("lease_unchecked_at_nodes", READS, LAPSE),
    Mutant("lease_guard_dropped", READS, LAPSE),
    Mutant("leased_before_it_knows", READS, LAPSE),
    Mutant("second_chain_version_unchecked", LOSES, BLIND),
    Mutant("chain_version_unchecked", LOSES, Size(writes=2, reads=0, lapses=1, syncs=1)),
    Mutant("dedup_dropped", TWICE, Size(reads=0, sends=2)),
    Mutant("forwards_are_not_recorded", TWICE, Size(reads=0, sends=2, crashes=1)),
    Mutant(
        "records_are_not_forgotten",
        TWICE,
        Size(reads=0, sends=2, crashes=1, lapses=1, syncs=1),
    ),
    Mutant(
        "a_new_process_forgets_nothing",
        TWICE,
        Size(targets=1, reads=0, sends=2, crashes=1, starts=1),
    ),
    Mutant("ended_before_it_is_acknowledged", LOSES, Size(reads=1)),
    Mutant("ended_before_it_is_applied", LOSES, Size(reads=1)),
    Mutant("a_new_tail_drops_what_runs", LOSES, LOSS),
    Mutant("a_new_successor_is_not_told", LOSES, LOSS),
    Mutant("late_words_count", LOSES, CONNECTIONS),
    Mutant("attempts_unchecked", LOSES, CONNECTIONS),
    Mutant(
        "another_successor_may_refuse",
        READS,
        Size(targets=3, behind=1, crashes=1, syncs=1, careful=True),
    ),
    Mutant("refusals_are_not_heard", (*LOSES, "Agreement"), LOSS),
    Mutant("what_is_here_is_refused", (*LOSES, "Binding"), LOSS),
    Mutant("synced_without_comparing", LOSES, BACK),
    Mutant("up_to_date_for_any_version", LOSES, Size(behind=1, reads=0, lapses=1, syncs=2)),
    Mutant("what_left_the_chain_overtakes_the_resync", LOSES, BLIND),
    Mutant("a_new_process_is_not_fenced", LOSES, BACK),
    Mutant("claims_are_kept", LOSES, BLIND),
)
