"""The capacity of each path in turn: warm up, search, overload, and what the generator itself could do at that rate."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from loadtest import plan, server
from loadtest.calls import Clock
from loadtest.capacity import certify, overload, step
from loadtest.capacity.attachment import NAME, Attachment
from loadtest.capacity.options import CapacityOptions
from loadtest.capacity.search import FIRST_RPS, MAX_INVALID, Found, Limit, Outcome, Result, Search, conclude
from loadtest.config import Settings, read_settings
from loadtest.loaded_run import OF_SERVER
from loadtest.measurement_spec import RAMP_UP_S, MeasurementSpec
from loadtest.options import LoadOptions
from loadtest.plan import NO_OP, Measurement, Turn
from loadtest.program import instrument, workers_of
from loadtest.recorder import write_file
from loadtest.run import RunError
from loadtest.session import check_reachable, warm_up
from loadtest.workers import InterruptedRun, Loaded, Workers
from servepath.artifacts.commit import git_commit
from servepath.results.names import OPEN_POISSON

# Of a path's time: each of the two overloads, and what follows it. The rest of it warms up and searches.
OVERLOAD_SHARE, AFTER_SHARE = overload.OVERLOAD_S / 90, overload.AFTER_S / 90
SEARCH_SHARE = 1 - len(overload.FACTORS) * (OVERLOAD_SHARE + AFTER_SHARE) - 0.04
# a trial at which this share of the requests is over the objective cannot end well: 10 times what is allowed.
HOPELESS = 0.1


def run_all(
    paths: Sequence[plan.ServingPath], options: CapacityOptions, load: LoadOptions, words: Sequence[str]
) -> int:
    """Find all capacities; return 0, or the number of the signal that ended it early.

    options: what `python -m loadtest.capacity` was told; load, words: the same generator as the load test's, and its
    command line for workers. Raises SettingsError, ArtifactError, RunError or OSError.
    """
    console = Console(highlight=False)
    with instrument(paths, load) as ours:
        answers = check_reachable(ours.prepared.loaded, ours.clock)
        settings = read_settings(load.env_file, deployments=plan.read_deployments(load.deployments))
        measurements = [measurement for measurement in ours.measurements if measurement != NO_OP]
        facts = _facts(options, load, ours.about) | {"payloads": ours.prepared.payloads}
        attachment = Attachment(options.run, facts)
        settings_of = {each: ours.prepared.in_use(each, answers[each], load)["settings"] for each in measurements}
        attachment.begin({each: answers[each] for each in measurements})
        for text in attachment.gone():
            console.print(text, markup=False, soft_wrap=True)
        try:
            with workers_of(ours.generator, load, words, ours.interruption) as workers:
                for measurement in measurements:
                    testbed = Testbed(
                        workers, ours.clock, options, load, lambda text: console.print(text, soft_wrap=True)
                    )
                    own = {key: answers[measurement][key] for key in OF_SERVER}
                    about = {"cores": _cores(measurement, settings), "settings": settings_of[measurement], **own}
                    _find(testbed, measurement, about, attachment)
                    attachment.save()
        except (InterruptedRun, RunError) as error:
            attachment.save()
            if isinstance(error, RunError):
                raise
            marked = "" if attachment.complete else ", marked incomplete"
            what = f"holds the results so far{marked}" if attachment.added else "is as it was"
            console.print(f"interrupted; {attachment.folder / NAME} {what}")
            return ours.interruption.signal or 0
    return 0


def _find(testbed: "Testbed", measurement: Measurement, about: dict[str, Any], attachment: Attachment) -> None:
    """Find a measurement's capacity and add it; also what an interrupted search found. about: the path's servers."""
    on = CapacitySearch(testbed, measurement, lambda number: attachment.rows_file(measurement, number))
    search = Search(on.attempt, on.left_s)
    more: dict[str, Any] = {}
    ended = False
    try:
        on.warm_up()
        if not on.wrong_outside:
            search.run()
        found = conclude(search.trials, on.wrong_outside)
        testbed.say(f"{measurement.path} {measurement.via}: {_sentence(found, testbed.options.slo_p99_ms)}")
        if found.rate is not None and found.limit is Limit.SERVER:
            more["overload"] = [on.overload(found.rate, factor) for factor in overload.FACTORS]
            if on.wrong_outside:
                found = conclude(search.trials, on.wrong_outside)
                testbed.say(f"{measurement.path} {measurement.via}: {_sentence(found, testbed.options.slo_p99_ms)}")
        more["null"] = on.no_op(found)
        ended = True
    finally:
        found = conclude(search.trials, on.wrong_outside)
        entry = {
            **measurement.path._asdict(),
            "via": measurement.via,
            "rate_rps": found.rate,
            "low_rps": _whole(found.low),
            "high_rps": _whole(found.high),
            "limit": found.limit,
            **about,
            "steps": on.steps,
            **more,
        }
        attachment.add(measurement, entry, ended=ended)


@dataclass(frozen=True, slots=True)
class Testbed:
    """What all measurements are searched with. say: prints a line."""

    workers: Workers
    clock: Clock
    options: CapacityOptions
    load: LoadOptions
    say: Callable[[str], None]


class CapacitySearch:
    """One path and way: every step of it, its rows kept.

    rows_file: where the rows of a step go, by its number. steps: as capacity.json has them. wrong_outside: wrong
    answers in the warm-up or under more than the capacity.
    """

    def __init__(self, testbed: Testbed, measurement: Measurement, rows_file: Callable[[int], Path]) -> None:
        self._testbed = testbed
        self._rows_file = rows_file
        self._measurement = measurement
        self._slo_us = testbed.options.slo_p99_ms * 1e3
        self._began_s = time.monotonic()
        self._number = 0
        self.steps: list[dict[str, Any]] = []
        self.wrong_outside = 0

    def left_s(self) -> float:
        """Return how much of the search's time is left."""
        return self._testbed.options.seconds * SEARCH_SHARE - (time.monotonic() - self._began_s)

    def warm_up(self) -> None:
        """Load until the path is stable; of its rows only the wrong answers are counted. Raises InterruptedRun."""
        warm = warm_up(self._spec(FIRST_RPS, 1), min(self._testbed.load.warmup, self.left_s() / 4), self._send)
        self.wrong_outside += sum(int(step.wrong_in(table).sum()) for table in warm.tables)

    def attempt(self, rate: float) -> Result:
        """Run a trial at a rate. Raises InterruptedRun."""
        planned = certify.requests_of(rate)
        spec = self._spec(rate, planned, over_us=self._slo_us, most_over=math.ceil(HOPELESS * planned))
        loaded = self._load(spec)
        tried = step.judge(loaded.table, loaded.facts, rate=rate, slo_us=self._slo_us, planned=planned)
        self.steps.append(tried.to_dict())
        self._say(tried)
        return tried.result

    def overload(self, capacity: float, factor: float) -> dict[str, Any]:
        """Load with more than the capacity for a moment, and then with half of it. Raises InterruptedRun."""
        rate, after = capacity * factor, capacity * overload.AFTER_SHARE
        seconds = self._testbed.options.seconds
        count = math.ceil(rate * seconds * OVERLOAD_SHARE)
        spec = self._spec(
            rate, count, ramp_up=0, then_rate=after, then_requests=math.ceil(after * seconds * AFTER_SHARE)
        )
        loaded = self._load(spec)
        found = overload.judge(loaded.table, loaded.facts, factor=factor, overload=count, slo_us=self._slo_us)
        self.wrong_outside += found["wrong_answers"]
        back = "did not recover" if found["recovery_s"] is None else f"recovered in {found['recovery_s']:.1f} s"
        wrong = f", {found['wrong_answers']:,} incorrect" if found["wrong_answers"] else ""
        self._tell(
            f"{factor:g} times the capacity: {found['goodput_rps']:,.0f} correct in time a second, "
            f"{found['refused_share']:.0%} refused{wrong}, {back}"
        )
        return found

    def no_op(self, found: Found) -> dict[str, Any] | None:
        """Load the no-op server at the rate that was found, or that the generator failed at. Raises InterruptedRun."""
        invalid = [each["rate_rps"] for each in self.steps if each["outcome"] is Outcome.INVALID]
        stuck = [rate for rate in invalid if invalid.count(rate) >= MAX_INVALID]
        rate = min(stuck, default=None) if found.limit is Limit.GENERATOR else found.rate
        if rate is None:
            return None
        planned = certify.requests_of(rate)
        loaded = self._send(self._spec(rate, planned, measurement=NO_OP))
        tried = step.judge(loaded.table, loaded.facts, rate=rate, slo_us=self._slo_us, planned=planned)
        self._tell(f"the no-op server at {_figures(tried)}")
        keys = ("rate_rps", "p99_ms", "late_share", "generator_cpu")
        return {key: getattr(tried, key) for key in keys} | {"valid": not step.unfit(tried)}

    def _spec(
        self, rate: float, requests: int, *, measurement: Measurement | None = None, **more: Any
    ) -> MeasurementSpec:
        turn = Turn(self._number, measurement or self._measurement)
        ramp_up = more.pop("ramp_up", math.ceil(rate * RAMP_UP_S))
        seed = f"{self._testbed.options.seed}/{self._number}"
        fixed: dict[str, Any] = {
            "connections": self._testbed.load.connections,
            "seed": seed,
            "workers": 1,
            "begin_ns": 0,
        }
        return MeasurementSpec(turn, OPEN_POISSON, rate, ramp_up, requests, **fixed, **more)

    def _load(self, spec: MeasurementSpec) -> Loaded:
        loaded = self._send(spec)
        run = pa.array([self._testbed.options.run.name] * loaded.table.num_rows, pa.string())
        write_file(loaded.table.set_column(0, "run", run), self._rows_file(self._number))
        self._number += 1
        return loaded

    def _send(self, spec: MeasurementSpec) -> Loaded:
        return self._testbed.workers.load(spec, self._testbed.clock.now_ns())

    def _say(self, tried: step.Step) -> None:
        said = ", ".join(text for text in (tried.outcome.value, tried.stopped, step.unfit(tried)) if text)
        self._tell(f"{_figures(tried)}: {said}")

    def _tell(self, text: str) -> None:
        self._testbed.say(f"{self._measurement.path} {self._measurement.via} {text}")


