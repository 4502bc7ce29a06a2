"""What a node makes of routing info, and what it reports, row by row."""

import errno
import os

from unit.chained_nodes import routing, state

from kvstore.cluster.ids import ChainVersion, NodeId, TargetId
from kvstore.cluster.states import LocalState
from kvstore.node.membership import configuration_of, in_use, reports_of
from kvstore.types import NO_FLAG, ChainFlag, ChainPlace

SERVES, SYNCS, HEAD, TAIL = ChainFlag.SERVES, ChainFlag.SYNCS, ChainFlag.HEAD, ChainFlag.TAIL
NODE_1 = NodeId(1)


def test_the_head_of_a_chain_of_three_knows_its_successor() -> None:
    found = configuration_of(routing(9, c4="v7 1S 2S 3S"), NODE_1, ())

    place = ChainPlace(1, 4, 7, SERVES | HEAD, 0, 2, 0, SERVES)
    assert (9, (place,), ("n2:7400",)) == (found.routing_version, found.places, found.addresses)


def test_the_tail_feeds_the_target_that_syncs() -> None:
    found = configuration_of(routing(9, c4="v7 2S 1S 3Y"), NODE_1, ())

    assert (ChainPlace(1, 4, 7, SERVES | TAIL, 1, 3, 0, SYNCS),) == found.places
    assert ("n3:7400",) == found.addresses


def test_a_target_alone_is_head_and_tail() -> None:
    found = configuration_of(routing(9, c4="v7 1S 2O"), NODE_1, ())

    assert (ChainPlace(1, 4, 7, SERVES | HEAD | TAIL, 0),) == found.places
    assert () == found.addresses


def test_a_target_that_syncs_is_the_last_in_line() -> None:
    found = configuration_of(routing(9, c4="v7 2S 3S 1Y"), NODE_1, ())

    assert (ChainPlace(1, 4, 7, SYNCS, 2),) == found.places


def test_a_target_that_waits_has_a_place_without_flags() -> None:
    waiting = configuration_of(routing(9, c4="v7 2S 1W"), NODE_1, ())
    last = configuration_of(routing(9, c4="v7 1L 2O"), NODE_1, ())

    assert (ChainPlace(1, 4, 7, NO_FLAG, 0),) == waiting.places == last.places


def test_every_target_of_the_node_has_its_place() -> None:
    found = configuration_of(
        routing(9, c1="v1 1S 2S", c2="v2 2S 11S", c3="v3 2S 3S", c4="v4 21S 3S 12O"), NODE_1, ()
    )

    assert [(1, 1), (11, 2), (21, 4)] == [(place.target, place.chain) for place in found.places]
    assert ("n2:7400", "n3:7400") == found.addresses
    assert [0, None, 1] == [place.successor_node for place in found.places]


def test_a_withheld_target_has_no_place() -> None:
    found = configuration_of(routing(9, c1="v1 1S 2S", c2="v2 11S 2S"), NODE_1, {TargetId(1)})

    assert [11] == [place.target for place in found.places]


def test_places_are_the_same_whatever_else_changes() -> None:
    before = configuration_of(routing(9, c1="v1 1S 2S"), NODE_1, ())
    after = configuration_of(routing(10, c1="v1 1S 2S", c2="v1 2S 3S"), NODE_1, ())
    changed = configuration_of(routing(11, c1="v2 1S 2O"), NODE_1, ())

    assert before.same_places(after)
    assert not before.same_places(changed)


def test_only_what_serves_or_syncs_is_in_use() -> None:
    targets = {TargetId(1), TargetId(11)}

    assert in_use(routing(1, c1="v1 1S 2S"), targets)
    assert in_use(routing(1, c1="v1 2S 11Y"), targets)
    assert not in_use(routing(1, c1="v1 2S 1W", c2="v2 11L 2O"), targets)
    assert not in_use(routing(1, c1="v1 2S 3S"), targets)


def test_a_report_is_what_the_core_says() -> None:
    (found,) = reports_of(
        [state(3, chain_version=7, objects=5, space_used=10, space_free=90, capacity=100)], ()
    )

    assert (3, LocalState.UPTODATE, 7) == (found.target, found.local, found.chain_version)
    assert (5, 10, 90, 100) == (
        found.objects,
        found.used_bytes,
        found.free_bytes,
        found.capacity_bytes,
    )
    assert ("", 0, 0) == (found.error, found.resync_done, found.resync_total)


def test_a_withheld_target_is_reported_offline_in_no_version() -> None:
    (found,) = reports_of([state(3, chain_version=7)], {TargetId(3)})

    assert (LocalState.OFFLINE, ChainVersion(0)) == (found.local, found.chain_version)


def test_a_failed_target_is_reported_with_its_error() -> None:
    failed, well = reports_of([state(1, LocalState.OFFLINE, error=errno.EIO), state(2)], ())

    assert (LocalState.OFFLINE, os.strerror(errno.EIO)) == (failed.local, failed.error)
    assert LocalState.UPTODATE is well.local


def test_a_target_with_damage_serves_on_and_says_so() -> None:
    damaged, silent = reports_of([state(1, damaged=3), state(2)], {TargetId(2)}, {TargetId(2)})

    assert (LocalState.UPTODATE, "3 damaged values") == (damaged.local, damaged.error)
    assert (LocalState.OFFLINE, "its device does not answer") == (silent.local, silent.error)


def test_who_feeds_its_successor_reports_how_far_that_is() -> None:
    (found,) = reports_of([state(1, objects=100, resync_compared=30, resyncing=1)], ())

    assert (30, 100) == (found.resync_done, found.resync_total)
