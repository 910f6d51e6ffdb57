"""What keras_dense should answer, in float64 and with numpy alone: the ground truth for every artifact."""

import numpy as np

from models.registry import Arrays


def answer(weights: Arrays, inputs: Arrays) -> Arrays:
    """Return y [rows, 1] float64 of x [rows, 2]; a .keras file numbers a layer's variables: kernel, then bias."""
    kernel, bias = (weights[f"layers/dense/vars/{number}"].astype(np.float64) for number in (0, 1))
    return {"y": inputs["x"].astype(np.float64) @ kernel + bias}
