"""Leases: a node has stopped before mgmtd acts, whichever clock runs fast."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.cluster.chains import new_chain
from kvstore.cluster.ids import ChainId, NodeId, TargetId
from kvstore.cluster.leases import NS_A_MS, LeaseTerms, unheard
from kvstore.cluster.routing import Target
from kvstore.cluster.states import PublicState
from kvstore.cluster.transitions import next_chain
from kvstore.errors import InvalidOptionError

TERMS = LeaseTerms()
DRIFT = TERMS.drift_ms_max / TERMS.lease_ms


@given(
    sent_ns=st.integers(0, 10**15),
    delay_ns=st.integers(0, 10**10),
    drift=st.floats(-DRIFT / 2, DRIFT / 2),
)
def test_a_node_stops_before_mgmtd_may_act(sent_ns: int, delay_ns: int, drift: float) -> None:
    node_end_ns = sent_ns + (TERMS.node_end_ns(sent_ns) - sent_ns) * (1 + drift)
    received_ns = sent_ns + delay_ns

    assert node_end_ns <= TERMS.mgmtd_end_ns(received_ns)


def test_a_new_primary_changes_no_chain_on_silence_before_a_whole_lease() -> None:
    chain = new_chain(ChainId(1), [Target(TargetId(id), NodeId(id), 0, 0) for id in (1, 2)])
    begun_ns = 77
    reports = unheard((place.target for place in chain.targets), TERMS, begun_ns)
    end_ns = begun_ns + 1550 * NS_A_MS

    assert chain is next_chain(chain, reports, end_ns - 1).chain
    after = next_chain(chain, reports, end_ns).chain
    assert (1, 2) == after.in_state(PublicState.LASTSRV)


@pytest.mark.parametrize(
    ("heartbeat_ms", "lease_ms", "message"),
    [(200, 599, "make it 3 heartbeats or more"), (0, 100, "longer than nothing")],
)
def test_times_that_end_leases_for_nothing_are_refused(
    heartbeat_ms: int, lease_ms: int, message: str
) -> None:
    with pytest.raises(InvalidOptionError, match=message):
        LeaseTerms(heartbeat_ms, lease_ms)
