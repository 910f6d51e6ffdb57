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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from export.errors import ExportError
from export.importing import deployed, store
from export.importing.errors import Refused
from models.registry import SpecError, read_models
from servepath.artifacts.manifest import ArtifactError
from servepath.artifacts.names import ModelNameError, check_model_name
from servepath.artifacts.spec import Spec
from servepath.cli.arguments import Parser, seconds
from servepath.cli.children import run_and_wait
from servepath.cli.signals import run_main
from servepath.protocols.stacks import STACKS

LIMIT_S = 600.0


class Kind(NamedTuple):
    """A kind of source: the step that reads it, and by which steps other formats come from what that wrote."""

    step: str
    others: Mapping[str, str]


KINDS = {
    "an ONNX file": Kind("read onnx", {}),
    "a SavedModel": Kind("read saved_model", {"onnx": "saved_model to onnx"}),
    "a Keras file": Kind("read keras", {"onnx": "saved_model to onnx"}),
}
STACK_OF = {stack.artifact_format: stack.name for stack in STACKS.values()}
TAKEN = "import takes an ONNX file, a SavedModel's folder and a .keras file"


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
    add(
        "path",
        type=Path,
        metavar="PATH",
        help="an ONNX file (its external data beside it), a SavedModel's folder, or a .keras file",
    )
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
    what = _kind_of(options.path)
    kind = KINDS[what]
    print(f"trying {options.path}, {what}, in a process of its own", flush=True)
    with tempfile.TemporaryDirectory(prefix="import-") as folder:
        work = Path(folder)
        _step(options, kind.step, work)
        found = json.loads((work / store.FOUND).read_text())
        _show(Spec.from_dict(found["spec"]), found["notes"])
        refused = {}
        for artifact_format, step in kind.others.items():
            try:
                _step(options, step, work)
            except Refused as error:
                refused[artifact_format] = str(error)
        source = store.fingerprint([*_files(options.path, work), *([options.spec] if options.spec else [])])
        version, written = store.store(options.out, options.name, source, work)
        formats = json.loads((work / store.FOUND).read_text())["formats"]
    for artifact_format, made in formats.items():
        state = "written" if artifact_format in written else "was there already, and matches its manifest"
        print(f"  {artifact_format}: version {version} {state}, largest difference {made['difference']:.2g}")
    for artifact_format, stack in STACK_OF.items():
        if artifact_format not in formats:
            why = refused.get(artifact_format, f"it serves {artifact_format}, as which {what} cannot be written")
            print(f"  no path on {stack}: {why}")
    if not options.no_deploy:
        print(deployed.deploy(options.deployments, options.name, [STACK_OF[each] for each in formats]))


def _kind_of(path: Path) -> str:
    """Return the kind of a source, a key of KINDS. Raises Refused."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "a SavedModel"
        raise Refused(f"{path} is a folder without saved_model.pb; {TAKEN}")
    if not path.is_file():
        raise Refused(f"{path} does not exist; {TAKEN}")
    return "a Keras file" if path.suffix == ".keras" else "an ONNX file"


def _files(path: Path, work: Path) -> Sequence[Path]:
    """Return the files that a version is made from: of an ONNX file what was written, its weights inside."""
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if each.is_file())
    return [path] if path.suffix == ".keras" else sorted((work / "onnx").iterdir())


def _step(options: ImportOptions, step: str, work: Path) -> None:
    """Do one step in a process of its own. Raises Refused."""
    words = [step, str(work), str(options.path), str(options.spec or ""), options.name]
    command = [sys.executable, "-m", "export.importing.child", *words]
    try:
        code, said = run_and_wait(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, limit_s=options.limit_s)
    except subprocess.TimeoutExpired:
        raise Refused(f"{step!r} did not end in {options.limit_s:g} s; give it longer: --limit-s") from None
    if code == 1 and (lines := said.strip().splitlines()):
        raise Refused(lines[-1])
    if code:
        raise Refused(f"the runtime ended the process that did {step!r} (exit code {code})")


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
