"""Import a model from a file: `servepath import model.onnx --name NAME`.

What the file does not say is tried: which axes are open, whether rows are independent, whether answers repeat. What
goes into the store has been written, loaded and run. A model that cannot be served is refused in one sentence, exit
code 1, and leaves nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import ExportError
from export.importing import deployed, onnx_source, store
from export.importing.errors import Refused
from models.registry import SpecError, read_models
from servepath.artifacts.manifest import ArtifactError
from servepath.artifacts.names import ModelNameError, check_model_name
from servepath.artifacts.spec import Spec
from servepath.cli.arguments import Parser, seconds
from servepath.cli.children import run_and_wait
from servepath.cli.signals import run_main

LIMIT_S = 600.0
# Stacks that an ONNX file has no path on, and why.
NO_PATH = {
    "torchserve": "TorchServe runs PyTorch models, and an ONNX file has no PyTorch model in it",
    "tfserving": "TensorFlow Serving runs SavedModels, and an ONNX file has none in it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """The command line of `servepath import`."""

    path: Path
    name: str
    spec: Path | None
    out: Path
    deployments: Path
    no_deploy: bool
    limit_s: float


def parse_args(argv: Sequence[str]) -> ImportOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(prog="servepath import", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("path", type=Path, metavar="PATH", help="an ONNX file, its external data beside it")
    add("--name", type=_model_name, required=True, help="what the model is called here")
    add("--spec", type=Path, metavar="FILE", help="TOML: [names], [ranges], [sizes], [tolerance] (docs/import.md)")
    add("--out", type=Path, default=Path("artifacts/exports"), help="default: artifacts/exports")
    add("--deployments", type=Path, default=Path("deployments.toml"), metavar="FILE", help="default: deployments.toml")
    add("--no-deploy", action="store_true", help="leave the deployments file as it is")
    add("--limit-s", type=seconds, default=LIMIT_S, metavar="SECONDS", help="for all tries together (default: 600)")
    return parser.read(ImportOptions, argv)


def _model_name(text: str) -> str:
    try:
        check_model_name(text)
    except ModelNameError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def main(argv: Sequence[str]) -> int:
    """Import the model; return the exit code."""
    options = parse_args(argv)
    try:
        import_model(options)
    except (ExportError, SpecError, ArtifactError, OSError) as error:
        print(f"servepath import: {error}", file=sys.stderr)
        return 1
    return 0


def import_model(options: ImportOptions) -> None:
    """Try, write and deploy one model. Raises Refused and what the store raises."""
    if options.name in read_models():
        raise Refused(f"{options.name!r} is a model of models/; choose another --name")
    if not options.path.is_file():
        raise Refused(f"{options.path} is not a file; PATH is an ONNX file")
    print(f"trying {options.path} ({options.path.stat().st_size:,} bytes) in a process of its own", flush=True)
    with tempfile.TemporaryDirectory(prefix="import-") as work:
        found = _try(options, Path(work))
        spec = Spec.from_dict(found["spec"])
        _show(spec, found["notes"])
        files = [*onnx_source.source_files(options.path), *([options.spec] if options.spec else [])]
        version, written = store.store(options.out, options.name, store.fingerprint(files), Path(work))
    for artifact_format, made in found["formats"].items():
        state = "written" if artifact_format in written else "was there already, and matches its manifest"
        print(f"  {artifact_format}: version {version} {state}, largest difference {made['difference']:.2g}")
    for stack, why in NO_PATH.items():
        print(f"  no path on {stack}: {why}")
    if not options.no_deploy:
        print(deployed.deploy(options.deployments, options.name, ["onnx"]))


def _try(options: ImportOptions, work: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "export.importing.child", str(options.path), str(work), str(options.spec or "")]
    try:
        code, said = run_and_wait(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, limit_s=options.limit_s)
    except subprocess.TimeoutExpired:
        raise Refused(
            f"the model was not tried to its end in {options.limit_s:g} s; give it longer: --limit-s"
        ) from None
    if code == 1 and (lines := said.strip().splitlines()):
        raise Refused(f"{options.path.name}: {lines[-1]}")
    if code:
        raise Refused(f"{options.path.name}: the runtime ended the process that tried the model (exit code {code})")
    result: dict[str, Any] = json.loads((work / store.FOUND).read_text())
    return result


def _show(spec: Spec, notes: Sequence[str]) -> None:
    rows = max(len(tensor.name) for tensor in spec.inputs + spec.outputs)
    for what, tensors in (("input", spec.inputs), ("output", spec.outputs)):
        for tensor in tensors:
            print(f"  {what:6} {tensor.name:{rows}} {tensor.dtype} [{', '.join(map(str, tensor.shape))}]")
    if spec.row_independent:
        print("  rows are independent of each other: requests are batched")
    for note in notes:
        print(f"  {note}")
    print(f"  tolerance: rtol {spec.tolerance.rtol:.3g}, atol {spec.tolerance.atol:.3g}")


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
