"""Whether an artifact answers as its model should: run it on seeded inputs against the float64 reference."""

import math
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
from servepath.artifacts.reference import FORMAT as REFERENCE
from servepath.artifacts.spec import FRACTIONS, Spec, Tolerance

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
    """Compare an artifact with the reference in batches of every size, each output within its own tolerance.

    Raises ParityError for one that is beyond it, or of another name, shape or dtype than the spec's, and for a
    reference that has no number.
    """
    what, spec = f"{trained.name} as {artifact_format}", trained.spec
    inputs = seeded_inputs(spec)
    expected = trained.reference(inputs)
    _check_shapes(what, spec, expected)
    _check_finite(what, spec, expected)
    answers: dict[int, Arrays] = {}
    for size in BATCH_SIZES:
        answers[size] = in_batches(predict, inputs, size)
        _check_shapes(what, spec, answers[size])
        if artifact_format != REFERENCE:  # which is in float64
            _check_dtypes(what, spec, answers[size])
    largest = 0.0
    for tensor in spec.outputs:
        name, tolerance = tensor.name, spec.tolerance_of(tensor)
        apart = float(np.max([_largest(answer[name], expected[name]) for answer in answers.values()]))
        if not all(close(answer[name], expected[name], tolerance) for answer in answers.values()):
            raise ParityError(
                f"{what}: the largest difference of {name!r} from the float64 reference is {apart:.3g}, "
                f"the tolerance is {tolerance}; nothing was kept"
            )
        largest = float(np.max([largest, apart]))
    most = max(BATCH_SIZES)
    same = all(close(answers[most][t.name], answers[1][t.name], spec.tolerance_of(t)) for t in spec.outputs)
    if spec.row_independent and not same:
        raise ParityError(f"{what}: a batch of {most} is not {most} singles, its spec promises it; nothing was kept")
    return Parity(ROWS, BATCH_SIZES, largest, same)


def close(values: NDArray[Any], wanted: NDArray[Any], tolerance: Tolerance) -> bool:
    """Return whether an output agrees with what is wanted: within the tolerance, or equal where it has no fractions."""
    if values.dtype.kind != "f" and values.dtype != DTYPES["BF16"]:
        return np.array_equal(values, wanted)
    with np.errstate(invalid="ignore"):
        return tolerance.holds(values.astype(np.float64), wanted.astype(np.float64))


def in_batches(predict: Predict, inputs: Arrays, size: int) -> Arrays:
    """Return the answers to all rows, predicted in batches of `size`."""
    starts = range(0, len(next(iter(inputs.values()))), size)
    batches = [predict({name: rows[at : at + size] for name, rows in inputs.items()}) for at in starts]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _largest(values: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the largest difference, NaN where one alone is no number; of texts, infinity where one is another."""
    if values.dtype.hasobject:
        return 0.0 if np.array_equal(values, wanted) else math.inf
    ours, theirs = values.astype(np.float64), wanted.astype(np.float64)
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(ours - theirs))
    return float(np.max(apart, initial=0.0))


def _check_shapes(what: str, spec: Spec, answer: Arrays) -> None:
    """Raise ParityError when a name or a shape is not the spec's."""
    shapes = {name: values.shape for name, values in answer.items()}
    promised = {tensor.name: (ROWS, *tensor.shape[1:]) for tensor in spec.outputs}
    if shapes != promised:
        raise ParityError(f"{what}: the outputs are {shapes}, the spec declares {promised}; nothing was kept")


def _check_finite(what: str, spec: Spec, expected: Arrays) -> None:
    """Raise ParityError for a reference without a finite number: an artifact that computes none would agree."""
    values = [expected[tensor.name].astype(np.float64) for tensor in spec.outputs if tensor.dtype in FRACTIONS]
    if any(each.size for each in values) and not any(np.isfinite(each).any() for each in values):
        raise ParityError(
            f"{what}: the reference has no finite number: train again, with a smaller --lr; nothing was kept"
        )


def _check_dtypes(what: str, spec: Spec, answer: Arrays) -> None:
    """Raise ParityError for a dtype that is not the spec's: servers refuse such a file."""
    for tensor in spec.outputs:
        if (dtype := answer[tensor.name].dtype) != DTYPES[tensor.dtype]:
            raise ParityError(
                f"{what}: output {tensor.name!r} is {dtype}, the spec declares {tensor.dtype}; nothing was kept"
            )
