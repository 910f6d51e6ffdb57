"""What all that write StableHLO share: one portable file by jax.export, and XLA to try it.

Open axes stay open: one file serves every size, and XLA compiles it for each shape when that first comes. The file is
of JAX's export format, whose StableHLO newer versions read for half a year at least
(https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from export.errors import ExportError
from export.parity import DTYPES, Predict
from models.registry import Arrays
from servepath.artifacts.spec import Spec

FILE = "model.stablehlo"
# For both in one file. What is proven runs on the first; products have a branch for each, and the other's is the same.
PLATFORMS = ("cpu", "tpu")
# float32 is float32, as on every other stack: a TPU rounds the factors of a product to bfloat16 unless told not to.
MATMUL_PRECISION = "highest"
VERSION = re.compile(rb"StableHLO_v([0-9.]+)")
WIDE_BYTES = 8

Model = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def stay_on_cpu() -> None:
    """Keep JAX's hands off accelerators, before its first array: a TPU belongs to one process, which may be serving."""
    jax.config.update("jax_platforms", "cpu")


def save(model: Model, spec: Spec, folder: Path, platforms: Sequence[str] = PLATFORMS) -> dict[str, str]:
    """Write FOLDER/model.stablehlo; return facts. Whatever JAX or the model raises is passed on.

    model: a function of JAX's from inputs to outputs, both by the spec's names. For a process of its own, since JAX's
    settings are changed.
    """
    jax.config.update("jax_traceback_in_locations_limit", 0)  # else this machine's paths are in the file

    def predict(**inputs: Any) -> dict[str, Any]:
        return dict(model(inputs))

    shapes = _shapes(spec)
    wide = _wide(DTYPES[tensor.dtype] for tensor in spec.inputs + spec.outputs)
    with jax.enable_x64(wide), jax.default_matmul_precision(MATMUL_PRECISION):
        exported = jax.export.export(jax.jit(predict), platforms=platforms)(**shapes)
    (folder / FILE).write_bytes(exported.serialize())
    (version,) = set(VERSION.findall(exported.mlir_module_serialized))
    return {
        "stablehlo": version.decode(),
        "jax_calling_convention": str(exported.calling_convention_version),
        "platforms": " ".join(exported.platforms),
        "matmul_precision": MATMUL_PRECISION,
    }


def read(file: Path) -> Any:
    """Return the exported function in a file. Raises ExportError, FileNotFoundError."""
    content = bytearray(file.read_bytes())
    try:
        return jax.export.deserialize(content)
    except Exception as error:  # struct.error, AttributeError and others, by where the bytes stop making sense
        raise ExportError(f"{file} holds nothing that jax.export {jax.__version__} reads; run: make export") from error


def inputs_of(exported: Any) -> dict[str, Any]:
    """Return shape and dtype of each input of an exported function, by name."""
    _, by_name = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    return dict(by_name)


def full_width(exported: Any) -> Any:
    """Return a context in which JAX keeps 64 bits where inputs or outputs have them; it halves them otherwise."""
    return jax.enable_x64(_wide(each.dtype for each in (*exported.in_avals, *exported.out_avals)))


def load(folder: Path) -> Predict:
    """Return a function that runs the file on the CPU; each new shape is compiled first. For a process of its own."""
    stay_on_cpu()
    exported = read(folder / FILE)
    run = jax.jit(exported.call)

    def predict(inputs: Arrays) -> Arrays:
        with full_width(exported):
            return {name: np.asarray(values) for name, values in run(**inputs).items()}

    return predict


def _shapes(spec: Spec) -> dict[str, Any]:
    """Return the inputs as jax.export takes them: open axes as symbols, within the spec's largest sizes."""
    names = list(dict.fromkeys(axis for t in spec.inputs for axis in t.shape if isinstance(axis, str)))
    bounds = [f"{axis} <= {most}" for axis, most in spec.max_sizes.items() if axis in names]
    symbols = dict(zip(names, jax.export.symbolic_shape(", ".join(names), constraints=bounds), strict=True))
    return {
        t.name: jax.ShapeDtypeStruct(
            [symbols[axis] if isinstance(axis, str) else axis for axis in t.shape], DTYPES[t.dtype]
        )
        for t in spec.inputs
    }


def _wide(dtypes: Iterable[np.dtype[Any]]) -> bool:
    return any(dtype.itemsize == WIDE_BYTES for dtype in dtypes)
