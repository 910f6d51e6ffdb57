import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loadtest.payloads import Payload, from_reference, on_path, payloads_of, prepare, shapes
from servepath.artifacts.manifest import artifact_folder
from servepath.artifacts.reference import Reference
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols import oip
from servepath.protocols.arrays import to_array
from servepath.protocols.probes import fault
from servepath.protocols.types import Tensor
from tests.manifests import write_manifest

SPEC = Spec(
    inputs=(TensorSpec("x", "FP32", ("batch", 2)),),
    outputs=(TensorSpec("y", "FP32", ("batch", 1)),),
    row_independent=True,
    tolerance=Tolerance(rtol=0.0, atol=0.01),
)
X = np.arange(20, dtype=np.float32).reshape(10, 2)
REFERENCE = Reference("m", 1, SPEC, [{"x": X, "y": X.sum(axis=1, keepdims=True).astype(np.float64)}])


def payloads(*, rows: int = 1, seed: int = 0) -> list[Payload]:
    return prepare(REFERENCE, "m@onnx", oip.encode_request, rows=rows, seed=seed)


def answer(values: list[float], dtype: str = "FP32", name: str = "y") -> list[Tensor]:
    data = np.array(values, {"FP32": "<f4", "FP64": "<f8"}[dtype]).tobytes()
    return [Tensor(name, dtype, (len(values), 1), data)]


def test_every_row_is_sent_once_before_any_is_repeated() -> None:
    sent = [oip.decode_request(payload.request) for payload in payloads(rows=3)]
    rows = np.concatenate([to_array(request.inputs[0]) for request in sent])
    assert len(sent) == 3
    assert len(np.unique(rows, axis=0)) == 9
    assert {request.model for request in sent} == {"m@onnx"}


def test_the_expected_answer_belongs_to_the_rows_sent() -> None:
    for payload in payloads(rows=2):
        x = to_array(oip.decode_request(payload.request).inputs[0])
        assert payload.expected[0].values.tolist() == x.sum(axis=1, keepdims=True).tolist()
        assert payload.rows == 2


def test_the_seed_decides_the_order() -> None:
    assert payloads(seed=1) != payloads(seed=2)
    assert [payload.request for payload in payloads(seed=1)] == [payload.request for payload in payloads(seed=1)]


@pytest.mark.parametrize(
    ("outputs", "right"),
    [
        (answer([0.0]), True),
        (answer([0.009]), True),
        (answer([0.011]), False),
        (answer([math.nan]), False),
        (answer([math.inf]), False),
        (answer([0.0], dtype="FP64"), False),
        (answer([0.0], name="z"), False),
        (answer([0.0, 0.0]), False),
        ([], False),
        (answer([0.0]) + answer([0.0], name="z"), False),
        ([Tensor("y", "FP32", (1, 1), b"\0\0\0")], False),
    ],
)
def test_an_answer_agrees_only_within_the_tolerance_and_in_its_form(outputs: list[Tensor], right: bool) -> None:  # noqa: FBT001 - a column of the table above
    expected = payloads()[0].expected[0]._replace(values=np.zeros((1, 1)))
    assert (fault(outputs, [expected]) == "") is right


def test_every_row_of_every_group_is_sent_in_its_own_shape_in_mixed_order() -> None:
    spec = replace(SPEC, inputs=(TensorSpec("x", "FP32", ("batch", "length")),))
    groups = [
        {"x": np.full((5, length), length, np.float32), "y": np.full((5, 1), length, np.float32)} for length in (2, 3)
    ]
    made = prepare(Reference("m", 1, spec, groups), "m", oip.encode_request, rows=1, seed=0)
    sent = [oip.decode_request(payload.request).inputs[0].shape for payload in made]
    assert sorted(sent) == [(1, 2)] * 5 + [(1, 3)] * 5
    assert sent[:5] != [(1, 2)] * 5
    assert [payload.expected[0].values.item() for payload in made] == [shape[1] for shape in sent]


def test_the_shapes_that_were_sent_are_said_in_one_order_whatever_the_seed() -> None:
    spec = replace(SPEC, inputs=(TensorSpec("x", "FP32", ("batch", "length")),))
    groups = [{"x": np.ones((2, length), np.float32), "y": np.ones((2, 1), np.float32)} for length in (2, 3, 4)]
    reference = Reference("m", 1, spec, groups)
    said = [shapes(from_reference(reference, rows=1, seed=seed))["shapes"] for seed in range(9)]
    assert said == [[{"inputs": {"x": [1, length]}, "requests": 2} for length in (2, 3, 4)]] * 9


def test_a_group_without_rows_is_one_request() -> None:
    spec = Spec(
        (TensorSpec("state", "FP32", (2, "batch")), TensorSpec("rate", "INT64", ())),
        (TensorSpec("next", "FP32", (2, "batch")),),
        row_independent=False,
        tolerance=SPEC.tolerance,
    )
    state = np.ones((2, 3), np.float32)
    groups = [{"state": state * n, "rate": np.array(n), "next": state * n * n} for n in (1, 2)]
    reference = Reference("m", 1, spec, groups)
    assert reference.rows == 1
    made = prepare(reference, "m", oip.encode_request, rows=1, seed=0)
    assert [payload.rows for payload in made] == [1, 1]
    for payload in made:
        asked = {tensor.name: to_array(tensor) for tensor in oip.decode_request(payload.request).inputs}
        assert asked["rate"].shape == ()
        np.testing.assert_array_equal(payload.expected[0].values, asked["state"] * asked["rate"])


def test_workers_share_the_requests_and_one_that_would_have_none_sends_them_all() -> None:
    made = payloads()
    assert [payloads_of(made, worker, 2) for worker in range(2)] == [made[0::2], made[1::2]]
    assert [payloads_of(made[:2], worker, 3) for worker in range(3)] == [made[:1], made[1:2], made[:2]]


@pytest.mark.parametrize(("known_by", "limit"), [(None, 0.5), (replace(SPEC, precision="fp16"), 0.51)])
def test_on_a_reduced_path_answers_are_off_by_its_tolerance_and_by_that_of_the_path_that_gave_them(
    tmp_path: Path, known_by: Spec | None, limit: float
) -> None:
    folder = artifact_folder(tmp_path, "m", "onnx-int8", 1)
    folder.mkdir(parents=True)
    write_manifest(folder, "m", "onnx-int8", 1, replace(SPEC, tolerance=Tolerance(0.0, 0.5), precision="int8"))
    (tmp_path / "m/current").write_text("1")
    (found,) = on_path(payloads()[:1], tmp_path, "m", "onnx:int8", known_by)
    assert found.expected[0].limits.item() == pytest.approx(limit)
