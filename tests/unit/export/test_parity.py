from pathlib import Path

import numpy as np
import pytest

from export import parity
from export.errors import ParityError
from export.trained import Trained
from models.registry import Arrays
from servepath.artifacts.manifest import Parity
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance

SPEC = Spec(
    (TensorSpec("x", "FP32", ("batch", 2)),),
    (TensorSpec("y", "FP32", ("batch", 1)),),
    row_independent=True,
    tolerance=Tolerance(1e-5, 1e-5),
)
DEPENDENT = Spec(SPEC.inputs, SPEC.outputs, False, SPEC.tolerance)  # noqa: FBT003 - row_independent
WEIGHTS = {"linear.weight": np.array([[2, -3]], np.float32), "linear.bias": np.array([0.5], np.float32)}


def trained(spec: Spec = SPEC) -> Trained:
    return Trained("simple_nn", Path("weights.safetensors"), spec, WEIGHTS)


def right(inputs: Arrays) -> Arrays:
    """Answer in float32, as an artifact does."""
    return {"y": (inputs["x"] @ WEIGHTS["linear.weight"].T + WEIGHTS["linear.bias"]).astype(np.float32)}


def test_an_artifact_that_answers_correctly_passes_with_what_was_found() -> None:
    found = parity.check(trained(), "onnx", right)
    assert found == Parity(4096, (1, 2, 7, 64), found.max_abs_difference, batch_equals_singles=True)
    assert 0 < found.max_abs_difference < 1e-5


def test_the_seeded_inputs_are_many_varied_in_range_and_the_same_every_time() -> None:
    first, second = (parity.seeded_inputs(SPEC)["x"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (4096, 2)
    assert first.dtype == np.float32
    assert len(np.unique(first)) > 8000
    assert first.min() >= -10
    assert first.max() <= 10
    assert np.ptp(first) > 19.9


def test_every_batch_size_is_asked_for() -> None:
    sizes = []

    def watched(inputs: Arrays) -> Arrays:
        sizes.append(len(inputs["x"]))
        return right(inputs)

    parity.check(trained(), "onnx", watched)
    assert {1, 2, 7, 64} <= set(sizes)
    assert sum(sizes) == 4 * 4096


@pytest.mark.parametrize("off", [1e-3, np.nan, np.inf])
def test_one_wrong_answer_in_a_full_batch_alone_is_refused(off: float) -> None:
    def wrong(inputs: Arrays) -> Arrays:
        answer = right(inputs)["y"]
        answer[63:, 0] += off
        return {"y": answer}

    with pytest.raises(ParityError) as refused:
        parity.check(trained(), "onnx", wrong)
    assert "simple_nn as onnx" in str(refused.value)
    assert "rtol 1e-05, atol 1e-05" in str(refused.value)
    assert ("0.001" if off == 1e-3 else str(off)) in str(refused.value)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda inputs: {"z": right(inputs)["y"]},
        lambda inputs: right(inputs) | {"z": right(inputs)["y"]},
        lambda inputs: {"y": right(inputs)["y"][:, 0]},
        lambda inputs: {"y": right(inputs)["y"][:1]},
        lambda _: {},
    ],
)
def test_outputs_of_other_names_or_shapes_than_promised_are_refused(wrong: parity.Predict) -> None:
    with pytest.raises(ParityError, match="the spec declares"):
        parity.check(trained(), "onnx", wrong)


def nearly(inputs: Arrays) -> Arrays:
    """Answer within tolerance, but depending on the batch: singles a little above, others a little below."""
    sign = 1 if len(inputs["x"]) == 1 else -1
    return {"y": right(inputs)["y"].astype(np.float64) + sign * 8e-6}


def test_rows_that_depend_on_their_batch_are_refused_when_the_spec_says_they_do_not() -> None:
    with pytest.raises(ParityError, match="a batch of 64 is not 64 singles"):
        parity.check(trained(), "onnx", nearly)


def test_rows_that_depend_on_their_batch_are_noted_when_the_spec_admits_it() -> None:
    assert parity.check(trained(DEPENDENT), "onnx", nearly).batch_equals_singles is False
