"""`python -m loadtest gate --ref GITREF`: is the working tree slower than a commit? One run decides, or says it cannot.

Checks the ref out in a folder of its own, serves both trees side by side, each by its own code, loads them in the same
rounds, and lets `python -m report gate` judge. Removes the folder and stops the services whatever happens.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from loadtest import plan
from loadtest.gate import trees
from loadtest.gate.children import GateError, Shell
from loadtest.gate.sides import Side, serving, side_of
from loadtest.options import LoadOptions, argument_parser
from servepath.cli.arguments import Parser, positive
from servepath.protocols.deployments import DeploymentsError
from servepath.protocols.deployments_file import read_names
from servepath.protocols.stacks import PATH_STACKS
from servepath.settings import SettingsError

# 17 measurements of 1.5 s in a round (four paths, both ways, two sides, the no-op server): 12 rounds load for five
# minutes. Of fewer than MIN_ROUNDS (report.verdicts) every decision would be that it cannot tell.
ROUNDS, MIN_ROUNDS = 12, 11
# Its own folder: capacity and scorecard are added to the newest run of the load test, and this one is none of those.
OUT = "results/gate"
PROTO = "proto/servepath/v1/gateway.proto"
GATEWAY = "gateway"
EPILOG = """
All other options of servepath loadtest are taken too, --side and those of workers excepted. All paths, both ways and
12 rounds are the default: five minutes of load and one of starting. The run is in results/gate.

exit codes: 0 no path is slower by the threshold or more; 1 the gate failed; 2 a bad argument; 3 a path
is slower by more than the threshold; 4 inconclusive; 130 after Ctrl-C. make turns 1, 3 and 4 into 2: call this
command where the difference matters.
"""


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the gate itself was told: a commit, percent by which a path may be slower, whether the p99 must pass."""

    ref: str
    threshold: float
    tail: bool


def main(argv: Sequence[str]) -> int:
    """Judge the working tree; return the exit code."""
    parsed, rest = _parser().parse_known_args(argv)
    gate, load = GateOptions(**vars(parsed)), argument_parser()
    rest = [f"--rounds={ROUNDS}", f"--out={OUT}", *rest]
    options = load.read(LoadOptions, rest)
    if options.difference:
        load.error("gate: --difference cannot be given: the gate decides on rounds that are fixed before")
    if options.rounds < MIN_ROUNDS:
        load.error(f"gate: --rounds {options.rounds}: a decision needs {MIN_ROUNDS} or more")
    if options.side or options.worker or options.listen or options.workers:
        load.error("gate: --side, --worker, --workers and --listen cannot be given: the gate starts both sides itself")
    try:
        return _gate(gate, options, rest)
    except (GateError, SettingsError, OSError) as error:
        sys.stderr.write(f"servepath gate: {error}\n")
        return 1


def _parser() -> Parser:
    form = argparse.RawDescriptionHelpFormatter
    about = "Is the working tree slower than a commit? Both are served and loaded in the same rounds."
    parser = Parser("servepath gate", description=about, epilog=EPILOG, formatter_class=form, allow_abbrev=False)
    parser.add_argument("--ref", required=True, help="the commit, tag or branch to compare the working tree with")
    slower = "percent by which a path may be slower (default: 5)"
    parser.add_argument("--threshold", type=positive, default=5.0, metavar="PERCENT", help=slower)
    tail = "require that the p99 is not slower, too (many rounds); else an inconclusive p99 passes"
    parser.add_argument("--tail", action="store_true", help=tail)
    return parser


def _gate(gate: GateOptions, options: LoadOptions, words: Sequence[str]) -> int:
    here = trees.repository(Path.cwd())
    commit = trees.commit_of(here, gate.ref)
    with ExitStack() as stack:
        place = stack.enter_context(trees.checkout(here, commit))
        paths = _paths(options, place)
        ref, tree = trees.prepare(here, commit, place, options.exports.absolute(), _say)
        run_dirs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gate-run-")))
        sides = [side_of(each, run_dirs / name) for each, name in ((ref, "ref"), (tree, "tree"))]
        for side in sides:
            _say(
                f"starting {side.tree.name}; both sides' services share the machine, one is idle while the other "
                "is loaded"
            )
            stack.enter_context(serving(side, _services(paths)))
        _load(here, sides, run_dirs, [*words, f"--paths={','.join(map(str, paths))}", *allowed_of(place)])
    return _judge(here, (options.out / "latest").resolve(), gate)


def _paths(options: LoadOptions, place: Path) -> list[plan.ServingPath]:
    """Return the chosen paths that both trees have. Raises GateError for one that was named and the ref lacks."""
    try:
        theirs = [plan.ServingPath(*name) for name in read_names(place / "deployments.toml")]
    except DeploymentsError as error:
        raise GateError(f"the ref: {error}") from error
    try:
        chosen = plan.choose(plan.read_paths(options.deployments), options.paths)
    except ValueError as error:
        raise GateError(f"--paths: {error}") from error
    missing = [str(path) for path in chosen if path not in theirs]
    external = [str(path) for path in chosen if path.stack not in PATH_STACKS]
    if missing and options.paths != "all":
        raise GateError(f"--paths: the ref does not have {', '.join(missing)}")
    if external and options.paths != "all":
        raise GateError(f"--paths: {', '.join(external)}: an external server is the same one for both sides")
    for name in missing:
        _say(f"{name} is skipped: the ref does not have it")
    for name in external:
        _say(f"{name} is skipped: an external server is the same one for both sides")
    return [path for path in chosen if path in theirs and path.stack in PATH_STACKS]


def allowed_of(place: Path) -> list[str]:
    """Return what the sides may differ in: servers of a ref from before that was said do not say their precision."""
    proto = place / PROTO
    if not proto.exists() or " precision = " in proto.read_text():
        return []
    _say("the ref's servers do not say which precision they compute in: it may differ")
    return ["--allow=precision"]


def _services(paths: Sequence[plan.ServingPath]) -> list[str]:
    return [*dict.fromkeys(PATH_STACKS[path.stack].service for path in paths), GATEWAY]


def _load(here: Shell, sides: Sequence[Side], folder: Path, words: Sequence[str]) -> None:
    for side in sides:
        (folder / f"{side.tree.name}.env").write_text(side.file())
    named = [word for side in sides for word in ("--side", f"{side.tree.name}={folder / side.tree.name}.env")]
    here.run(sys.executable, "-m", "loadtest", *words, *named)


def _judge(here: Shell, run: Path, gate: GateOptions) -> int:
    words = [str(run), f"--threshold={gate.threshold:g}", *(["--tail"] if gate.tail else [])]
    return here.run(sys.executable, "-m", "report", "gate", *words, passing=(0, 3, 4))


def _say(line: str) -> None:
    sys.stdout.write(f"gate: {line}\n")
    sys.stdout.flush()  # before what children say
