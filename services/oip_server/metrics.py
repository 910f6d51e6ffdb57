"""The service's Prometheus metrics. Every label comes from the models that are served, never from a caller."""

from functools import partial
from time import perf_counter_ns

from grpc import StatusCode
from prometheus_client import CollectorRegistry, Gauge

from servepath.protocols.errors import ServeError
from servepath.protocols.status import code_of
from services.dataplane.backend import Call, Outcome
from services.dataplane.counters import Counter, Histogram
from services.oip_server.models import Model, Models

# The library's default buckets begin at 5 ms, above everything that a small model takes.
BUCKETS_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)
# Calls that named no model we have, or could not be decoded.
UNKNOWN = "_unknown"


class _ModelMetrics:
    """One model's children, resolved once: looking labels up costs microseconds per call."""

    def __init__(self, metrics: "Metrics", model: str) -> None:
        self.codes = {code: metrics.requests.labels(model, code.name) for code in StatusCode}
        self.ok = self.codes[StatusCode.OK]
        self.duration = metrics.duration.labels(model)
        self.rows = metrics.rows.labels(model)


class Metrics:
    """Counts every call once, in `on_complete`."""

    def __init__(self, service: str, registry: CollectorRegistry, models: Models) -> None:
        self.requests = Counter(
            f"{service}_requests", "ModelInfer calls ended, by gRPC code.", ("model", "code"), registry=registry
        )
        self.rows = Counter(f"{service}_rows", "Rows answered.", ("model",), registry=registry)
        self.duration = Histogram(
            f"{service}_request_duration_seconds",
            "From a call's arrival to its end, waiting included.",
            ("model",),
            buckets=BUCKETS_S,
            registry=registry,
        )
        in_flight = Gauge(
            f"{service}_in_flight_requests",
            "Calls being computed, a merged one counted once.",
            ("model",),
            registry=registry,
        )
        queued = Gauge(f"{service}_queued_requests", "Calls waiting for a thread.", ("model",), registry=registry)
        current = Gauge(f"{service}_model_version", "The current version.", ("model",), registry=registry)
        for name, model in models.models.items():
            in_flight.labels(name).set_function(partial(_sum, model, "in_flight"))
            queued.labels(name).set_function(partial(_sum, model, "queued"))
            current.labels(name).set_function(partial(getattr, model, "current"))
        self._models = models
        self._children = {name: _ModelMetrics(self, name) for name in (*models.models, UNKNOWN)}

    def on_complete(self, call: Call | None, outcome: Outcome) -> Outcome:
        """Count an ended call and return its outcome unchanged."""
        if call is None:
            children = self._children[UNKNOWN]
        else:
            children = self._children[self._models.name_of(call.request.model) or UNKNOWN]
            children.duration.observe((perf_counter_ns() - call.arrived_ns) / 1e9)
        if isinstance(outcome, ServeError):
            children.codes[code_of(outcome)].inc()
        else:
            children.ok.inc()
            children.rows.inc(call.rows if call is not None else 0)
        return outcome


def _sum(model: Model, figure: str) -> int:
    return sum(getattr(version.merge, figure) for version in model.versions.values())
