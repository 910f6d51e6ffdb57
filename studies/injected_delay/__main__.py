"""Prove the method on real servers.

`python -m studies.injected_delay --runs 20`, as `make validate-method RUNS=20` does; with `--difference 0.05`
rounds go on until 5 % is known, for `--minutes` at most.

In each run three onnx_svc of the same artifact are loaded side by side: a and b are the same, injected is slower by 5 %
of the median response time. a against b must not get a winner, a against injected must, on p50. Runs are kept in
results/validation: given again, the command goes on where it ended. What it finds is printed and written to
validation.json and validation.md there.

Ends with 0 when the counts contradict no claim, 3 when they do, 1 when a server or a command failed or too many runs
were INVALID, 2 for a bad value, 130 after Ctrl-C, with the servers stopped and the runs that ended kept.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from report.rows import write_json
from report.schema import ReportError
from report.verdicts import MIN_ROUNDS
from servepath.artifacts import atomic
from servepath.cli.arguments import Parser, positive, share, whole
from servepath.cli.signals import run_main
from servepath.protocols.deployments import DeploymentsError
from servepath.protocols.deployments_file import read_deployments
from servepath.results.names import RUN_FILE
from studies.injected_delay import runs, text
from studies.injected_delay.counts import Counts, counts_of
from studies.injected_delay.runs import INJECTED, A, Calibration, Plan
from studies.injected_delay.servers import CommandFailed
from studies.injected_delay.trials import Trial, judged

CONTRADICTED = 3
STACK = "@onnx"
DEPLOYMENTS = Path("deployments.toml")
EPILOG = (
    "exit codes: 0 the counts contradict no claim; 3 they do; 1 a server or a command failed, or too many runs were "
    "INVALID; 2 a bad value; 130 after Ctrl-C. make turns 1 and 3 into 2"
)
# Ends one that hangs.
MAX_SIMULATION_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationOptions:
    """The command line of `python -m studies.injected_delay`."""

    runs: int
    path: str | None
    rounds: int
    difference: float | None
    minutes: float
    rate: float
    simulations: int
    out: Path
    exports: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, and return the exit code."""
    parser = _parser()
    options = parser.read(ValidationOptions, argv)
    idle, why = ("rounds", "beside --difference") if options.difference else ("minutes", "without --difference")
    parser.refuse_idle(idle, why, argv)
    try:
        path = options.path or _first_path()
    except DeploymentsError as error:
        print(f"servepath validate-method: {error}", file=sys.stderr)
        return 1
    if not path.endswith(STACK):
        parser.error(f"--path: {path!r} is not MODEL{STACK}; a delay can be injected in this stack alone")
    plan = Plan(path, options.rounds, options.rate, options.exports, options.difference, options.minutes)
    try:
        calibration = runs.calibrated(plan, options.out)
        print(f"p50 {calibration.p50_us:.0f} us; injected: {calibration.delay_us:g} us", flush=True)
        counts = counts_of(_trials(plan, calibration, options))
        print(_tell(counts, calibration, options))
    except (CommandFailed, ReportError, OSError) as error:
        print(f"servepath validate-method: {error}", file=sys.stderr)
        return 1
    return CONTRADICTED if counts.contradicted else 0


def _first_path() -> str:
    """Return the first path of deployments.toml on the stack, "" when it has none. Raises DeploymentsError."""
    names = (f"{model}@{stack}" for model, stack in read_deployments(DEPLOYMENTS).paths)
    return next((name for name in names if name.endswith(STACK)), "")


def _parser() -> Parser:
    about = "False alarms and detections of the method, on real servers."
    parser = Parser("servepath validate-method", description=about, epilog=EPILOG)
    add = parser.add_argument
    add("--runs", type=whole(1), default=20, help="valid runs in total, earlier ones included (default: 20)")
    add("--path", help="MODEL@onnx, reached direct (default: the first of deployments.toml)")
    add("--rounds", type=whole(MIN_ROUNDS), default=20, help="rounds of each run (default: 20)")
    until = "instead of --rounds: each run continues until 5 %% (0.05) is known or --minutes are over"
    add("--difference", type=share, metavar="SHARE", help=until)
    add("--minutes", type=positive, default=15.0, help="the limit of such a run (default: 15)")
    add("--rate", type=positive, default=500.0, help="requests a second (default: 500)")
    add("--simulations", type=whole(0), default=2000, help="simulated runs of each kind, 0 for none (default: 2000)")
    add("--out", type=Path, default=Path("results/validation"), help="folder of the runs (default: %(default)s)")
    add("--exports", type=Path, default=Path("artifacts/exports"), help="exported artifacts (default: %(default)s)")
    return parser


def _trials(plan: Plan, calibration: Calibration, options: ValidationOptions) -> list[Trial]:
    """Yield all trials, doing the runs that are missing; at most as many INVALID ones as valid ones are wanted."""
    folder, wanted, begin_s, done = options.out / "runs", options.runs, time.monotonic(), 0
    trials = [judged(run) for run in runs.ended(folder)]
    delays_us = {A: 0.0, runs.ALIKE: 0.0, INJECTED: calibration.delay_us}
    while (valid := sum(not trial.reasons for trial in trials)) < wanted:
        if len(trials) - valid > wanted:
            raise CommandFailed(f"{len(trials) - valid} runs were INVALID, more than requested; use a quiet machine")
        run = runs.load(plan, delays_us, options.out, runs=folder, seed=len(trials) + 1)
        trials.append(judged(run))
        done, valid = done + 1, valid + (not trials[-1].reasons)
        left_min = (time.monotonic() - begin_s) / done * (wanted - valid) / 60
        print(f"{valid} of {wanted}: {text.line(trials[-1])}; {left_min:.0f} min left", flush=True)
    return trials


def _tell(counts: Counts, calibration: Calibration, options: ValidationOptions) -> str:
    """Write validation.json and validation.md, and return the latter."""
    out = options.out
    # Of runs that go on until they know, python -m studies.sequential has the simulation.
    simulated = options.simulations and options.difference is None
    simulation = _simulation(options.simulations, out) if simulated else ""
    facts = json.loads((out / "runs" / counts.trials[0].run / RUN_FILE).read_text())
    told = text.render(counts, calibration, facts["host"], simulation)
    found = {"calibration": asdict(calibration), "host": facts["host"], **counts.to_dict(), "simulation": simulation}
    atomic.write_file(out / "validation.json", write_json(found))
    atomic.write_file(out / "validation.md", told)
    return f"\n{told}\n{out / 'validation.md'}"


def _simulation(count: int, out: Path) -> str:
    """Return the table of studies.simulation with a kind fitted to these runs; it ends with 1 where a claim misses."""
    print(f"simulating {count:,} runs of each kind", flush=True)
    log = out / "logs/simulation.log"
    words = ["studies.simulation", "--runs", str(count), "--stored", str(out / "runs")]
    runs.command(words, log, MAX_SIMULATION_S, fine=(0, 1))
    said = log.read_text()
    if "| --- |" not in said:
        raise CommandFailed(f"studies.simulation failed: {said.strip()}")
    return said


if __name__ == "__main__":
    sys.exit(
        run_main(main, "servepath validate-method: interrupted; the servers are stopped, the runs that ended are kept")
    )
