"""When an answer agrees with another one."""

from typing import Any

import numpy as np
import pytest

from servepath.artifacts.reference import Reference
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols.arrays import Array, from_values
from servepath.protocols.probes import fault, probe_request
from services.gateway.answers import compared
from tests.manifests import SPEC


def values(kind: str, seed: int) -> Array:
    random = np.random.default_rng(seed)
    found = random.normal(0, 1, (6, 4))
    if kind in {"INT64", "BOOL"}:
        return np.asarray(found > 0, dtype={"INT64": np.int64, "BOOL": bool}[kind])
    return found


TOLERANCES = [Tolerance(1e-2, 1e-2), Tolerance(cosine=0.999), Tolerance(top_k=1), Tolerance(top_k=2)]


@pytest.mark.parametrize(
    ("tolerance", "odd"), [(each, None) for each in TOLERANCES] + [(TOLERANCES[0], np.nan), (TOLERANCES[0], np.inf)]
)
@pytest.mark.parametrize("kind", ["FP32", "FP16", "FP64", "INT64", "BOOL"])
def test_answers_agree_here_as_they_do_in_a_load_test(tolerance: Tolerance, kind: str, odd: float | None) -> None:
    spec = Spec((TensorSpec("x", "FP32", ("batch", 2)),), (TensorSpec("y", kind, ("batch", 4)),), True, tolerance)  # noqa: FBT003
    verdicts = set()
    for seed in range(40):
        wanted = values(kind, seed)
        own = np.array(wanted)
        if own.dtype.kind == "f":
            own *= 1 + np.random.default_rng(seed).normal(0, (0, 1e-3, 3e-2, 9)[seed % 4], own.shape)
            if odd is not None:
                wanted[seed % 6, seed % 4] = odd
                own[seed % 6, (seed + (seed % 3 == 0)) % 4] = odd
        elif seed % 2:
            own[seed % 6, 0] = not own[seed % 6, 0]
        group: Any = {"x": np.zeros((6, 2), np.float32), "y": wanted}
        known = from_values("y", "FP64" if own.dtype.kind == "f" else kind, wanted)
        found = (from_values("y", kind, own),)
        asked = probe_request(Reference("m", 1, spec, [group]), slice(None))
        right = fault(found, asked.expected) == ""
        assert (compared(spec, found, {"y": known})[1] == "") == right, seed
        verdicts.add(right)
    assert verdicts == {True, False}


def test_an_answer_of_another_shape_or_dtype_or_without_an_output_is_none() -> None:
    y = np.ones((2, 1), np.float32)
    wanted = {"y": from_values("y", "FP64", y)}
    assert compared(SPEC, (from_values("y", "FP32", y),), wanted) == (0.0, "")
    for wrong, shown in (
        ((), "missing"),
        ((from_values("y", "FP64", y),), "FP64 [2, 1]"),
        ((from_values("y", "FP32", y[:1]),), "FP32 [1, 1]"),
    ):
        assert compared(SPEC, wrong, wanted) == (np.inf, f"output 'y' is {shown}, expected FP32 [2, 1]")


def test_a_vector_of_an_open_axis_is_one_row() -> None:
    tensor, tolerance = TensorSpec("y", "FP32", ("batch", "words")), Tolerance(top_k=1)
    spec = Spec((TensorSpec("x", "FP32", ("batch", 2)),), (tensor,), row_independent=True, tolerance=tolerance)
    right, wrong = np.float32([[9, 1], [1, 2]]), np.float32([[9, 1], [2, 1]])
    wanted = {"y": from_values("y", "FP64", right.astype(np.float64))}
    assert compared(spec, (from_values("y", "FP32", right),), wanted)[1] == ""
    assert "beyond top 1" in compared(spec, (from_values("y", "FP32", wrong),), wanted)[1]


@pytest.mark.parametrize(("own", "said"), [([1.0, 9.0, 9.0], ""), ([1.0, 1.0, 1.0], "beyond top 2")])
def test_an_answer_may_have_ties_but_not_one_value_for_all_classes(own: list[float], said: str) -> None:
    tensor, tolerance = TensorSpec("y", "FP32", ("batch", 3)), Tolerance(top_k=2)
    spec = Spec((TensorSpec("x", "FP32", ("batch", 2)),), (tensor,), row_independent=True, tolerance=tolerance)
    wanted = {"y": from_values("y", "FP64", [[1.0, 2.0, 9.0]])}
    found = compared(spec, (from_values("y", "FP32", [own]),), wanted)[1]
    assert (found == "") == (said == "")
    assert said in found


@pytest.mark.parametrize("tolerance", TOLERANCES[1:])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_of_a_vector_what_is_not_finite_agrees_with_itself_alone(tolerance: Tolerance, odd: float) -> None:
    spec = Spec((TensorSpec("x", "FP32", ("batch", 2)),), (TensorSpec("y", "FP32", ("batch", 4)),), True, tolerance)  # noqa: FBT003

    def agree(own: list[float], known: list[float]) -> bool:
        found = (from_values("y", "FP32", np.float32([own])),)
        return compared(spec, found, {"y": from_values("y", "FP64", np.float64([known]))})[1] == ""

    assert agree([odd, 9, 1, 0], [odd, 9, 1, 0])
    assert agree([odd] * 4, [odd] * 4)
    assert not agree([odd, 0, 1, 9], [odd, 9, 1, 0])
    assert not agree([odd, 9, 1, 0], [1, 9, 1, 0])
    assert not agree([1, 9, 1, 0], [odd, 9, 1, 0])
    assert not agree([odd] * 4, [1, 9, 1, 0])
