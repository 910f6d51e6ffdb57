"""No caller pays for a batch size that was never run: there are few, and all have been run before the first call."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols.arrays import from_values, to_array
from servepath.protocols.types import Tensor
from services.dataplane.batcher import BatchLimits
from services.dataplane.engine import Engine, RunError
from services.oip_server.artifact import load
from services.onnx_svc.config import SERVICE
from services.onnx_svc.ort import OrtEngine
from tests.tiny_onnx import make_export, model_file

SPEC = Spec(
    (TensorSpec("x", "FP32", ("batch", 3, 8, 8)),),
    (TensorSpec("y", "FP32", ("batch", 4, 8, 8)),),
    row_independent=True,
    tolerance=Tolerance(1e-5, 1e-5),
)
IMAGE_BYTES = 4 * 3 * 8 * 8


def convolution() -> bytes:
    """Return the ONNX file of a convolution of images."""
    weights = np.random.default_rng(0).normal(0, 1, (4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [numpy_helper.from_array(weights, "w")],
    )
    return model_file(graph)


class AsOnGpu:
    """ONNX Runtime on the CPU, said to be slow at each new batch size; it notes the sizes."""

    def __init__(self, file: Path, *, slow: bool = True) -> None:
        self._engine = OrtEngine(file, "cpu")
        self.name, self.version, self.declared = self._engine.name, self._engine.version, self._engine.declared
        self.slow_first_runs = slow
        self.sizes: list[int] = []

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        self.sizes.append(inputs[0].shape[0])
        return self._engine.run(inputs, outputs)


def images(count: int) -> Tensor:
    return from_values("x", "FP32", np.random.default_rng(count).normal(0, 1, (count, 3, 8, 8)).astype(np.float32))


def loaded(tmp_path: Path, limits: BatchLimits, *, slow: bool = True, spec: Spec = SPEC) -> tuple[Engine, AsOnGpu]:
    make_export(tmp_path, "m", content=convolution(), spec=spec)
    made: list[AsOnGpu] = []

    def load_engine(file: Path) -> AsOnGpu:
        made.append(AsOnGpu(file, slow=slow))
        return made[-1]

    return load(tmp_path / "m" / "onnx" / "1", SERVICE, load_engine, limits).engine, made[0]


def test_no_call_runs_a_batch_size_that_has_not_been_run_before(tmp_path: Path) -> None:
    engine, device = loaded(tmp_path, BatchLimits(max_rows=16, max_bytes=2**20))
    ready = set(device.sizes)
    assert ready == {1, 2, 4, 8, 16}
    plain = OrtEngine(tmp_path / "m" / "onnx" / "1" / "model.onnx", "cpu")
    for count in range(1, 17):
        asked = images(count)
        (found,), (wanted,) = engine.run([asked], ["y"]), plain.run([asked], ["y"])
        assert found.shape == (count, 4, 8, 8)
        np.testing.assert_allclose(to_array(found), to_array(wanted), rtol=1e-5, atol=1e-5)
    assert set(device.sizes) == ready


def test_batches_that_bytes_rule_out_are_not_run(tmp_path: Path) -> None:
    _, device = loaded(tmp_path, BatchLimits(max_rows=256, max_bytes=6 * IMAGE_BYTES))
    assert sorted(set(device.sizes)) == [1, 2, 4, 6]


def test_a_larger_request_is_run_as_it_is(tmp_path: Path) -> None:
    engine, device = loaded(tmp_path, BatchLimits(max_rows=4, max_bytes=2**20))
    (found,) = engine.run([images(7)], ["y"])
    assert (found.shape[0], device.sizes[-1]) == (7, 7)


@pytest.mark.parametrize(("slow", "independent"), [(False, True), (True, False)])
def test_where_sizes_cost_nothing_or_rows_depend_on_each_other_nothing_is_filled_up(
    tmp_path: Path, *, slow: bool, independent: bool
) -> None:
    spec = Spec(SPEC.inputs, SPEC.outputs, independent, SPEC.tolerance)
    engine, device = loaded(tmp_path, BatchLimits(max_rows=16, max_bytes=2**20), slow=slow, spec=spec)
    engine.run([images(3)], ["y"])
    assert device.sizes[-1] == 3
    assert set(device.sizes) == {1, 3}


def test_a_size_that_does_not_run_is_none_and_the_model_is_served(tmp_path: Path) -> None:
    make_export(tmp_path, "m", content=convolution(), spec=SPEC)

    class Small(AsOnGpu):
        def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
            if inputs[0].shape[0] > 4:
                raise RunError("out of memory")
            return super().run(inputs, outputs)

    artifact = load(tmp_path / "m" / "onnx" / "1", SERVICE, Small, BatchLimits(max_rows=16, max_bytes=2**20))
    assert artifact.max_rows == 4
    (found,) = artifact.engine.run([images(3)], ["y"])
    assert found.shape[0] == 3
