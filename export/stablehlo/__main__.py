"""Compile a StableHLO file for JAX's first device and run it: `python -m export.stablehlo FILE '1 2; 3 4'`."""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.stablehlo import file
from servepath.cli.arguments import Parser
from servepath.cli.signals import run_main

Rows = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The command line of `python -m export.stablehlo`."""

    file: Path
    x: Sequence[tuple[str, Rows]]


def named_rows(text: str) -> tuple[str, Rows]:
    """Read X: numbers by spaces or commas, rows by semicolons; NAME= before them, where there are several inputs."""
    name, _, numbers = text.rpartition("=")
    try:
        rows = [[float(word) for word in row.replace(",", " ").split()] for row in numbers.split(";")]
    except ValueError:
        rows = []
    if not rows or not all(len(row) == len(rows[0]) > 0 for row in rows):
        raise argparse.ArgumentTypeError(f"{text!r} is not like '1 2', '1 2; 3 4' or x='1 2'")
    return name, rows


def parse_args(argv: Sequence[str]) -> RunOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(prog="python -m export.stablehlo", description=__doc__)
    parser.add_argument(
        "file", type=Path, metavar="FILE", help=f"artifacts/exports/MODEL/stablehlo/VERSION/{file.FILE}"
    )
    parser.add_argument(
        "x", type=named_rows, nargs="+", metavar="X", help="rows, or NAME=rows for each of several inputs"
    )
    return parser.read(RunOptions, argv)


def arrays(given: Sequence[tuple[str, Rows]], wanted: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the inputs as the file takes them; a single one needs no name. Raises ExportError."""
    if len(given) == len(wanted) == 1 and not given[0][0]:
        given = [(next(iter(wanted)), given[0][1])]
    if sorted(name for name, _ in given) != sorted(wanted):
        raise ExportError(f"the file takes {', '.join(wanted)}: give each once, as NAME='1 2; 3 4'")
    return {name: _array(name, rows, wanted[name]) for name, rows in given}


def _array(name: str, rows: Rows, wanted: Any) -> NDArray[Any]:
    """Return rows as an array of the wanted dtype and shape, whose open axes are symbols. Raises ExportError."""
    values = np.asarray(rows)
    inner = [axis if isinstance(axis, int) else -1 for axis in wanted.shape[1:]]
    try:
        found = values.astype(wanted.dtype).reshape(len(rows), *inner)
    except ValueError:
        raise ExportError(f"{len(rows)} rows of {len(rows[0])} are no {name!r} of shape {list(wanted.shape)}") from None
    if found.dtype.kind != "f" and not np.array_equal(found.ravel(), values.ravel()):
        raise ExportError(f"{name!r} is {wanted.dtype}: give whole numbers that it can have")
    return found


def run(options: RunOptions) -> None:
    """Compile, run and print; the first call's time is not the model's, so the second is shown. Raises ExportError."""
    exported = file.read(options.file)
    inputs = arrays(options.x, file.inputs_of(exported))
    with file.full_width(exported):
        began = time.perf_counter()
        compiled = jax.jit(exported.call).lower(**inputs).compile()
        compiled_s = time.perf_counter() - began
        jax.block_until_ready(compiled(**inputs))
        began = time.perf_counter()
        answer = jax.block_until_ready(compiled(**inputs))
        answered_s = time.perf_counter() - began
    shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in inputs.items())
    device = jax.devices()[0].device_kind
    print(f"{device}: compiled in {compiled_s:.2f} s for {shapes}; {1e3 * answered_s:.2f} ms a call")
    print(json.dumps({name: np.asarray(values).tolist() for name, values in answer.items()}))


def main(argv: Sequence[str]) -> int:
    """Run what was asked for; return the exit code."""
    options = parse_args(argv)
    try:
        run(options)
    except (ExportError, OSError, ValueError, RuntimeError) as error:  # the last two are JAX's, of shapes and devices
        print(f"python -m export.stablehlo: {next(iter(str(error).splitlines()), repr(error))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))
