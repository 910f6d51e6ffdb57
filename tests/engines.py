"""Engines that tests steer: y = x0 + 2 x1, when and if the test lets them."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from servepath.artifacts.spec import TensorSpec
from servepath.protocols.types import Tensor
from tests.limits import LONG_S
from tests.manifests import SPEC
from tests.tiny_onnx import WEIGHTS


class GatedEngine:
    """An Engine that computes one row at once, and more only while its gate is open."""

    name = "gated"
    version = "1"
    slow_first_runs = False

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.rows: list[float] = []
        self.entered = threading.Semaphore(0)
        self.fault: Callable[[], Exception] | None = None

    def declared(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        return SPEC.inputs, SPEC.outputs

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        assert list(outputs) == ["y"]
        x = np.frombuffer(inputs[0].data, "<f4").reshape(inputs[0].shape)
        if x.any():  # the row of zeros at the start passes
            self.rows.append(float(x[0, 0]))
            self.entered.release()
            assert self.gate.wait(LONG_S)
            if self.fault is not None:
                raise self.fault()
        y = (x @ np.array(WEIGHTS, "<f4")).reshape(-1, 1)
        return (Tensor("y", "FP32", y.shape, y.tobytes()),)


class Gated:
    """Loads one gated engine, whatever the file. `engine` is set by the first load."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.engine = GatedEngine(self.gate)

    def __call__(self, file: Path) -> GatedEngine:
        assert file.is_file()
        return self.engine
