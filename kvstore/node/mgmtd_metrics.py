"""What mgmtd counts, as Prometheus metrics, read when they are scraped."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kvstore.cluster.mgmtd.server import Mgmtd

COUNTERS = {
    "heartbeats": "Heartbeats answered.",
    "saves": "Changes stored.",
    "deltas": "Versions of the routing info published.",
    "probes": "Nodes connected to because somebody could not reach them.",
    "failures": "Nodes found dead.",
    "reigns": "Times that this mgmtd became primary.",
}


class MgmtdCollector(Collector):
    """Reads one mgmtd."""

    def __init__(self, mgmtd: Mgmtd, release: str) -> None:
        """Read nothing yet."""
        self._mgmtd = mgmtd
        self._release = release

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        build = GaugeMetricFamily("kvstore_mgmtd_build", "The release.", labels=["release"])
        build.add_metric([self._release], 1)
        yield build
        for name, text in COUNTERS.items():
            counted = CounterMetricFamily(f"kvstore_mgmtd_{name}", text)
            counted.add_metric([], getattr(self._mgmtd.counts, name))
            yield counted
        yield gauge("connections", "Connections that are open.", self._mgmtd.connections)
        reign = self._mgmtd.reign
        yield gauge("primary", "Whether it is primary.", int(reign is not None))
        if reign is None:
            return
        routing = reign.feed.routing
        yield gauge("epoch", "The lease of the primary.", reign.primary.epoch)
        yield gauge("routing_version", "The version in force.", routing.version)
        yield gauge("subscriptions", "Who follows the routing info.", reign.feed.count)
        states = Counter(node.state.name.lower() for node in routing.nodes.values())
        yield by_state("nodes", "Nodes.", states)
        places = Counter(
            place.state.name.lower() for chain in routing.chains.values() for place in chain.targets
        )
        places["spare"] = len(routing.targets) - places.total()
        yield by_state("targets", "Targets.", places)


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a metric of one value."""
    metric = GaugeMetricFamily(f"kvstore_mgmtd_{name}", text)
    metric.add_metric([], value)
    return metric


def by_state(name: str, text: str, counts: Counter[str]) -> Metric:
    """Return a metric with a value for each state."""
    metric = GaugeMetricFamily(f"kvstore_mgmtd_{name}", text, labels=["state"])
    for state, count in sorted(counts.items()):
        metric.add_metric([state], count)
    return metric
