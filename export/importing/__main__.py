"""Import a model from a file: `servepath import model.onnx --name NAME`.

What the file does not say is tried: which axes are open, whether rows are independent, whether answers repeat. What
goes into the store has been written, loaded and run. A model that cannot be served is refused in one sentence, exit
code 1, and leaves nothing.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export import own_process
from export.errors import ExportError
from export.importing import deployed, store
from export.importing.errors import TAKEN, Refused
from export.importing.hints import read_hints
from export.importing.kinds import KINDS, STABLEHLO, Kind, files_of, kind_of, with_precisions, with_stablehlo
from export.provenance import ROOT
from models.registry import SpecError, read_models
from servepath.artifacts.manifest import ArtifactError
from servepath.artifacts.names import model_name
from servepath.artifacts.spec import Spec
from servepath.cli.arguments import Parser, seconds
from servepath.cli.signals import run_main
from servepath.protocols.stacks import PATH_STACKS, REDUCED_PRECISIONS, STACKS

LIMIT_S = 600.0
STACK_OF = {stack.artifact_format: stack.name for stack in PATH_STACKS.values()}
PACKED = {stack.artifact_format: [ROOT / file for file in stack.packed] for stack in STACKS.values()}


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
    precision: Sequence[str]
    stablehlo: bool
    trust_code: bool


def parse_args(argv: Sequence[str]) -> ImportOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(prog="servepath import", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("path", type=Path, metavar="PATH", help=TAKEN)
    add("--name", type=model_name, required=True, help="what the model is called here")
    add("--spec", type=Path, metavar="FILE", help="TOML: what the file cannot say (docs/import.md)")
    add("--out", type=Path, default=Path("artifacts/exports"), help="default: artifacts/exports")
    add("--deployments", type=Path, default=Path("deployments.toml"), metavar="FILE", help="default: deployments.toml")
    add("--no-deploy", action="store_true", help="leave the deployments file as it is")
    add("--limit-s", type=seconds, default=LIMIT_S, metavar="SECONDS", help="for all tries together (default: 600)")
    add(
        "--precision",
        action="append",
        choices=REDUCED_PRECISIONS,
        default=[],
        help="add paths such as NAME@onnx:int8 and NAME@torchserve:bf16, where they pass the [gate] "
        "of --spec; may be given several times",
    )
    add(
        "--stablehlo",
        action="store_true",
        help="write it as StableHLO, too, for TPUs (docs/tpu.md): of PyTorch's files and Hugging Face folders",
    )
    add(
        "--trust-code",
        action="store_true",
        help="let code in the file run: pickled modules, Lambda layers of Keras; the manifest records it",
    )
    return parser.read(ImportOptions, argv)


def main(argv: Sequence[str]) -> int:
    """Import the model; return the exit code."""
    options = parse_args(argv)
    try:
        import_model(options)
    except (ExportError, SpecError, ArtifactError, OSError, ValueError) as error:
        print(f"servepath import: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 1
    return 0


def import_model(options: ImportOptions) -> None:
    """Try, write and deploy one model. Raises Refused and what the store raises."""
    if options.name in read_models():
        raise Refused(f"{options.name!r} is a model of models/; choose another --name")
    what = kind_of(options.path)
    kind = with_precisions(KINDS[what], options.precision)
    if options.stablehlo:
        kind = with_stablehlo(kind)
    hints = read_hints(options.spec)
    samples = [*hints.samples, *([hints.gate.labelled] if hints.gate.labelled else [])]
    _check_deployed(options, [kind.first, *kind.others])
    print(f"trying {options.path}, {what}, in a process of its own", flush=True)
    with store.work_folder(options.out) as work:
        refused = _try(options, kind, work)
        found = json.loads((work / store.FOUND).read_text())
        formats = found["formats"]
        _check_deployed(options, formats, refused)
        packed = [file for artifact_format in formats for file in PACKED.get(artifact_format, ())]
        files = [
            *files_of(options.path, work / kind.first, found),
            *packed,
            *([options.spec] if options.spec else []),
            *samples,
        ]
        tools = (*store.TOOLS, *kind.tools)
        source = store.fingerprint(files, tools)
        version, written = store.store(options.out, options.name, source, work, tools, trusted=options.trust_code)
    _tell(formats, version, written)
    _tell_missing(what, kind, formats, refused)
    if not options.no_deploy:
        print(deployed.deploy(options.deployments, options.name, _stacks(formats)))


def _tell(formats: Mapping[str, Any], version: int, written: Sequence[str]) -> None:
    """Print each format with its largest difference and its cost."""
    for artifact_format, made in formats.items():
        state = "written" if artifact_format in written else "was there already, and matches its manifest"
        cost = f"; {made['facts']['cost']}" if "cost" in made["facts"] else ""
        print(f"  {artifact_format}: version {version} {state}, largest difference {made['difference']:.2g}{cost}")


def _tell_missing(what: str, kind: Kind, formats: Mapping[str, Any], refused: Mapping[str, str]) -> None:
    """Print which stacks get no path, and why. refused: by format."""
    wanted = {stack.artifact_format for stack in STACKS.values()} | kind.others.keys()
    for artifact_format, stack in STACK_OF.items():
        if artifact_format in wanted - formats.keys():
            why = refused.get(artifact_format, f"it serves {artifact_format}, as which {what} cannot be written")
            print(f"  no path on {stack}: {why}")
    if STABLEHLO in refused:
        print(f"  not written as {STABLEHLO}: {refused[STABLEHLO]}")


def _stacks(formats: Iterable[str]) -> list[str]:
    """Return the stacks that serve formats; none serves StableHLO."""
    return [STACK_OF[each] for each in formats if each in STACK_OF]


def _try(options: ImportOptions, kind: Kind, work: Path) -> Mapping[str, str]:
    """Do all steps within the limit; return why a format beside the first cannot be. Raises Refused."""
    ends = time.monotonic() + options.limit_s
    _step(options, kind.step, work, ends)
    found = json.loads((work / store.FOUND).read_text())
    spec = Spec.from_dict(found["spec"])
    _show(spec, found["notes"])
    deployed.check_limits(options.deployments, spec)
    refused: dict[str, str] = {}
    for artifact_format, step in kind.others.items():
        if (source := step.partition(" to ")[0]) in refused:
            refused[artifact_format] = refused[source]
            continue
        try:
            _step(options, step, work, ends)
        except Refused as error:
            refused[artifact_format] = str(error)
    return refused


def _check_deployed(options: ImportOptions, formats: Iterable[str], refused: Mapping[str, str] = deployed.NONE) -> None:
    """Raise ExportError where the deployments file and a model of these formats do not go together.

    Also where the file is left as it is: it may name a path that the new version would not have.
    """
    why = {STACK_OF[each]: reason for each, reason in refused.items() if each in STACK_OF}
    deployed.check(options.deployments, options.name, _stacks(formats), why)


def _step(options: ImportOptions, step: str, work: Path, ends: float) -> None:
    """Do one step in a process of its own, which ends at a time of time.monotonic(). Raises Refused."""
    late = Refused(f"{step!r} did not end in the {options.limit_s:g} s of all tries; give them longer: --limit-s")
    if (left_s := ends - time.monotonic()) <= 0:
        raise late
    words = [
        step,
        str(work),
        str(options.path),
        str(options.spec or ""),
        options.name,
        str(left_s),
        "trust" * options.trust_code,
    ]
    try:
        code, last = own_process.run("export.importing.child", words, left_s)
    except subprocess.TimeoutExpired:
        raise late from None
    if code == -signal.SIGXCPU:
        raise late
    if code == 1 and last:
        raise Refused(last)
    if code:
        raise Refused(f"the runtime ended the process that did {step!r} (exit code {code})")


def _show(spec: Spec, notes: Sequence[str]) -> None:
    width = max(len(tensor.name) for tensor in spec.inputs + spec.outputs)
    for what, tensors in (("input", spec.inputs), ("output", spec.outputs)):
        for tensor in tensors:
            print(f"  {what:6} {tensor.name:{width}} {tensor.dtype} [{', '.join(map(str, tensor.shape))}]")
    for axis, most in spec.max_sizes.items():
        print(f"  axis {axis!r}: at most {most}")
    if spec.row_independent:
        print("  rows are independent of each other: requests are batched")
    for axis in spec.padded:
        print(f"  zeros along {axis!r} change no answer: requests of nearly one size are batched, too")
    for note in notes:
        print(f"  {note}")
    print(f"  tolerance: {spec.tolerance}")


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
