"""The gateway's Prometheus metrics. Every label comes from the registry of paths, never from a caller."""

from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter_ns

from grpc import StatusCode
from prometheus_client import CollectorRegistry, Gauge

from servepath.protocols.errors import ServeError
from servepath.protocols.paths import VERDICTS
from servepath.protocols.status import code_of
from servepath.protocols.types import Answer, Provenance
from services.dataplane.backend import Call, Outcome
from services.dataplane.counters import Counter, Durations, Histogram
from services.gateway.hedging import HedgingReplicas
from services.gateway.load import Load
from services.gateway.reload import Reloader
from services.gateway.replicas import ReplicaSet
from services.gateway.verdicts import Shadows, Verdicts

# The library's default buckets begin at 5 ms, above everything that a healthy path takes.
BUCKETS_S = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
# The gateway's own time is mostly between 50 us and 1 ms, and of interest to a fifth.
BUCKETS_OVERHEAD_S = (
    *(0.00005, 0.000075, 0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1),
    *(0.5, 1, 5, 30),
)
BUCKETS_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
PATH_LABELS = ("model", "stack")
# Calls that named no path we know, or could not be decoded.
UNKNOWN = ("_unknown", "_unknown")
Labels = tuple[str, str]
# Told of a call that got no answer: its path's labels, the call where it could be decoded, what went wrong, and the
# microseconds that it took.
OnFailure = Callable[[Labels, Call | None, ServeError, int], None]


class PathMetrics:
    """One path's children, resolved once: looking labels up costs microseconds per call."""

    def __init__(self, metrics: "Metrics", labels: tuple[str, str]) -> None:
        self.labels = labels
        self.codes = {code: metrics.requests.labels(*labels, code.name) for code in StatusCode}
        self.ok = self.codes[StatusCode.OK]  # looking it up by StatusCode.OK takes 0.14 us, counting 0.04
        self.duration = metrics.duration.labels(*labels)
        self.backend = metrics.backend.labels(*labels)
        self.overhead = metrics.overhead.labels(*labels)
        self.queue = metrics.queue.labels(*labels)
        self.rows = metrics.rows.labels(*labels)
        self.fallbacks = metrics.fallbacks.labels(*labels)


