"""Each path in its share of the time: the default's services, the search, the file of what it found."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtest import plan
from loadtest.calls import Caller
from loadtest.measurement_spec import MeasurementSpec
from loadtest.options import LoadOptions, argument_parser
from loadtest.plan import Measurement, ServingPath
from loadtest.program import Instrument, Prepared, instrument, measurements_of, workers_of
from loadtest.run import RunError
from loadtest.session import check_reachable, warm_up
from loadtest.tune import loop, telling
from loadtest.tune.artifact import current_sha256, refuse_other
from loadtest.tune.bench import CANDIDATE_SIDE, DEFAULT_SIDE, GATEWAY, Bench, path_of, start_default
from loadtest.tune.conclusion import Conclusion, conclude
from loadtest.tune.history import History
from loadtest.tune.kept import kept
from loadtest.tune.options import TuneOptions, load_words, requests_of
from loadtest.tune.search import Search
from loadtest.tune.servers import Servers, side_in
from loadtest.tune.space import Candidate, space_of
from loadtest.tune.turns import in_turn
from loadtest.workers import InterruptedRun, Interruption, Loaded, Workers
from servepath.artifacts import atomic
from servepath.artifacts.commit import git_commit, names_code
from servepath.cli.cores import host_kind, usable_cores
from servepath.protocols import tuned
from servepath.protocols.stacks import GATEWAY_TUNABLES, PATH_STACKS
from servepath.protocols.tuned import PRECISION, Tuned

SIDES = (DEFAULT_SIDE, CANDIDATE_SIDE)
# Of the time; services stop in the rest.
LOAD_SHARE = 0.95
# A fresh server is slower at first; it is loaded until it is steady, at most so long.
WARM_S = 6.0
# The address of a no-op server that nobody calls.
NO_SERVER = "127.0.0.1:1"


def tune_all(paths: Sequence[ServingPath], options: TuneOptions) -> int:
    """Tune paths, one after another; return the exit code."""
    console, interruption = Console(highlight=False), Interruption()
    return in_turn(
        paths,
        options.budget,
        lambda path, seconds: Tuning(path, options, console, seconds, interruption).run(),
        lambda: interruption.signal,
    )


class Tuning:
    """One path's tuning, in so many seconds."""

    def __init__(
        self, path: ServingPath, options: TuneOptions, console: Console, seconds: float, interruption: Interruption
    ) -> None:
        self._path = path
        self._options = options
        self._console = console
        self._interruption = interruption
        self._end_s = time.monotonic() + LOAD_SHARE * seconds
        self._precisions = precisions_of(path, options.deployments) if options.precision else []
        self._listed = plan.read_deployments(options.deployments)
        self._identity: dict[str, str] = {}
        self._artifacts: dict[ServingPath, str] = {}
        self._commit = git_commit()

    def run(self) -> int:
        """Tune, write the file, and return the number of the signal that ended it, or 0."""
        options = self._options
        self._say(f"{telling.minutes(self._left_s())} for {_goal(options)}")
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="servepath-tune-")))
            sides = {name: side_in(folder, name, options.exports) for name in SIDES}
            words = load_words(options, {name: folder / f"{name}.env" for name in SIDES})
            load = argument_parser().read(LoadOptions, words)
            paths = [path_of(self._path, ((PRECISION, each),) if each else ()) for each in ("", *self._precisions)]
            self._artifacts = {path: current_sha256(options.exports, path) for path in paths}
            # Requests that cannot be used are said before services start for them.
            Prepared(measurements_of(paths, load), load, NO_SERVER)
            names = [PATH_STACKS[self._path.stack].service, GATEWAY]
            servers = {
                name: Servers(side, names, options.deployments.absolute(), self._interruption)
                for name, side in sides.items()
            }
            for each in servers.values():
                stack.callback(each.stop)
            try:
                # First: for requests without known answers `instrument` asks the default for them.
                start_default(servers[DEFAULT_SIDE])
                ours = stack.enter_context(instrument(paths, load, self._interruption))
                workers = stack.enter_context(workers_of(ours.generator, load, [], self._interruption))
                self._search(ours, workers, servers)
            except (InterruptedRun, KeyboardInterrupt):  # the latter while answers are learned
                goes_on = "goes on from here" if names_code(self._commit) else "begins again: no commit names this code"
                self._say(f"interrupted; the same command {goes_on}")
        # It may have come while the services stopped.
        return self._interruption.signal or 0

    def _search(self, ours: Instrument, workers: Workers, servers: dict[str, Servers]) -> None:
        own = self._ask_default(ours)
        history = History.read(self._options.out / f"{self._path}.trials.json", *self._context(ours))
        if history.unnamed:
            self._say(f"begins again: no commit names the code of the trials in {history.file}: it may be other code")
        if history.trials:
            self._say(f"going on from {len(history.trials)} trials in {history.file}")
        bench = self._bench(ours, workers, servers, history.seed)
        search, trials = Search(self._space(), history.seed), history.trials
        try:
            with closing(Caller(own[0], ours.clock)) as caller:
                bench.begin(caller, own[1])
            loop.run(
                search,
                bench,
                history,
                self._left_s,
                lambda trial: self._say(telling.trial_line(trial, trials, self._left_s())),
            )
        except (InterruptedRun, RunError):
            self._conclude(history)
            raise
        if not history.trials:
            raise RunError("there was no time for a trial: give it more --budget")
        self._conclude(history)

    def _conclude(self, history: History) -> None:
        """Write the file of what was found, if anything was tried. Raises RunError where it is for another artifact."""
        if not history.trials:
            return
        found = conclude(history.trials, history.look)
        if found.confirmed:
            history.keep_look()
        for line in telling.conclusion_lines(found):
            self._say(line)
        file = tuned.file_of(self._options.out, str(self._path))
        made = self._tuned(found.settings, history.seed, found)
        if made.artifact_sha256 != current_sha256(self._options.exports, path_of(self._path, found.settings)):
            raise RunError(f"{file} is not written, as the model was exported meanwhile; give the same command again")
        if stays := kept(file, made, self._options.exports):
            self._say(f"{file} stays, which was confirmed: {stays}")
            return
        atomic.write_file(file, made.to_toml())
        self._say(f"{file}; servepath up --tuned applies it")

    def _ask_default(self, ours: Instrument) -> Any:
        """Return the default's target and payloads, and keep who answers there. Raises SettingsError."""
        measurement = Measurement(self._path, GATEWAY, DEFAULT_SIDE)
        own = next(loaded for loaded in ours.prepared.loaded if loaded[0].measurement == measurement)
        self._identity = check_reachable([own], ours.clock)[measurement]
        # A version that was not exported here has no hash: then it is the current one.
        self._identity["artifact"] = self._identity["artifact"] or self._artifacts[self._path]
        self._artifacts[self._path] = self._identity["artifact"]
        return own

    def _bench(self, ours: Instrument, workers: Workers, servers: dict[str, Servers], seed: int) -> Bench:
        options = self._options

        def send(spec: MeasurementSpec) -> Loaded:
            loaded, path = workers.load(spec, ours.clock.now_ns()), spec.turn.measurement.path
            refuse_other(loaded.table, path, self._artifacts[path])
            return loaded

        return Bench(
            path=self._path,
            goal=options.goal,
            slo_us=options.slo_p99_ms * 1e3,
            rate=options.rate or 0.0,
            connections=options.connections,
            seed=seed,
            sides=servers,
            send=lambda spec: send(spec).table,
            warm=lambda spec: warm_up(spec, WARM_S, send).tables,
            tuned_of=lambda candidate: self._tuned(candidate, seed),
        )

    def _context(self, ours: Instrument) -> tuple[dict[str, Any], int | None]:
        options = self._options
        context = {
            "path": str(self._path),
            "goal": options.goal,
            "slo_p99_ms": options.slo_p99_ms,
            "rate_rps": options.rate or 0.0,
            "connections": options.connections,
            "precisions": self._precisions,
            "payloads": ours.prepared.payloads,
            "host": host_kind(),
            "default_limits": tuned.limits_of(self._listed, str(self._path)),
            "git_commit": self._commit,
            **self._identity,
        }
        return context, options.seed

    def _space(self) -> dict[str, Any]:
        limits = self._listed.paths[self._path]
        in_use = {tunable.name: getattr(limits, tunable.name) for tunable in GATEWAY_TUNABLES}
        stack = PATH_STACKS[self._path.stack]
        return space_of(stack, cores=usable_cores(), in_use=in_use, precisions=self._precisions)

    def _tuned(self, candidate: Candidate, seed: int, found: Conclusion | None = None) -> Tuned:
        """Return a candidate's settings as a file has them; those of a trial know no ratio yet."""
        options, path = self._options, path_of(self._path, candidate)
        unused = found is not None and found.candidate != candidate
        return Tuned(
            path=str(path),
            settings={name: value for name, value in candidate if isinstance(value, int)},
            goal=options.goal,
            slo_p99_ms=options.slo_p99_ms,
            rate_rps=options.rate or 0.0,
            ratio=round(found.ratio, 4) if found else 1.0,
            low=round(found.low, 4) if found else 1.0,
            high=round(found.high, 4) if found else 1.0,
            rounds=found.rounds if found else 0,
            confirmed=found.confirmed if found else False,
            trials=found.trials if found else 0,
            best=telling.named(found.candidate) if found and unused else "",
            date=datetime.now(UTC).date().isoformat(),
            host=host_kind(),
            engine=f"{self._identity['engine']} {self._identity['engine_version']}",
            # A trial starts with what is current; if that is another one than at the start, its answers end the search.
            artifact_sha256=self._artifacts[path] if found else current_sha256(options.exports, path),
            # A trial's file has the name of the path that it asks.
            default_limits=tuned.limits_of(self._listed, str(self._path if found else path)),
            git_commit=self._commit,
            seed=seed,
            requests=requests_of(options),
        )

    def _left_s(self) -> float:
        return self._end_s - time.monotonic()

    def _say(self, text: str) -> None:
        self._console.print(f"{self._path}: {text}", markup=False, soft_wrap=True)


def precisions_of(path: ServingPath, deployments: Path) -> list[str]:
    """Return the reduced precisions in which deployments.toml has the model on the path's stack."""
    begin = f"{path.stack}:"
    known = [other.stack for other in plan.read_own_paths(deployments) if other.model == path.model]
    return [stack.removeprefix(begin) for stack in known if stack.startswith(begin)]


def _goal(options: TuneOptions) -> str:
    if options.goal == "rate":
        return f"the highest rate at p99 below {options.slo_p99_ms:g} ms"
    what = "latency" if options.goal == "latency" else "CPU per request"
    return f"the lowest {what} at {options.rate:g} requests/s"
