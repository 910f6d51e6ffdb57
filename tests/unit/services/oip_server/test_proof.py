"""Engines that answer otherwise here than where they were exported; the stand-ins say so in their names."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from servepath.artifacts.manifest import ArtifactError, artifact_folder
from servepath.artifacts.reference import FILE, FORMAT
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols.arrays import Array, from_values, to_array
from servepath.protocols.types import Tensor
from services.dataplane.batcher import BatchLimits
from services.dataplane.engine import EngineError, RunError
from services.oip_server import proof
from services.oip_server.alone import Alone
from services.oip_server.artifact import Artifact, load
from services.oip_server.proof import RowByRow
from services.onnx_svc.config import SERVICE
from tests.imagined_devices import as_exported, off_in_batches, rounded_as_tf32
from tests.limits import LONG_S
from tests.manifests import SPEC, write_manifest
from tests.tiny_onnx import linear, make_export

ROWS = 7
X = np.linspace(-3, 3, 2 * ROWS, dtype=np.float32).reshape(ROWS, 2)
WEIGHTS = np.array([[1.0], [2.0]])


@pytest.fixture(autouse=True)
def any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no batch be smaller because this machine was busy while a row was timed."""
    monkeypatch.setattr(proof, "BATCHES_S", 3600.0)


class StandIn:
    """A stand-in for an engine: y = x0 + 2 x1 in float64, and then what a device makes of it."""

    name = "stand-in"
    version = "1 (imagined device)"
    slow_first_runs = False

    def __init__(self, device: Callable[[Array], Array], spec: Spec = SPEC) -> None:
        self.batches: list[int] = []
        self._device = device
        self._spec = spec

    def declared(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        return self._spec.inputs, self._spec.outputs

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        x = to_array(inputs[0])
        self.batches.append(len(x))
        assert list(outputs) == ["y"]
        return (from_values("y", "FP32", self._device(x.astype(np.float64) @ WEIGHTS).astype(np.float32)),)


def loaded(tmp_path: Path, engine: StandIn, max_rows: int = 64, max_bytes: int = 2**16) -> Artifact:
    """Load the engine as version 1 of a model with a reference."""
    make_export(tmp_path, "m", content=linear(0))
    folder = artifact_folder(tmp_path, "m", FORMAT, 1)
    folder.mkdir(parents=True)
    safetensors.numpy.save_file({"x": X, "y": X.astype(np.float64) @ WEIGHTS}, folder / FILE)
    write_manifest(folder, "m", FORMAT, 1)
    limits = BatchLimits(max_rows=max_rows, max_bytes=max_bytes)
    return load(artifact_folder(tmp_path, "m", "onnx", 1), SERVICE, lambda _: engine, limits)


def test_what_answers_as_exported_is_batched(tmp_path: Path) -> None:
    engine = StandIn(as_exported)
    artifact = loaded(tmp_path, engine)
    assert artifact.max_rows == 64
    assert 0 < artifact.proof.difference < 1e-5  # float32's own rounding
    # The probe, then twice at once: two rows alone, and the largest batch.
    assert engine.batches == [1] + 2 * [1, 1] + 2 * [64]


def test_an_engine_that_answers_otherwise_beside_another_run_is_not_served(tmp_path: Path) -> None:
    both_run, alone = threading.Barrier(2), Alone()

    def off_beside_another(y: Array) -> Array:
        with alone as is_alone:
            if y.any():  # the row of zeros is the probe's, which runs by itself
                both_run.wait(LONG_S)
            return y if is_alone else y + 1e-3

    with pytest.raises(EngineError, match=r"is 0\.001 away from the reference"):
        loaded(tmp_path, StandIn(off_beside_another))


def test_an_engine_whose_batches_differ_from_their_rows_is_served_row_by_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = StandIn(off_in_batches)
    with caplog.at_level(logging.WARNING):
        artifact = loaded(tmp_path, engine)
    assert artifact.max_rows == 1
    (said,) = caplog.messages
    assert said.startswith(
        "m: rows are computed one by one: in a batch of 64 rows, stand-in 1 (imagined device) is 0.001 away from the "
        "reference, rows alone "
    )
    (y,) = artifact.engine.run((from_values("x", "FP32", X),), ["y"])
    np.testing.assert_allclose(to_array(y), X.astype(np.float64) @ WEIGHTS, rtol=1e-6)
    assert engine.batches[-ROWS:] == [1] * ROWS


def test_an_engine_that_rounds_to_fewer_bits_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(
        EngineError,
        match=r"^m: stand-in 1 \(imagined device\) is 0\.00\d+ away from the reference, beyond rtol 1e-05, atol 1e-05: "
        "this device computes otherwise than the export proved",
    ):
        loaded(tmp_path, StandIn(rounded_as_tf32))


def test_an_engine_that_runs_no_batch_is_served_row_by_row(tmp_path: Path) -> None:
    def runs_rows_alone(y: Array) -> Array:
        if len(y) > 1:
            raise RunError("out of memory")
        return y

    artifact = loaded(tmp_path, StandIn(runs_rows_alone))
    assert artifact.max_rows == 1
    assert artifact.proof.why_unbatched.startswith("in a batch of 64 rows, m: stand-in 1 (imagined device) does not ")
    (y,) = artifact.engine.run((from_values("x", "FP32", X),), ["y"])
    assert y.shape == (ROWS, 1)


def test_an_engine_that_does_not_run_the_reference_is_not_served(tmp_path: Path) -> None:
    def runs_zeros_alone(y: Array) -> Array:  # as the probe's are
        if y.any():
            raise RunError("no kernel")
        return y

    with pytest.raises(EngineError, match=r"^m: stand-in 1 .* does not run the reference's rows"):
        loaded(tmp_path, StandIn(runs_zeros_alone))


def test_no_batch_is_asked_that_is_larger_than_any_that_is_joined(tmp_path: Path) -> None:
    engine = StandIn(as_exported)
    assert loaded(tmp_path, engine, max_bytes=5 * 8).max_rows == 64
    assert max(engine.batches) == 5


def test_an_answer_that_is_not_finite_is_infinitely_far_away(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is inf away from the reference"):
        loaded(tmp_path, StandIn(lambda y: np.where(y < 0, np.nan, y)))


def test_a_model_that_is_never_batched_is_asked_no_batch(tmp_path: Path) -> None:
    engine = StandIn(off_in_batches)
    assert loaded(tmp_path, engine, max_rows=1).max_rows == 1
    assert set(engine.batches) == {1}


def test_a_reference_that_is_not_what_its_manifest_says_stops_the_model(tmp_path: Path) -> None:
    artifact = loaded(tmp_path, StandIn(as_exported))
    (artifact_folder(tmp_path, "m", FORMAT, 1) / FILE).write_bytes(b"other")
    with pytest.raises(ArtifactError, match="does not match its manifest"):
        load(artifact_folder(tmp_path, "m", "onnx", 1), SERVICE, lambda _: artifact.engine)


def test_rows_of_several_tensors_are_cut_and_stacked_by_name() -> None:
    class Sum(StandIn):
        def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
            assert list(outputs) == ["y", "n"]
            a, b = (to_array(tensor) for tensor in inputs)
            assert len(a) == len(b) == 1
            return (from_values("y", "FP32", a + b), from_values("n", "INT64", np.array([[3]])))

    a, b = (np.arange(6, dtype=np.float32).reshape(3, 2) * factor for factor in (1, 10))
    engine = RowByRow(Sum(as_exported, Spec((), (), row_independent=True, tolerance=Tolerance())))
    y, n = engine.run((from_values("a", "FP32", a), from_values("b", "FP32", b)), ["y", "n"])
    np.testing.assert_array_equal(to_array(y), a + b)
    assert (n.shape, to_array(n).tolist()) == ((3, 1), [[3], [3], [3]])