class Metrics:
    """Counts every call once, in `on_complete`.

    paths: (model, stack) -> its series. on_failure: told of every call that got no answer.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, labels=PATH_LABELS, registry=registry)
        durations = partial(Durations, labels=PATH_LABELS, buckets=BUCKETS_S, registry=registry)
        self.requests = counter("servepath_requests", "Calls ended, by gRPC code.", labels=(*PATH_LABELS, "code"))
        self.rows = counter("servepath_rows", "Rows answered.")
        self.duration = durations(
            "servepath_request_duration_seconds", "From a call's arrival to its end, backend included."
        )
        self.backend = durations(
            "servepath_backend_duration_seconds", "From sending to a path's server to its reply; answered calls only."
        )
        self.overhead = durations(
            "servepath_gateway_overhead_seconds",
            "A call's time less its server's, waiting in the gateway included; answered calls only.",
            buckets=BUCKETS_OVERHEAD_S,
        )
        self.queue = durations(
            "servepath_queue_wait_seconds",
            "How long a call waited for a place among those at its server; 0 where it left at once.",
        )
        self.fallbacks = counter(
            "servepath_fallbacks", "Calls that left a path for another of their model: it failed or was not ready."
        )
        self._replicas = ReplicaMetrics(registry)
        self.on_failure: OnFailure = _nothing
        self.paths = {UNKNOWN: PathMetrics(self, UNKNOWN)}
        self._unknown = self.paths[UNKNOWN]
        self._by_name: Mapping[str, PathMetrics] = {}

    def use(self, names: Mapping[str, Labels], paths: Mapping[Labels, ReplicaSet]) -> None:
        """Count for these from now on: every name that callers may use -> (model, stack) of its path; its replicas."""
        self.paths |= {labels: PathMetrics(self, labels) for labels in paths if labels not in self.paths}
        # Calls of paths that a reload removed end later, by the paths' names.
        gone = {f"{model}@{stack}": known for (model, stack), known in self.paths.items() if (model, stack) != UNKNOWN}
        self._by_name = gone | {name: self.paths[labels] for name, labels in names.items()}
        self._replicas.use(paths)

    def on_fallback(self, name: str) -> None:
        """Count a call that leaves a path."""
        self._by_name.get(name, self._unknown).fallbacks.inc()

    def on_complete(self, call: Call | None, outcome: Outcome) -> Outcome:
        """Count an ended call; return its outcome with the gateway's own times added."""
        if call is None:
            path = self._unknown
            if isinstance(outcome, ServeError):
                path.codes[code_of(outcome)].inc()
                self.on_failure(path.labels, None, outcome, 0)
            else:
                path.ok.inc()
            return outcome
        path = self._by_name.get(call.name, self._unknown)
        total_us = (perf_counter_ns() - call.arrived_ns) // 1000
        path.duration.observe(total_us)
        queue_us = call.queued_ns // 1000
        path.queue.observe(queue_us)
        if isinstance(outcome, ServeError):
            path.codes[code_of(outcome)].inc()
            self.on_failure(path.labels, call, outcome, total_us)
            return outcome
        path.ok.inc()
        path.rows.inc(call.rows)
        backend_us = outcome.served.backend_us
        gateway_us = total_us - backend_us
        path.backend.observe(backend_us)
        path.overhead.observe(gateway_us)
        # Rebuilt: _replace takes twice as long.
        served = Provenance(*outcome.served[:8], gateway_us, backend_us, queue_us)
        return Answer(outcome.outputs, served)

    def labels_of(self, call: Call) -> Labels:
        """Return the labels that a call counts for."""
        return self._by_name.get(call.name, self._unknown).labels

    def exemplify(self, call: Call, outcome: Outcome, known: dict[str, str]) -> None:
        """Keep the times of an ended call that was counted as exemplars; `known` leads to more of it."""
        path = self._by_name.get(call.name, self._unknown)
        path.queue.exemplify(call.queued_ns // 1000, known)
        if isinstance(outcome, ServeError):
            path.duration.exemplify((perf_counter_ns() - call.arrived_ns) // 1000, known)
            return
        served = outcome.served
        path.duration.exemplify(served.gateway_us + served.backend_us, known)
        path.backend.exemplify(served.backend_us, known)
        path.overhead.exemplify(served.gateway_us, known)


class ReplicaMetrics:
    """Shows what each path's replicas do now, and counts what happens at them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, labels=PATH_LABELS, registry=registry)
        gauge = partial(Gauge, labelnames=PATH_LABELS, registry=registry)
        self._batch = Histogram(
            "servepath_batch_rows",
            "Rows of each call that went to a path's server.",
            PATH_LABELS,
            buckets=BUCKETS_ROWS,
            registry=registry,
        )
        self._in_flight = gauge("servepath_in_flight_requests", "Calls at servers, a merged one counted once.")
        self._queued = gauge("servepath_queued_requests", "Calls waiting for a server.")
        self._merging = gauge(
            "servepath_merging",
            "1 while waiting calls leave as one; 0 where a path merges none, or merging does not pay.",
        )
        self._ready = gauge("servepath_path_ready", "1 while the path's probes are answered as its model does.")
        self._retries = counter("servepath_retries", "Calls sent again, to another replica.")
        self._hedges = counter("servepath_hedges", "Calls sent to a second replica, since the first was slow.")
        self._hedges_won = counter("servepath_hedges_won", "Calls that the second replica answered first.")
        self._ejections = counter("servepath_ejections", "Times that a replica was left alone, since its calls failed.")
        self._replicas = gauge("servepath_replicas_ready", "Replicas that get calls.")
        self._load = Load(registry)
        self._watched: set[Labels] = set()

    def use(self, paths: Mapping[Labels, ReplicaSet]) -> None:
        """Show these from now on: (model, stack) of each path -> its replicas."""
        for labels, replicas in paths.items():
            self._watch(labels, replicas)
        for labels in self._watched - paths.keys():
            self._forget(labels)
        self._watched = set(paths)
        self._load.paths = tuple(paths.values())

    def _watch(self, labels: Labels, replicas: ReplicaSet) -> None:
        """Show a path's calls in flight, their rows, its queue, whether it merges, and its readiness."""
        for member in replicas.members:
            member.batcher.on_send = self._batch.labels(*labels).observe
        replicas.on_retry = self._retries.labels(*labels).inc
        replicas.on_eject = self._ejections.labels(*labels).inc
        hedges, won = self._hedges.labels(*labels), self._hedges_won.labels(*labels)  # 0 without hedging
        if isinstance(replicas, HedgingReplicas):
            replicas.on_hedge, replicas.on_win = hedges.inc, won.inc
        self._in_flight.labels(*labels).set_function(lambda: replicas.in_flight)
        self._queued.labels(*labels).set_function(lambda: replicas.queued)
        self._merging.labels(*labels).set_function(lambda: replicas.merges)
        self._ready.labels(*labels).set_function(replicas.ready)
        self._replicas.labels(*labels).set_function(lambda: sum(member.usable for member in replicas.members))

    def _forget(self, labels: Labels) -> None:
        """Show nothing of a path any more that there is none of; what was counted stays."""
        for gauge in (self._in_flight, self._queued, self._merging, self._ready, self._replicas):
            gauge.remove(*labels)


class ShadowMetrics:
    """Shows what came of the calls that are repeated on each model's shadow."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._verdicts = Counter(
            "servepath_shadow",
            "Calls repeated on a path that others had answered, by what came of it.",
            (*PATH_LABELS, "verdict"),
            registry=registry,
        )
        self._difference = Gauge(
            "servepath_shadow_largest_difference",
            "Largest difference of a repeated call's answer from the caller's.",
            PATH_LABELS,
            registry=registry,
        )
        self._promoted = Gauge(
            "servepath_shadow_promoted_percent",
            "Percent of the calls for the model alone that a shadow's stack gets by its rule.",
            PATH_LABELS,
            registry=registry,
        )
        self._watched: set[Labels] = set()

    def use(self, shadows: Shadows) -> None:
        """Show what came of these from now on."""
        found = {(verdicts.model, verdicts.shadow.stack): verdicts for verdicts in shadows.known.values()}
        for labels, verdicts in found.items():
            self._watch(labels, verdicts)
        for labels in self._watched - found.keys():
            self._difference.remove(*labels)
            self._promoted.remove(*labels)
        self._watched = set(found)

    def _watch(self, labels: Labels, verdicts: Verdicts) -> None:
        verdicts.counts = {verdict: self._verdicts.labels(*labels, verdict) for verdict in VERDICTS}
        self._difference.labels(*labels).set_function(lambda: verdicts.difference)
        self._promoted.labels(*labels).set_function(lambda: verdicts.promotion.percent if verdicts.promotion else 0)


def watch_reloads(reloader: Reloader, registry: CollectorRegistry) -> None:
    """Show whether deployments.toml as it is now is in use, and count how often it was read again."""
    reloads = Counter(
        "servepath_reloads", "Times that deployments.toml was read again.", ("result",), registry=registry
    )
    in_use = Gauge(
        "servepath_deployments_in_use",
        "1 while deployments.toml is in use as it is; 0 where it was changed to one that cannot be.",
        registry=registry,
    )
    done, failed = reloads.labels("done"), reloads.labels("failed")

    def count() -> None:
        (failed if reloader.error else done).inc()

    reloader.on_reload = count
    in_use.set_function(lambda: not reloader.error)


def _nothing(labels: tuple[str, str], call: Call | None, error: ServeError, total_us: int) -> None:
    pass