def _figures(tried: step.Step) -> str:
    p99 = "-" if tried.p99_ms is None else f"{tried.p99_ms:.2f} ms"
    return f"{tried.rate_rps:,.0f} req/s: p99 {p99}, {tried.over:,} of {tried.requests:,} over"


def _sentence(found: Found, slo_p99_ms: float) -> str:
    if found.limit is Limit.WRONG:
        return "incorrect responses, so no capacity"
    if found.rate is None:
        return f"no rate passed at p99 below {slo_p99_ms:g} ms"
    if found.limit is Limit.GENERATOR:
        return f"at least {found.rate:,.0f} req/s (the generator's limit) at p99 below {slo_p99_ms:g} ms"
    low, high = ("?" if bound is None else f"{bound:,.0f}" for bound in (found.low, found.high))
    return f"{found.rate:,.0f} req/s at p99 below {slo_p99_ms:g} ms ({low}..{high})"


def _cores(measurement: Measurement, settings: Settings) -> float | None:
    return server.cores([settings.addresses[name] for name in plan.servers_of(measurement)])


def _facts(options: CapacityOptions, load: LoadOptions, about: str) -> dict[str, Any]:
    return {
        "slo_p99_ms": options.slo_p99_ms,
        "wanted_rps": options.wanted_rps,
        "seconds": options.seconds,
        "seed": options.seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "generator": f"{load.worker_count} workers, {about}",
    }


def _whole(value: float | None) -> float | None:
    return None if value is None else float(round(value))
