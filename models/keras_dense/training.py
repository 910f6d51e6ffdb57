"""simple_nn's data and start: the two models are equivalent, and end with equal weights."""

from models.registry import Arrays
from models.simple_nn import training as simple_nn
from models.simple_nn.training import INPUTS, TARGETS

__all__ = ["INPUTS", "TARGETS", "initial_weights"]


def initial_weights(seed: int) -> Arrays:
    """Return float32 weights in the order of the model's variables; Keras keeps a kernel as [inputs, outputs]."""
    weights = simple_nn.initial_weights(seed)
    return {"kernel": weights["linear.weight"].T, "bias": weights["linear.bias"]}
