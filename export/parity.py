"""Whether an artifact answers as its model should: run it on seeded inputs against the float64 reference."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from export.errors import ParityError
from export.trained import Trained
from models.registry import INPUT_RANGE, Arrays
from servepath.artifacts.manifest import Parity
from servepath.artifacts.spec import Spec

ROWS = 4096
SEED = 20240229
BATCH_SIZES = (1, 2, 7, 64)
# NumPy's dtype of each dtype of the Open Inference Protocol.
DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {f"{kind}{bits}": np.dtype(f"{kind.lower()}{bits}") for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)}
    | {"BOOL": np.dtype(bool), "FP16": np.dtype("float16"), "FP32": np.dtype("float32"), "FP64": np.dtype("float64")}
    | {"BF16": np.dtype(ml_dtypes.bfloat16), "BYTES": np.dtype(object)}
)

Predict = Callable[[Arrays], Arrays]


def seeded_inputs(spec: Spec) -> Arrays:
    """Return ROWS rows of every input, uniform in INPUT_RANGE as far as its dtype goes; the same on every machine."""
    draw = np.random.default_rng(SEED)
    return {t.name: _cast(draw.uniform(*INPUT_RANGE, (ROWS, *t.sizes[1:])), t.dtype) for t in spec.inputs}


def _cast(values: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    """Return numbers as the dtype has them: without a sign, as true above zero, or as their decimal digits."""
    if dtype == "BYTES":
        return np.array([b"%d" % value for value in values.ravel()], object).reshape(values.shape)
    if dtype == "BOOL":
        return values > 0
    return (np.abs(values) if dtype.startswith("UINT") else values).astype(DTYPES[dtype])


def check(trained: Trained, artifact_format: str, predict: Predict) -> Parity:
    """Compare an artifact with the reference in batches of every size. Raises ParityError beyond the tolerance."""
    what = f"{trained.name} as {artifact_format}"
    inputs, tolerance = seeded_inputs(trained.spec), trained.spec.tolerance
    expected = _joined(what, trained.spec, trained.reference(inputs))
    answers = {size: _joined(what, trained.spec, in_batches(predict, inputs, size)) for size in BATCH_SIZES}
    largest = float(np.max([np.abs(answer - expected) for answer in answers.values()]))
    if not all(tolerance.holds(answer, expected) for answer in answers.values()):
        raise ParityError(
            f"{what}: the largest difference from the float64 reference is {largest:.3g}, "
            f"the tolerance is {tolerance}; nothing was kept"
        )
    most = max(BATCH_SIZES)
    same = tolerance.holds(answers[most], answers[1])
    if trained.spec.row_independent and not same:
        raise ParityError(f"{what}: a batch of {most} is not {most} singles, its spec promises it; nothing was kept")
    return Parity(ROWS, BATCH_SIZES, largest, same)


def in_batches(predict: Predict, inputs: Arrays, size: int) -> Arrays:
    """Return the answers to all rows, predicted in batches of `size`."""
    starts = range(0, len(next(iter(inputs.values()))), size)
    batches = [predict({name: rows[at : at + size] for name, rows in inputs.items()}) for at in starts]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _joined(what: str, spec: Spec, answer: Arrays) -> NDArray[np.float64]:
    """Return all outputs side by side as [ROWS, values].

    Raises ParityError when a name or a shape is not the spec's.
    """
    shapes = {name: values.shape for name, values in answer.items()}
    promised = {tensor.name: (ROWS, *tensor.shape[1:]) for tensor in spec.outputs}
    if shapes != promised:
        raise ParityError(f"{what}: the outputs are {shapes}, the spec declares {promised}; nothing was kept")
    return np.concatenate([answer[name].reshape(ROWS, -1).astype(np.float64) for name in promised], axis=1)
