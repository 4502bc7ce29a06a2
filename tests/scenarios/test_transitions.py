"""Every row of the transition table, as transcripts.

chain VERSION: TARGET STATE, ...      the chain to begin with, targets on nodes of their own
at MS                                 time passes, to this many milliseconds
report TARGET LOCAL [of VERSION] until MS
                                      a node's word; the version is the chain's, if not named
step                                  the table is applied
add TARGET on NODE, remove TARGET     an operator's change
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from scenarios.transcripts import replay, scenarios

from kvstore.cluster.chains import add_target, remove_target
from kvstore.cluster.ids import ChainId, ChainVersion, NodeId, TargetId
from kvstore.cluster.routing import Chain, ChainTarget, Target
from kvstore.cluster.states import LocalState, PublicState
from kvstore.cluster.transitions import Report, next_chain
from kvstore.errors import ChainChangeError

FOLDER = Path(__file__).parent / "transitions"
NS_A_MS = 1_000_000


class Table:
    """One chain, the reports of its targets, and a clock."""

    def __init__(self) -> None:
        self.chain = Chain(ChainId(1), ChainVersion(1), ())
        self.known: dict[TargetId, Target] = {}
        self.reports: dict[TargetId, Report] = {}
        self.now_ns = 0

    def perform(self, event: str) -> Iterator[str]:
        match event.replace(":", "").replace(",", "").split():
            case ["chain", version, *places]:
                self.begin(int(version), places)
            case ["at", now_ms]:
                self.now_ns = int(now_ms) * NS_A_MS
            case ["report", target, local, "until", end_ms]:
                self.report(target, local, self.chain.version, end_ms)
            case ["report", target, local, "of", version, "until", end_ms]:
                self.report(target, local, ChainVersion(int(version)), end_ms)
            case ["step"]:
                yield from self.step()
            case ["add", target, "on", node]:
                yield from self.add(Target(TargetId(int(target)), NodeId(int(node)), 0, 0))
            case ["remove", target]:
                yield from self.remove(TargetId(int(target)))
            case _:
                raise AssertionError(f"no such event: {event}")

    def begin(self, version: int, places: list[str]) -> None:
        targets = tuple(
            ChainTarget(TargetId(int(target)), PublicState[state.upper()])
            for target, state in zip(places[::2], places[1::2], strict=True)
        )
        self.chain = Chain(ChainId(1), ChainVersion(version), targets)
        for place in targets:
            node = NodeId(place.target)
            self.known[place.target] = Target(place.target, node, 0, 0)

    def report(self, target: str, local: str, version: ChainVersion, end_ms: str) -> None:
        state = LocalState[local.upper()]
        self.reports[TargetId(int(target))] = Report(state, version, int(end_ms) * NS_A_MS)

    def step(self) -> Iterator[str]:
        transition = next_chain(self.chain, self.reports, self.now_ns)
        if not transition.changes:
            assert transition.chain is self.chain
            yield "unchanged"
            return
        for change in transition.changes:
            before, after = change.before.name.lower(), change.after.name.lower()
            yield f"{change.target} {before} -> {after}: {change.reason}"
        yield from self.becomes(transition.chain)

    def add(self, target: Target) -> Iterator[str]:
        try:
            chain = add_target(self.chain, target, self.known)
        except ChainChangeError as error:
            yield f"refused: {error}"
            return
        self.known[target.id] = target
        yield from self.becomes(chain)

    def remove(self, target: TargetId) -> Iterator[str]:
        try:
            yield from self.becomes(remove_target(self.chain, target))
        except ChainChangeError as error:
            yield f"refused: {error}"

    def becomes(self, chain: Chain) -> Iterator[str]:
        self.chain = chain
        places = ", ".join(f"{place.target} {place.state.name.lower()}" for place in chain.targets)
        yield f"version {chain.version}: {places}"


@pytest.mark.parametrize("path", scenarios(FOLDER), ids=lambda path: path.stem)
def test_the_transcript_comes_out_as_written(path: Path) -> None:
    text = path.read_text()

    assert text == replay(text, Table().perform)
