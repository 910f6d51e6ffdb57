from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loadtest.fairness import DECLARABLE, PATH_KEYS, UnfairError, check, manifest, payloads_hash, weights
from loadtest.payloads import from_reference
from loadtest.plan import Measurement, ServingPath
from servepath.artifacts.reference import Reference
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance

ONE, TWO = (Measurement(ServingPath("m", stack), "direct") for stack in ("onnx", "torchserve"))
SPEC = Spec(
    (TensorSpec("x", "FP32", ("batch", 2)),),
    (TensorSpec("y", "FP32", ("batch", 1)),),
    row_independent=True,
    tolerance=Tolerance(0.0, 0.01),
)
X = np.arange(20, dtype=np.float32).reshape(10, 2)
ARRAYS = {"x": X, "y": X.sum(axis=1, keepdims=True).astype(np.float64)}
REFERENCE = Reference("m", 1, SPEC, [ARRAYS])


def conditions(**other: Any) -> dict[str, Any]:
    return dict.fromkeys(PATH_KEYS, "same") | other


def test_paths_that_differ_only_in_what_is_compared_may_be() -> None:
    check({ONE: conditions(engine="a", batching="none"), TWO: conditions(engine="b", batching="32")}, [])


@pytest.mark.parametrize("key", DECLARABLE)
def test_a_difference_in_what_must_be_equal_refuses_and_names_key_values_and_paths(key: str) -> None:
    with pytest.raises(UnfairError) as caught:
        check({ONE: conditions(), TWO: conditions(**{key: "other"})}, [])
    text = f"{key} must be equal and differs (same: m@onnx.direct; other: m@torchserve.direct); fix it, or declare it"
    assert str(caught.value) == f"{text}: --allow {key}"


def test_what_is_not_said_is_to_be_exported_again() -> None:
    with pytest.raises(UnfairError, match="fix it: export or import again what is unknown, or declare it"):
        check({ONE: conditions(precision="fp32"), TWO: conditions(precision="unknown")}, [])


@pytest.mark.parametrize("key", DECLARABLE)
def test_a_declared_difference_passes(key: str) -> None:
    check({ONE: conditions(), TWO: conditions(**{key: "other"})}, [key])


def test_declaring_one_key_lets_no_other_through() -> None:
    with pytest.raises(UnfairError, match="threads must be equal"):
        check({ONE: conditions(), TWO: conditions(cpu_quota="1 cores", threads="1 CPUs")}, ["cpu_quota"])


def test_sides_are_held_against_each_other_and_not_against_another_path() -> None:
    old, new = (ONE._replace(side=side) for side in ("old", "new"))
    other = TWO._replace(side="old")
    check({old: conditions(), new: conditions(), other: conditions(weights_sha256="other")}, [])
    with pytest.raises(UnfairError, match=r"\(same: m@onnx.direct~old; other: m@onnx.direct~new\)"):
        check({old: conditions(), new: conditions(threads="other"), other: conditions()}, [])


def test_the_manifest_says_the_class_of_every_key() -> None:
    made = manifest({"commit": "abc"}, {ONE: conditions(engine="e")})
    assert made["run"] == {"commit": {"class": "subject", "value": "abc"}}
    assert made["paths"]["m@onnx.direct"]["engine"] == {"class": "subject", "value": "e"}
    assert {key for key, entry in made["paths"]["m@onnx.direct"].items() if entry["class"] == "must-equal"} == set(
        DECLARABLE
    )


def test_twins_that_agree_within_their_tolerance_have_one_hash() -> None:
    twin = replace(REFERENCE, model="twin", groups=[{**ARRAYS, "y": ARRAYS["y"] + 0.009}])
    other = replace(REFERENCE, model="other", groups=[{**ARRAYS, "y": ARRAYS["y"] + 0.011}])
    found = weights([REFERENCE, twin, other])
    assert found["m"] == found["twin"] != found["other"]


def test_models_asked_other_inputs_are_no_twins() -> None:
    found = weights([REFERENCE, replace(REFERENCE, model="m2", groups=[{**ARRAYS, "x": X + 1}])])
    assert found["m"] != found["m2"]


def test_payloads_are_not_the_same_with_another_seed_or_size() -> None:
    def hashed(rows: int = 1, seed: int = 0) -> str:
        return payloads_hash(from_reference(REFERENCE, rows=rows, seed=seed))

    assert hashed() == hashed()
    assert len({hashed(), hashed(seed=1), hashed(rows=2)}) == 3
