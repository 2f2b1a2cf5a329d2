"""What a policy server counts, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """The numbers of one server; each server has its own registry."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.clients = Gauge("tongs_clients", "Connected websocket clients", registry=registry)
        self.requests = Counter(
            "tongs_requests", "Messages answered, by wire format and outcome", ["format", "outcome"], registry=registry
        )
        self.refused = Counter(
            "tongs_refused_connections", "Connections refused, by reason", ["reason"], registry=registry
        )
        self.inference = Histogram(
            "tongs_inference_seconds", "Duration of a batch of the policy", buckets=SECONDS, registry=registry
        )
        self.waiting = Histogram(
            "tongs_waiting_seconds", "How long a request waited for the policy", buckets=SECONDS, registry=registry
        )
        self.batch = Histogram(
            "tongs_batch_size", "Requests in a batch", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        ProcessCollector(registry=registry)

    def saw_batch(self, size: int, seconds: float) -> None:
        self.batch.observe(size)
        self.inference.observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)
