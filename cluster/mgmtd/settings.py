"""What an operator decides about a cluster before it is there."""

from dataclasses import dataclass, field

from kvstore.cluster.leases import LeaseTerms
from kvstore.cluster.routing import CHAIN_TARGETS_MAX, SLOTS_MAX, is_power_of_two
from kvstore.errors import InvalidOptionError

SLOTS_DEFAULT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times, and how the first chains are made."""

    terms: LeaseTerms = field(default_factory=LeaseTerms)
    expected_nodes: int = 0
    """Chains are made by themselves once so many storage nodes are there; 0: by an operator."""
    expected_targets: int = 0
    """And once they have brought so many targets; 0: as many as they have."""
    replicas: int = 3
    spares: int = 0
    """Targets that are kept in no chain."""
    slots: int = SLOTS_DEFAULT
    seed: int = 1
    spare_after_ms: int = 600_000
    """How long a target is offline before a spare takes its place; 0: never."""
    copies_max: int = 4
    """Chains that one node takes over from others at the same time."""

    def __post_init__(self) -> None:
        """Refuse what makes no chain."""
        if not 1 <= self.replicas <= CHAIN_TARGETS_MAX:
            raise InvalidOptionError(f"replicas: 1 to {CHAIN_TARGETS_MAX}, not {self.replicas}")
        if not is_power_of_two(self.slots) or self.slots > SLOTS_MAX:
            raise InvalidOptionError(f"slots: a power of two up to {SLOTS_MAX}, not {self.slots}")
        if min(self.expected_nodes, self.expected_targets, self.spares, self.spare_after_ms) < 0:
            raise InvalidOptionError("expected nodes, targets and spares are counts from 0")
        if 0 < self.expected_nodes < self.replicas:
            raise InvalidOptionError(
                f"{self.expected_nodes} nodes make no chain of {self.replicas} replicas: expect"
                " more nodes, or ask for fewer replicas"
            )
        if self.copies_max < 1:
            raise InvalidOptionError("copies_max: at least one chain at a time")
