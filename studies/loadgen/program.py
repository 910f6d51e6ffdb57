"""A cross-check.

Every path and way by every instrument in each round, in an order drawn for each round, one measurement at a time.
"""

import importlib.util
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import gevent
import pyarrow as pa
from pyarrow import parquet
from rich.console import Console

from loadtest import host, no_op, plan
from loadtest.calls import Clock
from loadtest.generator import Loaded
from loadtest.plan import NO_OP, Measurement, Turn
from loadtest.progress import Report
from loadtest.recorder import MEASURE
from loadtest.run import RunError, new_folder
from loadtest.session import check_reachable
from loadtest.timer import best_timer
from loadtest.warmup import WINDOW_S, stable
from servepath.artifacts import atomic
from servepath.artifacts.commit import git_commit
from servepath.cli.signals import leave_terminal, stop_signals
from servepath.results.names import CROSSCHECK_FILE, EVEN, H2LOAD, INSTRUMENTS, LOADGEN, POISSON, VIAS
from servepath.settings import SettingsError
from studies.loadgen import h2load
from studies.loadgen.aim import aim
from studies.loadgen.instruments import ABOUT, Job, order
from studies.loadgen.options import StudyOptions
from studies.loadgen.ours import Ours
from studies.loadgen.rows import worth_another_try, write

SCHEMA = 2
# Unmeasured at the beginning of every measurement, as in a load test.
RAMP_UP_S = 0.15

Instrument = Callable[[Job], pa.Table]


def versions() -> dict[str, str]:
    """Return the other instruments' versions. Raises SettingsError naming the missing one and the fix."""
    if importlib.util.find_spec("mlperf_loadgen") is None:
        raise SettingsError("MLPerf LoadGen (mlcommons-loadgen) is not installed; run: make setup")
    return {LOADGEN: metadata.version("mlcommons-loadgen"), H2LOAD: h2load.version()}


