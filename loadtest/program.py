"""A whole run: prepare, see that every target answers and that paths may be compared, warm up, then the rounds."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from loadtest import fairness, host, no_op, plan, proofs, replay, run, server, until_known
from loadtest.agreement import learned
from loadtest.calls import Clock, Target
from loadtest.config import GATEWAY, read_settings
from loadtest.generator import Generator, Loaded
from loadtest.measurement_spec import RAMP_UP_S
from loadtest.options import Address, LoadOptions
from loadtest.payloads import Payload, PlannedRequest, encoded, from_reference, load_reference, on_path, shapes
from loadtest.plan import NO_OP, Measurement
from loadtest.priority import keep_on_time
from loadtest.progress import Report
from loadtest.session import Load, Session, check_reachable
from loadtest.targets import batching_of, no_op_target, settings_of, target_of
from loadtest.timer import best_timer
from loadtest.workers import InterruptedRun, Interruption, Workers, elsewhere, here, work
from servepath.artifacts.commit import git_commit
from servepath.artifacts.reference import Reference
from servepath.artifacts.spec import BATCH, Spec
from servepath.protocols.probes import reduced_spec
from servepath.protocols.stacks import server_of
from servepath.results.names import ANSWERS_OF, FROM_FILE, FROM_REFERENCE
from servepath.settings import SettingsError


class Instrument(NamedTuple):
    """What every process has that loads or leads. about: its timer and scheduling, in words."""

    measurements: Sequence[Measurement]
    prepared: "Prepared"
    clock: Clock
    generator: Generator
    interruption: Interruption
    about: str


def run_all(paths: Sequence[plan.ServingPath], options: LoadOptions, words: Sequence[str]) -> int:
    """Load all measurements in all rounds; return 0, or the number of the signal that ended them early.

    words: the command line, for workers. Raises SettingsError, ArtifactError, UnfairError or OSError before any load,
    except for a disk that fills up.
    """
    with instrument(paths, options) as ours:
        conditions = _conditions(ours, options)
        fairness.check(conditions, options.allow)
        try:
            with workers_of(ours.generator, options, words, ours.interruption) as workers:
                seen = proofs.ask(target for target, _ in ours.prepared.loaded)
                facts = _facts(options, conditions, ours) | {"payloads": ours.prepared.payloads, "proofs": seen}
                this_run = run.start(options.out, ours.measurements, facts)
                _load(this_run, ours.measurements, Session(this_run, load_of(options), workers, ours.clock), options)
        except InterruptedRun:
            return ours.interruption.signal or 0
    return 0


def work_for(paths: Sequence[plan.ServingPath], options: LoadOptions, master: Address) -> int:
    """Work for another process until it ends the run."""
    with instrument(paths, options) as ours:
        work(ours.generator, master, ours.interruption)
    return ours.interruption.signal or 0


def measurements_of(paths: Sequence[plan.ServingPath], options: LoadOptions) -> list[Measurement]:
    """Return the measurements of every round; with --targets, those that it gives an address for."""
    measurements = plan.measurements_of(paths, options.vias, [name for name, _ in options.side] or [""])
    return plan.within_reach(measurements, options.targets) if options.targets else measurements


@contextmanager
def instrument(
    paths: Sequence[plan.ServingPath], options: LoadOptions, interruption: Interruption | None = None
) -> Iterator[Instrument]:
    """Yield the load generator, closed at the end. interruption: the one that there is already.

    Raises SettingsError, ArtifactError or OSError, and KeyboardInterrupt where a signal comes before.
    """
    measurements = measurements_of(paths, options)
    with ExitStack() as stack:
        address = stack.enter_context(no_op.endpoint())
        scheduling = _schedule(options)  # after the no-op server, which must not inherit it
        interruption, clock, timer = interruption or Interruption(), Clock(), best_timer()
        stack.callback(timer.close)
        prepared = Prepared(measurements, options, address)
        prepared.prepare(clock, interruption.event.is_set)
        generator = Generator(prepared.loaded, options.connections_kept, clock, timer)
        stack.callback(generator.close)
        gc.collect()
        gc.freeze()  # what was prepared is not looked at again in every collection while measuring
        yield Instrument(measurements, prepared, clock, generator, interruption, f"timer: {timer.name}, {scheduling}")


def _conditions(ours: Instrument, options: LoadOptions) -> dict[Measurement, dict[str, Any]]:
    """Return what the manifest says of each path. Raises SettingsError for one that does not answer."""
    answers = check_reachable(ours.prepared.loaded, ours.clock)
    paths = [measurement for measurement in ours.measurements if measurement != NO_OP]
    return {measurement: ours.prepared.conditions(measurement, answers[measurement], options) for measurement in paths}


def load_of(options: LoadOptions) -> Load:
    """Return the load of each measurement."""
    return Load(
        load_model=options.load_model,
        rate=options.rate,
        requests=_requests(options),
        ramp_up=math.ceil(options.rate * RAMP_UP_S),
        warmup_s=options.warmup,
        connections=options.connections_kept,
        seed=options.seed,
    )


def _requests(options: LoadOptions) -> int:
    together = max(options.min_requests, math.ceil(options.rate * options.duration))
    return together if options.difference is None else math.ceil(together / until_known.SPLIT)


class Prepared:
    """Targets and payloads of all measurements, and what is known of their conditions.

    loaded: each target with its payloads. payloads: what run.json says of them.
    """

    def __init__(self, measurements: Sequence[Measurement], options: LoadOptions, no_op_address: str) -> None:
        sides: Sequence[tuple[str, Path | None]] = options.side or [("", None)]
        listed = plan.read_deployments(options.deployments)
        self._settings = {
            side: read_settings(options.env_file, targets=options.targets, side_file=file, deployments=listed)
            for side, file in sides
        }
        models = dict.fromkeys(measurement.path.model for measurement in measurements if measurement != NO_OP)
        self._exports = options.exports
        self._references = {model: load_reference(options.exports, model) for model in models}
        self._weights = fairness.weights(tuple(self._references.values()))
        self._planned = {model: self._plan(reference, options) for model, reference in self._references.items()}
        self._targets = [self._target(measurement, options, no_op_address) for measurement in measurements]
        self._known_by: dict[str, Spec] = {}
        self.loaded: list[Loaded] = []
        self.payloads = self._describe(options.payloads)

    def prepare(self, clock: Clock, interrupted: Callable[[], bool]) -> None:
        """Encode the requests; where nobody knows their answers, take those of the model's first path.

        Raises SettingsError when that one does not answer, KeyboardInterrupt once `interrupted` is true.
        """
        for model, planned in self._planned.items():
            if planned[0].expected is None:
                own = [target for target in self._targets if target.measurement.path.model == model]
                # The first one, of full precision if there is one: it is the stricter witness.
                first = min(own, key=lambda target: ":" in target.measurement.path.stack)
                check_reachable([(first, encoded(planned[:1], first.model, first.encode))], clock)
                precise = self._references[model].spec
                spec = reduced_spec(self._exports, *first.measurement.path) or precise
                self._planned[model] = learned(planned, spec, first, clock, interrupted)
                self._known_by[model] = spec
                self.payloads["models"][model]["expected"] = f"{ANSWERS_OF}{first.measurement}"
        self.loaded = [(target, self._encode(target)) for target in self._targets]

    def conditions(self, measurement: Measurement, identity: dict[str, str], options: LoadOptions) -> dict[str, Any]:
        """Return a path's values for the fairness manifest. identity: who answers there."""
        load = load_of(options)
        what = f"{options.rows} rows" if options.payloads is None else options.payloads.name
        return {
            "weights_sha256": self._weights[measurement.path.model],
            "payloads_sha256": fairness.payloads_hash(self._planned[measurement.path.model]),
            "plan": f"{load.load_model}, {load.rate:g}/s, {load.requests} requests of {what}, "
            f"{load.connections} connections, {_length(options)}",
            **self._server(measurement),
            **identity,
            **self.in_use(measurement, identity, options),
            "image": None,
        }

    def in_use(self, measurement: Measurement, identity: dict[str, str], options: LoadOptions) -> dict[str, str]:
        """Return how requests are batched on a path, and whether its settings are tuned ones."""
        settings = self._settings[measurement.side]
        files = {
            name: server.tuned_files(settings.addresses[name]) if settings.local else None
            for name in plan.servers_of(measurement)
        }
        limits = (files.get(GATEWAY) or {}).get(str(measurement.path))
        engine = f"{identity['engine']} {identity['engine_version']}"
        return {
            "batching": batching_of(measurement, options.deployments, limits.limits if limits else {}),
            "settings": settings_of(str(measurement.path), files, identity["artifact"], engine),
        }

    def _server(self, measurement: Measurement) -> dict[str, str]:
        """Return what is known of a path's server; of one on another machine, nothing."""
        settings = self._settings[measurement.side]
        return (
            server.describe(settings.addresses[server_of(measurement.path.stack)])
            if settings.local
            else server.NOTHING_KNOWN
        )

    def _target(self, measurement: Measurement, options: LoadOptions, no_op_address: str) -> Target:
        if measurement == NO_OP:
            return no_op_target(no_op_address)
        return target_of(measurement, self._settings[measurement.side], options.exports)

    def _plan(self, reference: Reference, options: LoadOptions) -> list[PlannedRequest]:
        if options.payloads is not None:
            say = _say_nothing if options.worker else print  # who leads says it once
            return replay.read_requests(options.payloads, reference, rows=options.rows, say=say)
        if options.rows > reference.rows:
            raise SettingsError(
                f"--rows {options.rows}: the reference of {reference.model} has {reference.rows} rows; give --rows "
                f"{reference.rows} or fewer"
            )
        if options.rows > (most := reference.spec.max_sizes.get(BATCH, options.rows)):
            raise SettingsError(
                f"--rows {options.rows}: {reference.model} takes at most {most} rows; give --rows {most} or fewer"
            )
        return from_reference(reference, rows=options.rows, seed=options.seed)

    def _encode(self, target: Target) -> list[Payload]:
        # The no-op server gets the requests of the first model; of its answer only the bytes are looked at.
        planned = self._planned.get(target.measurement.path.model) or next(iter(self._planned.values()))
        payloads = encoded(planned, target.model, target.encode)
        if target.measurement == NO_OP:
            return [payload._replace(expected=()) for payload in payloads]
        path = target.measurement.path
        return on_path(payloads, self._exports, *path, self._known_by.get(path.model))

    def _describe(self, file: Path | None) -> dict[str, Any]:
        """Return what run.json says of the payloads. Raises SettingsError for a file that cannot be read."""
        expected = FROM_REFERENCE if file is None else FROM_FILE
        models = {model: {"expected": expected, **shapes(planned)} for model, planned in self._planned.items()}
        if file is None:
            return {"source": "reference", "models": models}
        return {"source": "file", "file": file.name, "sha256": replay.fingerprint(file), "models": models}


