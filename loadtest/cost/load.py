"""Load by `python -m loadtest` while the CPU of services is sampled: what each measurement's requests cost them."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pyarrow import parquet

from loadtest.cost.gpu import Gpus, Reading
from loadtest.cost.process_tree import Cpu
from loadtest.cost.sampler import Sampler
from loadtest.fairness import DECLARABLE
from loadtest.loaded_run import OF_SERVER, LoadedRun
from loadtest.payloads import from_reference, load_reference, shapes
from servepath.cli.children import run_and_wait
from servepath.results.names import NO_OP_NAME, RUN_FILE
from servepath.results.thresholds import MAX_DRIFT_US

# Reading the clock of a few processes takes microseconds; NVML takes longer.
CPU_EVERY_S, GPU_EVERY_S = 0.02, 0.2
LOAD_S = 300
TAIL_CHARACTERS = 2000
# Enough measurements to see how far they differ.
ROUNDS = 3
# The longest warm-up, in measurements.
WARMUP = 1.5


class LoadError(Exception):
    """The load test failed; the text has the end of what it said."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to load. measurement_s: of each measurement. words: further ones of `python -m loadtest`.

    environment: with the services' addresses. run: what is measured is added to. rounds: measurements of each path.
    """

    rate: float
    measurement_s: float
    words: Sequence[str]
    environment: Mapping[str, str]
    run: LoadedRun
    rounds: int = ROUNDS


class Measurement(NamedTuple):
    """One measurement. cpu_s: of each service meanwhile. bad: errors and wrong_answers. gpu: what was read meanwhile.

    engine: name and version of who answered. artifact: its sha256. settings: as run.json says them.
    wrong_answers: those of the ramp-up among them.
    """

    path: tuple[str, str]
    engine: tuple[str, str]
    requests: int
    bad: int
    cpu_s: Mapping[str, float]
    gpu: tuple[Reading, ...]
    settings: str = "default"
    artifact: str = ""
    wrong_answers: int = 0


def refuse_other_requests(run: LoadedRun, exports: Path, models: Collection[str]) -> None:
    """Raise SettingsError unless the run sent rows of the references one by one, as this load does."""
    if "payloads" in run.facts:
        references = {model: load_reference(exports, model) for model in models}
        sent = {model: shapes(from_reference(each, rows=1, seed=0)) for model, each in references.items()}
        fix = "a scorecard is of one row of the reference a request: make loadtest, without PAYLOADS and --rows"
        run.refuse_other_requests({"models": sent}, models, fix)


def load(
    plan: Plan, names: Sequence[str], via: str, services: Mapping[str, Sequence[int]], gpus: Gpus | None
) -> list[Measurement]:
    """Load paths one way and return their measurements. services: processes by service.

    Raises LoadError, and SettingsError where others answer than the run loaded.
    """
    with tempfile.TemporaryDirectory(prefix="scorecard-") as folder, ExitStack() as stack:
        watched = {name: stack.enter_context(watch(pids)) for name, pids in services.items()}
        gpu = stack.enter_context(Sampler(gpus.read, GPU_EVERY_S)) if gpus else None
        _run(plan, ("--paths", ",".join(names), "--via", via, "--out", folder))
        stack.close()
        refuse_drift([*watched.values(), *([gpu] if gpu else [])])
        facts = json.loads((Path(folder) / "latest" / RUN_FILE).read_text())
        plan.run.refuse_other_servers(answered(facts))
        return list(measurements(Path(folder) / "latest", facts, watched, gpu.samples if gpu else ()))


def answered(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return who answered a run, by the measurement: what `LoadedRun.refuse_other_servers` takes."""
    paths = facts["fairness"]["paths"]
    return {name: {key: said[key]["value"] for key in OF_SERVER} for name, said in paths.items()}


def refuse_drift(samplers: Sequence[Sampler[Any]]) -> None:
    """Raise LoadError where the wall clock left the samplers': rows and samples may then have other times."""
    drift_us = max((one.drift_us for one in samplers), default=0.0)
    if drift_us > MAX_DRIFT_US:
        raise LoadError(
            f"the wall clock left the measuring clock by {drift_us / 1e3:,.0f} ms: it was set, or the machine was "
            "suspended; measure again"
        )


def watch(pids: Sequence[int]) -> Sampler[int]:
    """Return a sampler of the nanoseconds of CPU of some processes."""
    return Sampler(Cpu(pids).read_ns, CPU_EVERY_S)


def between(samples: Sequence[tuple[int, int]], begin_ns: int, end_ns: int) -> float:
    """Return the seconds of CPU between two moments; between samples it is taken to run evenly."""
    moments, cpu_ns = zip(*samples, strict=True)
    # Floats of 53 bits would round nanoseconds since 1970.
    first, last = np.interp([begin_ns - moments[0], end_ns - moments[0]], np.subtract(moments, moments[0]), cpu_ns)
    return float(last - first) / 1e9


def _run(plan: Plan, more: Sequence[str]) -> None:
    limit_s = LOAD_S * max(plan.rounds / ROUNDS, 1)
    load = (f"--rate={plan.rate:g}", f"--duration={plan.measurement_s:g}", f"--warmup={plan.measurement_s * WARMUP:g}")
    command = [
        sys.executable,
        "-m",
        "servepath.cli",
        "loadtest",
        f"--rounds={plan.rounds}",
        "--min-requests=1",
        *(f"--allow={key}" for key in DECLARABLE),  # nobody compares the paths of this run
        *load,
        *plan.words,
        *more,
    ]
    try:
        code, said = run_and_wait(
            command,
            environment=plan.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            limit_s=limit_s,
            listening=False,  # the samplers are threads
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"the load test did not end within {limit_s:.0f} s") from error
    if code:
        raise LoadError(f"the load test ended with exit code {code}:\n{said[-TAIL_CHARACTERS:]}")


def measurements(
    run: Path, facts: Mapping[str, Any], watched: Mapping[str, Sampler[int]], gpu: Sequence[tuple[int, Reading]]
) -> Iterator[Measurement]:
    """Yield the measurements of a run that this load made, without those of the no-op server."""
    paths = facts["fairness"]["paths"]
    for measurement in facts["measurements"]:
        if measurement["model"] == NO_OP_NAME:
            continue
        rows = parquet.read_table(run / measurement["rows"], filters=[("phase", "=", "measure")])
        begin_ns, end_ns = _stretch(rows)
        wrong_answers = measurement["wrong_answers"] + measurement["warmup_wrong_answers"]
        said = paths["{model}@{stack}.{via}".format_map(measurement)]
        yield Measurement(
            (measurement["model"], measurement["stack"]),
            (rows["engine"][0].as_py(), rows["engine_version"][0].as_py()),
            rows.num_rows,
            measurement["errors"] + wrong_answers,
            {name: between(one.samples, begin_ns, end_ns) for name, one in watched.items()},
            tuple(reading for moment, reading in gpu if begin_ns <= moment <= end_ns),
            said["settings"]["value"],
            said["artifact"]["value"],
            wrong_answers,
        )


def _stretch(rows: Any) -> tuple[int, int]:
    """Return when a measurement's first measured request was sent, and when its last reply was there."""
    sent_ns, service_us = rows["sent_ns"].to_numpy(), rows["service_us"].to_numpy()
    return int(sent_ns.min()), int((sent_ns + service_us * 1e3).max())
