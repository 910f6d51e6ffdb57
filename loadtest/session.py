"""A run's load: every path is warmed up until it is stable, then come the rounds of measurements."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyarrow as pa

from loadtest import workers
from loadtest.calls import Caller, Clock, RefusedCallError, Target
from loadtest.connection import greet
from loadtest.fairness import UNKNOWN
from loadtest.generator import Loaded
from loadtest.measurement_spec import MeasurementSpec
from loadtest.payloads import Payload
from loadtest.plan import Measurement, Turn
from loadtest.recorder import MEASURE, merge, write
from loadtest.run import Run
from loadtest.warmup import STABLE, WINDOW_S, stable
from servepath.http2.client import NoHttp2Error
from servepath.protocols.errors import ServeError
from servepath.settings import SettingsError

UNREACHABLE = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
NOT_THERE = {
    "gateway": "the gateway does not know the path: add it to its deployments.toml; in containers, restart it then",
    "direct": "that server does not have the model: export or import it, then: make down up",
}
SEE_LOG = "the server's log says more (make logs); correct what it names, or leave the path out: --paths"
# How long a server may take to say that it speaks gRPC.
GREETING_S = 2.0


def check_reachable(loaded: Sequence[Loaded], clock: Clock) -> dict[Measurement, dict[str, str]]:
    """Call every target once, and return who answered: engine, engine_version, precision, artifact (sha256).

    Raises SettingsError naming the first without an answer: who serves it is not known, so it cannot be compared.
    """
    return {target.measurement: _ask_once(Caller(target, clock), target, payloads[0]) for target, payloads in loaded}


def _ask_once(caller: Caller, target: Target, payload: Payload) -> dict[str, str]:
    where = f"{target.measurement} at {target.address}"
    try:
        served = caller.answer(payload).served
    except RefusedCallError as error:
        raise SettingsError(f"{where}: {_why(error, target)}") from error
    except ServeError as error:
        raise SettingsError(f"{where}: the reply cannot be read ({error.text}); {SEE_LOG}") from error
    finally:
        caller.close()
    return {
        "engine": served.engine,
        "engine_version": served.engine_version,
        "precision": served.precision or UNKNOWN,
        "artifact": served.sha256,
    }


def _why(error: RefusedCallError, target: Target) -> str:
    """Return the code, the server's words if there was one, and what to do."""
    said = f"{error.code} ({error.details})" if error.details else error.code
    if error.code == "NOT_FOUND":
        return f"{said}; {NOT_THERE[target.measurement.via]}"
    if error.code in UNREACHABLE:
        try:
            greet(target.address, GREETING_S)
        except NoHttp2Error:
            return f"{error.code}; something answers there, but no gRPC server; correct the address"
        except OSError:
            return f"{error.code}; run: make up"
        return f"{said}; a gRPC server is there: make status says what runs, and {SEE_LOG}"
    return f"{said}; {SEE_LOG}"


@dataclass(frozen=True, slots=True)
class Load:
    """What each measurement does. warmup_s: at most so long is a path warmed up before the first round.

    ramp_up: requests at the beginning of each measurement that are not measured. connections: of a closed loop, its
    callers.
    """

    load_model: str
    rate: float
    requests: int
    ramp_up: int
    warmup_s: float
    connections: int
    seed: int

    def spec(self, turn: Turn) -> MeasurementSpec:
        """Return the specification of a measurement; one seed per round. Workers fills in the rest."""
        seed = f"{self.seed}/{turn.round}"
        return MeasurementSpec(
            turn, self.load_model, self.rate, self.ramp_up, self.requests, self.connections, seed, workers=1, begin_ns=0
        )

    @property
    def measurement_s(self) -> float:
        """Return the planned duration of a measurement in seconds."""
        return (self.ramp_up + self.requests) / self.rate


class Warm(NamedTuple):
    """A warm-up: the rows of its windows, how long it took, and whether the path was stable then."""

    tables: list[pa.Table]
    seconds: float
    stable: bool


