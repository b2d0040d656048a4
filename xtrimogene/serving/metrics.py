"""What /metrics says, in Prometheus' format; a registry of its own, so that two services do not share numbers."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "xtrimogene_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "xtrimogene_request_seconds",
            "From a request's first byte to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.cells = Counter("xtrimogene_cells", "Cells answered for.", ["model", "route"], registry=self.registry)

    def watch(self, name: str, what: str, label: str, read: Mapping[str, Callable[[], float]]) -> None:
        """Show numbers, one for each value of a label, that are read when they are asked for."""
        gauge = Gauge(f"xtrimogene_{name}", what, [label], registry=self.registry)
        for value, function in read.items():
            gauge.labels(value).set_function(function)

    def text(self) -> bytes:
        return generate_latest(self.registry)