def _say_nothing(_: str) -> None:
    pass


def _load(this_run: run.Run, measurements: Sequence[Measurement], session: Session, options: LoadOptions) -> None:
    """Warm up, and load all rounds. Raises InterruptedRun."""
    load, begin_s = load_of(options), time.monotonic()
    rounds = _most_rounds(measurements, options)
    with Report(Console(highlight=False), len(measurements), rounds) as report:
        minutes = rounds * len(measurements) * load.measurement_s / 60
        report.say(
            f"{this_run.folder}: {_length(options)} of {len(measurements)} measurements, {load.load_model}, "
            f"{load.rate:g} requests/s, seed {options.seed}; {'at most ' if options.difference else ''}{minutes:.1f} "
            "minutes of load after the warm-up"
        )
        try:
            # What looks is a program that takes a second of CPU to start: before the warm-up, not in the first round.
            with until_known.asking(this_run.folder) if options.difference else nullcontext() as ask:
                session.warm_up(measurements, report.warming)
                report.warmed(this_run.warmup)
                if ask is None or options.difference is None:
                    _load_rounds(this_run, plan.draw(measurements, rounds, options.seed), session, report)
                else:
                    limit = until_known.Limit(options.difference, options.minutes, begin_s)
                    until_known.load(this_run, measurements, session, report, limit=limit, ask=ask)
        except InterruptedRun:
            this_run.save(complete=False)
            ended = len(this_run.measurements) // len(measurements)
            report.say(f"interrupted; {this_run.folder} holds {ended} whole rounds and is marked incomplete")
            raise


