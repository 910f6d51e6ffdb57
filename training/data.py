"""The data, and the one seeded start that both frameworks set out from."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

INPUTS: Floats = np.array([[1, 2], [2, 3]], np.float32)
TARGETS: Floats = np.array([[1], [2]], np.float32)


def start(seed: int) -> tuple[Floats, Floats]:
    """Return kernel [2, 1] and bias [1], uniform within 1/sqrt(inputs) of zero, as torch's nn.Linear begins."""
    bound = 1 / np.sqrt(INPUTS.shape[1])
    values = np.random.default_rng(seed).uniform(-bound, bound, 3).astype(np.float32)
    return values[:2].reshape(2, 1), values[2:]
