"""The seam to what computes: a file becomes an Engine, an Engine turns tensors into tensors. ONNX Runtime is one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from servepath.artifacts.spec import TensorSpec
from servepath.protocols.types import Tensor

REJECTED = "the model rejected an element of its input, or the size of an axis"


class EngineError(Exception):
    """A model cannot be loaded or run on this machine; the text names the file or device and the fix."""


class RunError(Exception):
    """A run failed, on account of its input or of the engine itself: the engine cannot tell."""


class Engine(Protocol):
    """A loaded model, which computes float32 numbers in float32 on every device.

    name, version: as every reply and table shows them, such as "onnxruntime" and "1.31.1 (CPUExecutionProvider)".
    slow_first_runs: whether the first run of each batch size takes much longer than its others.
    """

    name: str
    version: str
    slow_first_runs: bool

    def declared(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Return inputs and outputs as the file itself declares them, -1 for every open dimension."""

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """Return the named outputs, in that order, for inputs that fit the declaration. Called by several threads.

        Raises BadInput when the computation refuses the elements (an index out of range), RunError when it may be the
        input's fault, such as an axis longer than the model can take; anything else is our fault.
        """


Load = Callable[[Path], Engine]
