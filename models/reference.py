"""What each model should answer, in float64 and with numpy alone: the ground truth for every artifact.

One function a model: (weights by their names in the weights file, inputs by name) -> outputs by name.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def simple_nn(weights: Arrays, inputs: Arrays) -> Arrays:
    """Return y [rows, 1] float64 of x [rows, 2]; torch keeps the kernel as [outputs, inputs]."""
    return {"y": _affine(inputs["x"], weights["linear.weight"].T, weights["linear.bias"])}


def keras_dense(weights: Arrays, inputs: Arrays) -> Arrays:
    """Return y [rows, 1] float64 of x [rows, 2]; a .keras file numbers a layer's variables: kernel, then bias."""
    return {"y": _affine(inputs["x"], weights["layers/dense/vars/0"], weights["layers/dense/vars/1"])}


def _affine(x: NDArray[Any], kernel: NDArray[Any], bias: NDArray[Any]) -> NDArray[np.float64]:
    return x.astype(np.float64) @ kernel.astype(np.float64) + bias.astype(np.float64)