def _load_rounds(this_run: run.Run, turns: Sequence[plan.Turn], session: Session, report: Report) -> None:
    for number, turn in enumerate(turns, start=1):
        this_run.measurements.append(session.turn(turn))
        this_run.save(complete=number == len(turns))
        report.loaded(turn, this_run.measurements[-1])


def _most_rounds(measurements: Sequence[Measurement], options: LoadOptions) -> int:
    """Return how many rounds there are to be, or how many a limit lets be at most."""
    if options.difference is None:
        return options.rounds
    return max(1, math.floor(60 * options.minutes / (len(measurements) * load_of(options).measurement_s)))


def _length(options: LoadOptions) -> str:
    if options.difference is None:
        return f"{options.rounds} rounds"
    return f"rounds until {100 * options.difference:g} % is known, for at most {options.minutes:g} minutes,"


def workers_of(
    generator: Generator, options: LoadOptions, words: Sequence[str], interruption: Interruption
) -> AbstractContextManager[Workers]:
    """Return this process as the only worker, or lead others. argv: the load test's command line, for them."""
    if not options.leads:
        return here(generator, interruption)
    count, words = options.worker_count, [*words, "--seed", str(options.seed)]
    return elsewhere(words, options.processes, count, options.listen or ("127.0.0.1", 0), interruption)


def _schedule(options: LoadOptions) -> str:
    if options.leads:
        return "scheduling: set by each worker"
    return "ordinary scheduling" if options.no_real_time else keep_on_time()


def _facts(options: LoadOptions, conditions: dict[Measurement, dict[str, Any]], ours: Instrument) -> dict[str, Any]:
    commit = git_commit()
    of_run = {
        "environment": options.environment,
        "commit": commit,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "temperatures": host.temperatures(),
        "generator": f"{options.worker_count} workers, {ours.about}",
    }
    return {
        "seed": options.seed,
        "load_model": options.load_model,
        "rounds": _most_rounds(ours.measurements, options),
        "arguments": {each.name: _plain(getattr(options, each.name)) for each in fields(options)},
        "host": host.describe(),
        "git_commit": commit,
        "clock": host.clock(),
        "fairness": fairness.manifest(of_run, conditions),
        "allowed": sorted(set(options.allow)),
    }


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return "=".join(map(str, value))
    if isinstance(value, dict):  # --targets, without the names of hosts
        return ",".join(f"{name}=HOST:PORT" for name in value)
    return str(value) if isinstance(value, Path) else value
