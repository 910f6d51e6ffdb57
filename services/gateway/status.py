"""What is known of every path at this moment, as one record: collected in a process, sent as JSON, added up."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import inf
from time import monotonic

from grpc import StatusCode

from servepath import VERSION
from servepath.protocols.deployments import Deployment
from servepath.protocols.paths import shadow_info
from services.dataplane.counters import DurationSeries
from services.gateway.control import shadow_message
from services.gateway.metrics import UNKNOWN, Metrics, PathMetrics
from services.gateway.recent import Recent
from services.gateway.reload import Reloader
from services.gateway.routes import Path
from services.gateway.verdicts import Shadows
from services.gateway.version_labels import version_labels


@dataclass(frozen=True, slots=True)
class PathStatus:
    """One path.

    fault: why it, or a replica of it, is not ready. replicas: its servers, of all processes; usable: those that get
    calls. shadow: what came of the calls that are repeated on it, of several processes in one. calls: that ended, since
    the start; errors: those of them that were not OK, by code. durations, overheads: the calls of the last minute by
    the buckets of those metrics. merging: of how many processes waiting calls leave as one. version_labels: what the
    model's versions are called, as text. versions: that the gateway knows.
    """

    model: str
    stack: str
    is_default: bool
    weight: float
    ready: bool
    fault: str
    engine: str
    engine_version: str
    precision: str
    version: int
    sha256: str
    difference: float | None
    refused: str
    unbatched: str
    calls: int
    errors: Mapping[str, int]
    durations: Sequence[int]
    overheads: Sequence[int]
    in_flight: int
    queued: int
    merging: int
    replicas: int
    usable: int
    shadow: str
    version_labels: str = ""
    versions: Sequence[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Status:
    """A gateway.

    up_s: since its start, of the oldest process. recent_s: how long the last minute is. unknown: calls that named no
    path or could not be read, by code. deployments_error: why deployments.toml as it is now is not in use.
    """

    version: str
    processes: int
    up_s: float
    recent_s: float
    unknown: Mapping[str, int]
    paths: Sequence[PathStatus]
    deployments_error: str = ""


class StatusBoard:
    """Collects the status of this process."""

    def __init__(self, reloader: Reloader, metrics: Metrics, clock: Callable[[], float] = monotonic) -> None:
        self._reloader = reloader
        self._metrics = metrics
        self._clock = clock
        self._began = clock()
        self.recent = Recent(self._series, clock)

    def status(self) -> Status:
        """Return the status of this moment; from any thread."""
        routes = self._reloader.routes
        paths = [
            self._path(path, one, routes.shadows) for one in routes.deployments.models for path in routes.of(one.model)
        ]
        unknown = _calls(self._metrics.paths[UNKNOWN])
        error = self._reloader.error
        return Status(VERSION, 1, self._clock() - self._began, self.recent.since(), unknown, paths, error)

    def _series(self) -> list[DurationSeries]:
        return [each for path in tuple(self._metrics.paths.values()) for each in (path.duration, path.overhead)]

    def _path(self, path: Path, deployment: Deployment, shadows: Shadows) -> PathStatus:
        replicas, metrics = path.replicas, self._metrics.paths[path.model, path.stack]
        served, proof, ready = replicas.served, replicas.proof, replicas.ready()
        calls, verdicts = _calls(metrics), shadows.find(deployment, path.stack)
        return PathStatus(
            model=path.model,
            stack=path.stack,
            is_default=path.stack == deployment.default,
            weight=shadows.weight_of(deployment, path.stack),
            ready=ready,
            fault=replicas.fault,
            engine=served.engine,
            engine_version=served.engine_version,
            precision=served.precision,
            version=served.version,
            sha256=served.sha256,
            # JSON knows no infinity, which is that of an answer of another shape; `refused` says so.
            difference=None if proof.difference == inf else proof.difference,
            refused=proof.refused,
            unbatched=proof.unbatched,
            calls=sum(calls.values()),
            errors={code: count for code, count in calls.items() if code != StatusCode.OK.name},
            durations=self.recent.counts(metrics.duration),
            overheads=self.recent.counts(metrics.overhead),
            in_flight=replicas.in_flight,
            queued=replicas.queued,
            merging=int(replicas.merges),
            replicas=len(replicas.members),
            usable=sum(member.usable for member in replicas.members),
            shadow=shadow_info(shadow_message(verdicts)).text if verdicts else "",
            version_labels=", ".join(label.text for label in version_labels(deployment)),
            versions=path.artifacts.known,
        )


def to_json(status: Status) -> str:
    """Return a status as JSON."""
    return json.dumps(asdict(status))


def from_json(text: str) -> Status:
    """Return the status that to_json wrote."""
    found = json.loads(text)
    return Status(**{**found, "paths": [PathStatus(**path) for path in found["paths"]]})


def added(statuses: Sequence[Status]) -> Status:
    """Return several processes as one: what counts is added up, and a fault of one is a fault."""
    paths: dict[tuple[str, str], list[PathStatus]] = {}
    for status in statuses:
        for path in status.paths:
            paths.setdefault((path.model, path.stack), []).append(path)
    return Status(
        VERSION,
        sum(status.processes for status in statuses),
        max((status.up_s for status in statuses), default=0.0),
        max((status.recent_s for status in statuses), default=0.0),
        _totals([status.unknown for status in statuses]),
        [_added(path) for path in paths.values()],
        next((status.deployments_error for status in statuses if status.deployments_error), ""),
    )


def _added(paths: Sequence[PathStatus]) -> PathStatus:
    differences = [path.difference for path in paths if path.difference is not None]
    first = partial(_first, paths)
    return replace(
        next((path for path in paths if path.engine), paths[0]),
        ready=all(path.ready for path in paths),
        fault=first("fault"),
        difference=max(differences, default=None),
        refused=first("refused"),
        unbatched=first("unbatched"),
        calls=sum(path.calls for path in paths),
        errors=_totals([path.errors for path in paths]),
        durations=_sums([path.durations for path in paths]),
        overheads=_sums([path.overheads for path in paths]),
        in_flight=sum(path.in_flight for path in paths),
        queued=sum(path.queued for path in paths),
        merging=sum(path.merging for path in paths),
        replicas=sum(path.replicas for path in paths),
        usable=sum(path.usable for path in paths),
    )


def _calls(metrics: PathMetrics) -> dict[str, int]:
    """Return how many calls ended, by code."""
    return {code.name: count.value for code, count in metrics.codes.items() if count.value}


def _totals(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total = Counter[str]()
    for each in counts:
        total.update(each)
    return dict(total)


def _first(paths: Sequence[PathStatus], name: str) -> str:
    return next((text for path in paths if (text := getattr(path, name))), "")


def _sums(counts: Sequence[Sequence[int]]) -> list[int]:
    return [sum(bucket) for bucket in zip(*counts, strict=True)]
