import re

import numpy as np
import pytest

from servepath.artifacts.spec import Tolerance
from servepath.protocols.arrays import from_values
from servepath.protocols.probes import Expected, ProbeRequest, WrongAnswer, check
from servepath.protocols.types import Answer, Provenance, Request, Tensor

VALUES = np.array([[10.0], [0.0]])
LIMITS = Tolerance(rtol=1e-3, atol=1e-4).limits(VALUES)
PROBE_REQUEST = ProbeRequest(Request("m", 0, ()), 1, (Expected("y", "FP32", (2, 1), VALUES, LIMITS),))
SERVED = Provenance("m", "onnx", "fake", "1", 1, "ab", sha256_observed=True)


def answer(*outputs: Tensor) -> Answer:
    return Answer(outputs, SERVED)


def test_an_answer_within_the_tolerance_is_right() -> None:
    check("m@onnx", answer(from_values("y", "FP32", [[10.01], [0.0001]])), PROBE_REQUEST)


@pytest.mark.parametrize("values", [[[10.011], [0.0]], [[10.0], [0.00011]], [[float("nan")], [0.0]]])
def test_an_answer_beyond_the_tolerance_is_wrong_and_both_values_are_told(values: list[list[float]]) -> None:
    with pytest.raises(
        WrongAnswer,
        match=r"^m@onnx returned an incorrect response: y is \[.*\], the reference "
        r"says \[10\.0, 0\.0\]",
    ):
        check("m@onnx", answer(from_values("y", "FP32", values)), PROBE_REQUEST)


def test_an_answer_of_another_shape_is_wrong() -> None:
    with pytest.raises(WrongAnswer, match="returned an incorrect response"):
        check("m@onnx", answer(from_values("y", "FP32", [10.0, 0.0])), PROBE_REQUEST)


def test_an_answer_of_other_outputs_is_wrong() -> None:
    with pytest.raises(WrongAnswer, match=re.escape("m@onnx answered outputs ['z'], expected ['y']")):
        check("m@onnx", answer(from_values("z", "FP32", [[10.0], [0.0]])), PROBE_REQUEST)


def test_an_answer_whose_bytes_are_not_what_it_says_is_wrong() -> None:
    with pytest.raises(WrongAnswer, match="bytes that do not match its dtype and shape"):
        check("m@onnx", answer(Tensor("y", "FP32", (2, 1), bytes(7))), PROBE_REQUEST)


def test_an_answer_of_another_dtype_is_wrong() -> None:
    with pytest.raises(WrongAnswer, match="m@onnx answered y as FP64, expected FP32"):
        check("m@onnx", answer(from_values("y", "FP64", VALUES)), PROBE_REQUEST)
