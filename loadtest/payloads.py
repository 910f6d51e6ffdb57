"""Requests encoded before the measuring starts, and the answers that they must get.

Inputs and float64 answers come from the model's reference artifact, so that no framework is needed here.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from servepath.artifacts.manifest import ArtifactError
from servepath.artifacts.reference import Reference, read_reference
from servepath.artifacts.spec import TensorSpec, Tolerance
from servepath.protocols.arrays import DTYPES, Array, from_values, to_array
from servepath.protocols.types import Request, Tensor


class Expected(NamedTuple):
    """One output that must come: values is float64 of `shape`, and limits says how far each may be off."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: Array
    limits: Array


class Payload(NamedTuple):
    """One request as bytes on the wire, its number of rows and the answer it must get."""

    request: bytes
    rows: int
    expected: tuple[Expected, ...]


def load_reference(exports: Path, model: str) -> Reference:
    """Read the current reference of a model after checking its hashes. Raises ArtifactError."""
    reference = read_reference(exports, model)
    for tensor in reference.spec.inputs + reference.spec.outputs:
        if tensor.dtype not in DTYPES:
            raise ArtifactError(f"{model}: the load test cannot send or check {tensor.dtype} ({tensor.name!r}) yet")
    return reference


def prepare(
    reference: Reference, model: str, encode: Callable[[Request, str, int], bytes], *, rows: int, seed: int
) -> list[Payload]:
    """Return the reference cut into requests of `rows` rows for `model`, in an order drawn from the seed.

    Every reference row is in exactly one request, so a run repeats none before it has sent them all. The same seed
    gives every path of a model the same inputs in the same order.
    """
    order = np.random.default_rng(seed).permutation(reference.rows)
    picks = [order[start : start + rows] for start in range(0, len(order) - rows + 1, rows)]
    return [_payload(reference, pick, lambda request: encode(request, model, 0)) for pick in picks]


def _payload(reference: Reference, pick: Array, encode: Callable[[Request], bytes]) -> Payload:
    spec, arrays = reference.spec, reference.arrays
    inputs = tuple(from_values(tensor.name, tensor.dtype, arrays[tensor.name][pick]) for tensor in spec.inputs)
    expected = tuple(_expected(tensor, arrays[tensor.name][pick], spec.tolerance) for tensor in spec.outputs)
    return Payload(encode(Request(reference.model, 0, inputs)), len(pick), expected)


def _expected(spec: TensorSpec, values: Array, tolerance: Tolerance) -> Expected:
    values = values.astype(np.float64)
    return Expected(spec.name, spec.dtype, values.shape, values, tolerance.limits(values))


def agrees(outputs: Sequence[Tensor], expected: Sequence[Expected]) -> bool:
    """Return whether an answer has exactly the expected outputs, each within its limits; a NaN never is."""
    by_name = {tensor.name: tensor for tensor in outputs}
    return len(outputs) == len(expected) and all(
        want.name in by_name and _close(by_name[want.name], want) for want in expected
    )


def _close(tensor: Tensor, want: Expected) -> bool:
    if (tensor.dtype, tensor.shape) != (want.dtype, want.shape):
        return False
    try:
        values = to_array(tensor)
    except ValueError:  # the bytes are not what dtype and shape say
        return False
    return bool((np.abs(values - want.values) <= want.limits).all())
