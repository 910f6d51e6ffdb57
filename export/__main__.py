"""Export the trained models: `python -m export [MODEL ...] --models artifacts/models --out artifacts/exports`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export import stage, trained
from export.errors import ExportError
from export.formats import FORMATS
from models.registry import SpecError, read_models
from servepath.artifacts.manifest import ArtifactError, current_version
from servepath.cli.arguments import Parser
from servepath.cli.signals import run_main


def model(text: str) -> str:
    """Read a MODEL."""
    if text not in read_models():
        raise argparse.ArgumentTypeError(f"{text!r} is not a model; known: {', '.join(read_models())}")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The command line of `python -m export`."""

    model: Sequence[str]
    models: Path
    out: Path
    new_version: bool


def parse_args(argv: Sequence[str]) -> ExportOptions:
    """Read the command line; exit code 2 and one line when it is wrong. Raises SpecError."""
    parser = Parser(
        prog="python -m export", description="Export every trained model to each of its formats, and verify them."
    )
    known = ", ".join(read_models())
    parser.add_argument("model", nargs="*", type=model, metavar="MODEL", help=f"{known} (default: all)")
    parser.add_argument("--models", type=Path, default=Path("artifacts/models"), help="default: artifacts/models")
    parser.add_argument("--out", type=Path, default=Path("artifacts/exports"), help="default: artifacts/exports")
    parser.add_argument(
        "--new-version",
        action="store_true",
        help="write the next version although nothing has changed: for a server that refused this one, since "
        "TensorFlow Serving never tries a number twice",
    )
    return parser.read(ExportOptions, argv)


def export(name: str, models: Path, exports: Path, *, new_version: bool) -> None:
    """Export one model and say what was done."""
    written = stage.export_model(trained.read(models, name), exports, new_version=new_version)
    version = current_version(exports, name)
    for manifest in written:
        largest = manifest.parity.max_abs_difference
        print(f"{name}: version {version} as {manifest.format}, largest difference from the reference {largest:.2g}")
    if not written:
        print(f"{name}: version {version} is up to date, all files match their manifests")
    model = read_models()[name]
    for artifact_format in model.formats:
        made = FORMATS[model.framework, artifact_format]
        if missing := made.missing():
            print(f"{name}: not written as {artifact_format}: {made.how_to_install(missing)}")


def main(argv: Sequence[str]) -> int:
    """Export what was asked for; return the exit code."""
    try:
        options = parse_args(argv)
        for name in options.model or read_models():
            export(name, options.models, options.out, new_version=options.new_version)
    except (SpecError, ExportError, ArtifactError, OSError) as error:
        print(f"python -m export: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
