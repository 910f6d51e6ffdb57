from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    return {"y": right(inputs)["y"] + np.float32(sign * 8e-6)}


def test_rows_that_depend_on_their_batch_are_refused_when_the_spec_says_they_do_not() -> None:
    with pytest.raises(ParityError, match="a batch of 64 is not 64 singles"):
        parity.check(trained(), "onnx", nearly)


def test_rows_that_depend_on_their_batch_are_noted_when_the_spec_admits_it() -> None:
    assert parity.check(trained(DEPENDENT), "onnx", nearly).batch_equals_singles is False


def test_another_dtype_than_promised_is_refused_but_of_the_reference_itself() -> None:
    def wide(inputs: Arrays) -> Arrays:
        return {"y": right(inputs)["y"].astype(np.float64)}

    with pytest.raises(ParityError, match="simple_nn as onnx: output 'y' is float64, the spec declares FP32"):
        parity.check(trained(), "onnx", wide)
    assert parity.check(trained(), "reference", wide).batch_equals_singles


@dataclass(frozen=True)
class Classifier(Trained):
    """Two scores a row as logits, which of them is the larger, and how large that one is."""

    def reference(self, inputs: Arrays) -> Arrays:
        logits = inputs["x"].astype(np.float64)
        return {"logits": logits, "label": logits.argmax(1), "score": logits.max(1, keepdims=True)}


def classified(inputs: Arrays) -> dict[str, Any]:
    """Answer as an artifact does."""
    x = inputs["x"]
    return {"logits": x, "label": x.argmax(1), "score": x.max(1, keepdims=True)}


def classifier(tolerance: Tolerance, own: Tolerance | None = None) -> Trained:
    outputs = (
        TensorSpec("logits", "FP32", ("batch", 2), own),
        TensorSpec("label", "INT64", ("batch",)),
        TensorSpec("score", "FP32", ("batch", 1)),
    )
    spec = Spec(SPEC.inputs, outputs, row_independent=True, tolerance=tolerance)
    return Classifier("classifier", Path("weights.safetensors"), spec, {})


@pytest.mark.parametrize("tolerance", [Tolerance(top_k=1), Tolerance(cosine=0.999), Tolerance(0.5, 0.5)], ids=str)
def test_each_output_is_compared_for_itself(tolerance: Tolerance) -> None:
    parity.check(classifier(tolerance), "onnx", classified)
    for name, wrong in (
        ("logits", lambda right: right["logits"][:, ::-1].copy()),
        ("label", lambda right: right["label"] + 1),
    ):
        with pytest.raises(ParityError, match=f"the largest difference of '{name}' from the float64 reference"):
            parity.check(
                classifier(tolerance), "onnx", lambda x, n=name, w=wrong: classified(x) | {n: w(classified(x))}
            )


def test_an_output_is_held_to_its_own_tolerance() -> None:
    def shifted(inputs: Arrays) -> Arrays:
        return classified(inputs) | {"logits": inputs["x"] + np.float32(0.01)}

    loose, strict = Tolerance(0.1, 0.1), Tolerance(1e-5, 1e-5)
    assert parity.check(classifier(strict, loose), "onnx", shifted).max_abs_difference == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(ParityError, match=r"of 'logits' .* the tolerance is rtol 1e-05, atol 1e-05"):
        parity.check(classifier(loose, strict), "onnx", shifted)


def test_what_is_no_number_in_both_hides_no_difference() -> None:
    class Sparse(Trained):
        def reference(self, inputs: Arrays) -> Arrays:
            return {"y": np.where(inputs["x"][:, :1] > 0, np.nan, 1.0)}

    def off(inputs: Arrays) -> Arrays:
        return {"y": np.where(inputs["x"][:, :1] > 0, np.nan, 1.000005).astype(np.float32)}

    found = parity.check(Sparse("simple_nn", Path("weights.safetensors"), SPEC, WEIGHTS), "onnx", off)
    assert found.max_abs_difference == pytest.approx(5e-6, rel=0.1)


def test_whole_numbers_are_equal_or_not_however_large_they_are() -> None:
    known = np.array([2**60, 5], np.int64)
    assert parity.close(known, known.copy(), Tolerance(0.1, 0.1))
    assert not parity.close(known + 1, known, Tolerance(0.1, 0.1))


def test_a_reference_without_a_finite_number_agrees_with_nothing() -> None:
    class Lost(Trained):
        def reference(self, inputs: Arrays) -> Arrays:
            return {"y": np.full((len(inputs["x"]), 1), np.nan)}

    def lost(inputs: Arrays) -> Arrays:
        return {"y": np.full((len(inputs["x"]), 1), np.nan, np.float32)}

    with pytest.raises(ParityError, match="the reference has no finite number"):
        parity.check(Lost("simple_nn", Path("weights.safetensors"), SPEC, WEIGHTS), "onnx", lost)
