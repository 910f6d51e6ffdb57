"""What one model does in onnx_svc's engine without any server: rows a second, by rows of a call.

`python -m services.onnx_svc.ceiling FOLDER --rows 1 64`, FOLDER such as artifacts/exports/MODEL/onnx/1. Prints one line
of JSON, {"engine_version": ..., "rows_per_second": {"1": ..., "64": ...}}: the probe's row, repeated, by as many
threads as the server has, which wait for nothing.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from servepath.artifacts.manifest import ArtifactError, read_manifest
from servepath.cli.arguments import Parser, positive, whole
from servepath.protocols.errors import BadInput
from servepath.protocols.signature import probe_inputs
from servepath.protocols.tensors import row_offsets
from servepath.protocols.types import Tensor
from services.dataplane.batcher import BatchLimits
from services.dataplane.engine import Engine, EngineError, RunError
from services.oip_server.artifact import load
from services.onnx_svc.config import DEVICES, SERVICE, Settings
from services.onnx_svc.ort import OrtEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingOptions:
    """The command line."""

    folder: Path
    rows: list[int]
    device: str
    seconds: float


def parse_args(argv: Sequence[str]) -> CeilingOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(
        prog="python -m services.onnx_svc.ceiling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=Path, help="a version's folder")
    add("--rows", type=whole(1), nargs="+", default=[1], help="of a call, several to be measured (default: 1)")
    add("--device", choices=DEVICES, default="auto", help="default: auto")
    add("--seconds", type=positive, default=2.0, help="of each measurement (default: 2)")
    return parser.read(CeilingOptions, argv)


def rows_per_second(engine: Engine, inputs: Sequence[Tensor], outputs: Sequence[str], seconds: float) -> float:
    """Return what threads get that call one after the other. Raises what the engine raises."""
    rows, calls, failures = inputs[0].shape[0], [0] * Settings.threads, []
    engine.run(inputs, outputs)
    begin = time.perf_counter()

    def work(thread: int) -> None:
        try:
            while not calls[thread] or time.perf_counter() - begin < seconds:  # once, whatever the machine is busy with
                engine.run(inputs, outputs)
                calls[thread] += 1
        except (BadInput, RunError) as error:
            failures.append(error)

    threads = [threading.Thread(target=partial(work, number)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return rows * sum(calls) / (time.perf_counter() - begin)


def repeated(tensor: Tensor, rows: int) -> Tensor:
    """Return a tensor's first row so many times."""
    (begin, end), *_ = pairwise(row_offsets(tensor))
    return tensor._replace(shape=(rows, *tensor.shape[1:]), data=tensor.data[begin:end] * rows)


def main(argv: Sequence[str]) -> int:
    """Measure and print; exit code 1 where the model cannot be run."""
    options = parse_args(argv)
    try:
        manifest = read_manifest(options.folder)
        artifact = load(
            options.folder, SERVICE, partial(OrtEngine, device=options.device), BatchLimits(max_rows=max(options.rows))
        )
        inputs, outputs = probe_inputs(manifest), [tensor.name for tensor in manifest.spec.outputs]
        found = {}
        for rows in options.rows:
            asked = [repeated(tensor, rows) for tensor in inputs] if manifest.spec.by_rows else inputs
            found[rows] = rows_per_second(artifact.engine, asked, outputs, options.seconds)
    except (ArtifactError, EngineError, BadInput, RunError) as error:
        sys.stderr.write(f"python -m services.onnx_svc.ceiling: {error}\n")
        return 1
    sys.stdout.write(f"{json.dumps({'engine_version': artifact.served.engine_version, 'rows_per_second': found})}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