@dataclass(slots=True)
class Record:
    """What crosscheck.json says; measurements: of those that ended, in the order run."""

    folder: Path
    facts: Mapping[str, Any]
    measurements: list[dict[str, Any]]

    def save(self, *, complete: bool) -> None:
        """Write it. `complete` says that every planned measurement has ended."""
        content = {**self.facts, "measurements": self.measurements, "complete": complete}
        if complete:
            content["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        atomic.write_file(self.folder / CROSSCHECK_FILE, json.dumps(content, indent=2) + "\n")


def run_all(paths: Sequence[plan.ServingPath], options: StudyOptions) -> Path:
    """Load every measurement and return the folder of their rows.

    Raises SettingsError, ArtifactError, RunError, OSError.
    """
    known = versions()
    # Python's own handler would raise in whichever greenlet runs, and gevent would print that.
    for number in stop_signals():
        gevent.signal_handler(number, _interrupt, number, gevent.getcurrent())
    measurements = plan.measurements_of(paths, VIAS if options.via == "both" else (options.via,))
    with ExitStack() as stack:
        address = stack.enter_context(no_op.endpoint())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        jobs = {
            measurement: _job(measurement, address, paths[0].model, scratch, options) for measurement in measurements
        }
        instruments = stack.enter_context(_instruments(jobs))
        now = datetime.now(UTC)
        folder = new_folder(options.out, now)
        record = Record(folder, _facts(measurements, known, now, options), [])
        record.save(complete=False)
        _load(record, jobs, instruments, options)
    return folder


def _interrupt(number: int, greenlet: gevent.Greenlet) -> None:
    leave_terminal(number)
    gevent.kill(greenlet, KeyboardInterrupt)


def _job(measurement: Measurement, address: str, model: str, scratch: Path, options: StudyOptions) -> Job:
    return Job(
        measurement=measurement,
        no_op=address,
        model=model,
        rate=options.rate,
        ramp_up=math.ceil(options.rate * RAMP_UP_S),
        requests=max(options.min_requests, math.ceil(options.rate * options.seconds)),
        seed=options.seed,
        exports=options.exports,
        env_file=options.env_file,
        folder=scratch,
    )


@contextmanager
def _instruments(jobs: Mapping[Measurement, Job]) -> Iterator[dict[str, Instrument]]:
    """Yield the instruments by name, once every path has answered. Raises SettingsError."""
    clock, timer = Clock(), best_timer()
    loaded: list[Loaded] = [aim(job) for job in jobs.values()]
    check_reachable(loaded, clock)
    connections = next(iter(jobs.values())).connections
    ours = {name: Ours(name, loaded, connections, clock, timer) for name in (POISSON, EVEN)}
    try:
        yield {POISSON: ours[POISSON].run, LOADGEN: _loadgen, EVEN: ours[EVEN].run, H2LOAD: h2load.run}
    finally:
        for each in ours.values():
            each.close()
        timer.close()


def _loadgen(job: Job) -> pa.Table:
    """Load a measurement by LoadGen in a process of its own. Raises RunError."""
    out = job.folder / "rows.parquet"
    command = [sys.executable, "-m", "studies.loadgen.loadgen", job.to_json(), str(out)]
    try:
        subprocess.run(command, check=True, timeout=job.limit_s, process_group=0)
    except subprocess.TimeoutExpired:
        raise RunError(f"{job.measurement}: LoadGen did not end within {job.limit_s:.0f} s") from None
    except subprocess.CalledProcessError as error:
        raise RunError(f"{job.measurement}: LoadGen's process failed ({error.returncode}), see above") from None
    return parquet.read_table(out)


def _load(
    record: Record, jobs: Mapping[Measurement, Job], instruments: Mapping[str, Instrument], options: StudyOptions
) -> None:
    with Report(Console(highlight=False), len(jobs) * len(INSTRUMENTS), options.rounds) as report:
        each_s = next(iter(jobs.values())).count / options.rate
        total_s = each_s * len(jobs) * len(INSTRUMENTS) * options.rounds
        report.say(
            f"{record.folder}: {options.rounds} rounds of {len(jobs)} measurements by {len(INSTRUMENTS)} instruments, "
            f"{options.rate:g} requests/s, seed {options.seed}; {total_s / 60:.1f} minutes of load, and the warm-up"
        )
        report.warmed([_warm_up(job, instruments[EVEN], options.warmup, report) for job in jobs.values()])
        turns = list(order(list(jobs), options.rounds, options.seed))
        try:
            for position, (turn, name) in enumerate(turns, start=1):
                job = replace(jobs[turn.measurement], seed=options.seed + turn.round)
                record.measurements.append(_measurement(record.folder, turn, name, job, instruments[name]))
                record.save(complete=position == len(turns))
                report.loaded(turn, record.measurements[-1])
        except KeyboardInterrupt:
            report.say(
                f"interrupted; {record.folder} holds {len(record.measurements)} measurements and is marked incomplete"
            )
            raise


def _measurement(folder: Path, turn: Turn, name: str, job: Job, instrument: Instrument) -> dict[str, Any]:
    # Once more if it failed: TorchServe changes its key twice an hour, and h2load cannot change its header in a
    # measurement.
    try:
        rows = instrument(job)
        failed = worth_another_try(rows)
    except RunError:
        failed = True
    if failed:
        rows = instrument(job)
    seen = [row for row in rows.to_pylist() if row["phase"] == MEASURE]
    return {
        "round": turn.round,
        **turn.measurement.to_dict(),
        "instrument": name,
        "requests": len(seen),
        "errors": sum(not row["ok"] for row in seen),
        "wrong_answers": sum(row["wrong"] is True for row in seen),
        "attempts": 1 + failed,
        "rows": write(rows, folder, turn, name),
    }


def _warm_up(job: Job, instrument: Instrument, most_s: float, report: Report) -> dict[str, Any]:
    """Warm up a path until it is stable, by the load test's rule; its rows are not kept."""
    report.warming(job.measurement)
    job = replace(job, ramp_up=max(1, round(job.rate * WINDOW_S)), requests=0)
    medians_us: list[float] = []
    began_s = time.monotonic()
    while not (settled := stable(medians_us)) and time.monotonic() - began_s < most_s:
        medians_us.append(statistics.median(instrument(job)["service_us"].to_pylist()))
    return {
        **job.measurement.to_dict(),
        "seconds": time.monotonic() - began_s,
        "stable": settled,
    }


def _facts(
    measurements: Sequence[Measurement], known: Mapping[str, str], now: datetime, options: StudyOptions
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "started": now.isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "host": host.describe(),
        "rate_rps": options.rate,
        "rounds": options.rounds,
        "seed": options.seed,
        "instruments": {
            name: {"about": ABOUT[name], "version": known.get(name, "of this commit")} for name in INSTRUMENTS
        },
        "expected": [measurement.to_dict() for measurement in measurements if measurement != NO_OP],
    }
