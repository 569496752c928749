"""The server's metrics in the text format of Prometheus: counts, seconds and bytes, never the contents of requests."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"hecompile_{name}", text, labels, registry=registry)

        self.requests = counter("requests", "Requests that were answered, by route and status", ("route", "status"))
        self.refusals = counter("refusals", "Requests that were refused, by reason", ("reason",))
        self.received = counter("received_bytes", "Bytes of request bodies that were received")
        self.sent = counter("sent_bytes", "Bytes of replies that were sent")
        self.dropped = counter("dropped_requests", "Requests whose client was gone before they were evaluated")
        self.repeated = counter("repeated_requests", "Requests that were repeated and found their evaluation or its reply")
        self.retried = counter("retried_evaluations", "Evaluations that started again because their worker ended")
        self.closed = counter("connections_closed", "Connections that a limit closed, by reason", ("reason",))
        self.sessions_ended = counter("sessions_ended", "Sessions that ended, by reason", ("reason",))
        self.request_s = Histogram(
            "hecompile_request_seconds", "Seconds from a request's header to its reply", ("route",), registry=registry,
            buckets=_SECONDS,
        )  # fmt: skip
        self.evaluation_s = Histogram(
            "hecompile_evaluation_seconds", "Seconds of the evaluation alone", registry=registry, buckets=_SECONDS
        )

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a number that `value` computes whenever metrics are read."""
        Gauge(f"hecompile_{name}", text, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """Return all metrics as Prometheus reads them."""
        exposition: bytes = generate_latest(self._registry)
        return exposition
