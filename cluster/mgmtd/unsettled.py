"""Which chains are not as they should be, and since when targets are offline. Pure.

It follows what is in force: with thousands of chains, the few that need anything are known by name.
"""

from collections.abc import Iterable, Set

from kvstore.cluster.ids import ChainId, TargetId
from kvstore.cluster.leases import NS_A_MS
from kvstore.cluster.mgmtd.basis import Basis
from kvstore.cluster.mgmtd.draft import Proposal
from kvstore.cluster.routing import Chain
from kvstore.cluster.states import PublicState


class Unsettled:
    """The chains that have a target that does not serve, or too few."""

    def __init__(self, basis: Basis, now_ns: int) -> None:
        """Look at all chains once."""
        self._basis = basis
        self._chains: set[ChainId] = set()
        self._offline_since: dict[TargetId, int] = {}
        self._look(basis.routing.chains.values(), now_ns)

    @property
    def chains(self) -> Set[ChainId]:
        """The chains."""
        return self._chains

    def follow(self, proposal: Proposal, now_ns: int) -> None:
        """Take what is in force from now on."""
        before, self._basis = self._basis, proposal.after
        if proposal.delta is None:
            return
        for id in proposal.delta.chains.keys() | proposal.delta.removed_chains:
            self._chains.discard(id)
            chain = before.routing.chains.get(id)
            for place in chain.targets if chain else ():
                if place.target not in proposal.after.chain_of:
                    self._offline_since.pop(place.target, None)
        self._look(proposal.delta.chains.values(), now_ns)

    def overdue(self, after_ms: int, now_ns: int) -> list[TargetId]:
        """Return the targets that have been offline for so long; none for 0."""
        if not after_ms:
            return []
        since = self._offline_since.items()
        return [id for id, since_ns in since if now_ns - since_ns >= after_ms * NS_A_MS]

    def wanted(self) -> dict[ChainId, int]:
        """Return how many targets each of the chains is to have."""
        replicas = self._basis.ledger.replicas
        wanted = dict.fromkeys(self._chains, max(replicas.values(), default=0))
        if len(replicas) > 1:
            for id, table in self._basis.routing.slot_tables.items():
                for chain in self._chains & set(table.chains):
                    wanted[chain] = replicas[id]
        return wanted

    def _look(self, chains: Iterable[Chain], now_ns: int) -> None:
        wanted = max(self._basis.ledger.replicas.values(), default=0)
        for chain in chains:
            settled = len(chain.targets) >= wanted
            for place in chain.targets:
                settled = settled and place.state is PublicState.SERVING
                if place.state is PublicState.OFFLINE:
                    self._offline_since.setdefault(place.target, now_ns)
                else:
                    self._offline_since.pop(place.target, None)
            if not settled:
                self._chains.add(chain.id)