def warm_up(spec: MeasurementSpec, most_s: float, load: Callable[[MeasurementSpec], workers.Loaded]) -> Warm:
    """Load a path at the order's rate, unmeasured, until it is stable or `most_s` are over. Raises InterruptedRun."""
    window_s = min(WINDOW_S, most_s / STABLE)
    spec = replace(spec, measured=False, ramp_up=max(1, round(spec.rate * window_s)), requests=0)
    tables: list[pa.Table] = []
    medians_us: list[float] = []
    began_s = time.monotonic()
    while not (settled := stable(medians_us)) and time.monotonic() - began_s < most_s:
        loaded = load(replace(spec, seed=f"{spec.seed}/warm-up/{len(tables)}"))
        tables.append(loaded.table)
        medians_us.append(statistics.median(loaded.table["service_us"].to_pylist() or [0.0]))
    return Warm(tables, time.monotonic() - began_s, settled)


class Session:
    """Loads turns and keeps their rows; a measurement that was cut short is not kept."""

    def __init__(self, run: Run, load: Load, loaders: workers.Workers, clock: Clock) -> None:
        self._run = run
        self._load = load
        self._workers = loaders
        self._clock = clock
        self._warm: dict[Measurement, pa.Table] = {}

    def warm_up(self, measurements: Sequence[Measurement], began: Callable[[Measurement], object]) -> None:
        """Warm every measurement up in turn; what was sent is in the rows of its first round. Raises InterruptedRun."""
        for measurement in measurements:
            began(measurement)
            self._run.warmup.append(self._warm_up(measurement))
            self._run.save(complete=False)

    def turn(self, turn: Turn) -> dict[str, Any]:
        """Load one measurement, write its rows and return what run.json says about it. Raises InterruptedRun."""
        table, facts = self._load_now(self._load.spec(turn))
        before = self._warm.pop(turn.measurement, None)
        table = table if before is None else merge([before, table])
        run = pa.array([self._run.folder.name] * table.num_rows, pa.string())
        rows = write(table.set_column(0, "run", run), self._run.folder, turn)
        return self._tell(turn, table, facts) | {"rows": f"rows/{rows.name}"}

    def _warm_up(self, measurement: Measurement) -> dict[str, Any]:
        warm = warm_up(self._load.spec(Turn(0, measurement)), self._load.warmup_s, self._load_now)
        self._warm[measurement] = merge(warm.tables)
        return {
            **measurement.to_dict(),
            "seconds": round(warm.seconds, 3),
            "requests": self._warm[measurement].num_rows,
            "windows": len(warm.tables),
            "stable": warm.stable,
        }

    def _load_now(self, spec: MeasurementSpec) -> Any:
        return self._workers.load(spec, self._clock.now_ns())

    def _tell(self, turn: Turn, table: pa.Table, facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        phases, ok = table["phase"].to_pylist(), table["ok"].to_pylist()
        measured = [phase == MEASURE for phase in phases]
        wrong = table["wrong"].to_pylist()
        warm = len(measured) - sum(measured)
        return {
            "round": turn.round,
            **turn.measurement.to_dict(),
            "requests": sum(measured),
            "errors": sum(counts and not good for counts, good in zip(measured, ok, strict=True)),
            "wrong_answers": sum(counts and bad for counts, bad in zip(measured, wrong, strict=True)),
            "warmup_wrong_answers": sum(bad and not counts for counts, bad in zip(measured, wrong, strict=True)),
            "seconds": round(max(fact["seconds"] for fact in facts), 3),
            "generator_cpu": max(fact["generator_cpu"] for fact in facts),
            "warmup_s": round(warm / self._load.rate, 3),
            "warmup_requests": warm,
            "clock": max((fact["clock"] for fact in facts), key=lambda clock: abs(clock["drift_us"])),
        }
