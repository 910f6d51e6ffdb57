"""An exported program of PyTorch's as a function of JAX's, by torchax.

For a process of its own: torchax renames a device of PyTorch's and turns a fast path of its attention off.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import torchax
import torchax.export

from export.stablehlo.file import Model


def function(program: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Model:
    """Return the function, its weights inside. inputs, outputs: what they are called, in the program's order."""
    torchax.default_env()  # without one, torchax knows no operator
    _, states, run = torchax.export.exported_program_to_jax(program, export_raw=True)

    def model(given: Mapping[str, Any]) -> Mapping[str, Any]:
        weights = [jax.numpy.asarray(state.detach().numpy()) for state in states]
        return dict(zip(outputs, run(weights, tuple(given[name] for name in inputs)), strict=True))

    return model
