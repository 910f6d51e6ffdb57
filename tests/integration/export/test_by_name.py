"""Tensors keep their meaning from the framework's model to the file, whatever order an exporter lists them in."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export import keras_onnx, keras_tflite, torch_onnx
from export.errors import ExportError
from export.parity import DTYPES
from tests import two_inputs
from tests.two_inputs import ALPHA, FLAG, NUM, SPEC, ZETA, keras_model, torch_model

FORMS = ("dict", "list", "swapped list")
torch_forms = pytest.mark.parametrize(
    "kind", [two_inputs.Tuples, two_inputs.Lists, two_inputs.NamedTuples, two_inputs.Dicts]
)


def answers_by_name(folder: Path) -> None:
    found = torch_onnx.load(folder)({"num": NUM, "flag": FLAG})
    assert list(found) == ["zeta", "alpha"]
    np.testing.assert_array_equal(found["zeta"], ZETA)
    np.testing.assert_array_equal(found["alpha"], ALPHA)


@pytest.mark.slow
@pytest.mark.parametrize("outputs", FORMS)
@pytest.mark.parametrize("inputs", FORMS)
def test_a_keras_model_answers_by_name_in_onnx(tmp_path: Path, inputs: str, outputs: str) -> None:
    keras_onnx.write(keras_model(inputs, outputs, tmp_path), tmp_path, 1)
    answers_by_name(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_keras_model_answers_by_name_in_tflite(tmp_path: Path, form: str) -> None:
    keras_tflite.write(keras_model(form, form, tmp_path), tmp_path, 1)
    found = keras_tflite.load(tmp_path)({"num": NUM, "flag": FLAG})
    assert found.keys() == {"zeta", "alpha"}
    np.testing.assert_array_equal(found["zeta"], ZETA)
    np.testing.assert_array_equal(found["alpha"], ALPHA)


@pytest.mark.slow
@torch_forms
def test_a_pytorch_model_answers_by_name_in_onnx(tmp_path: Path, kind: type[torch.nn.Module]) -> None:
    torch_onnx.write(torch_model(kind, tmp_path), tmp_path, 1)
    answers_by_name(tmp_path)


def test_a_keras_model_with_other_names_is_one_clear_line(tmp_path: Path) -> None:
    made = keras_model("list", "dict", tmp_path, ("first", "second"))
    with pytest.raises(
        ExportError, match=r"^the model's inputs are first, second, its spec says num, flag; name them alike$"
    ):
        keras_onnx.write(made, tmp_path, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (two_inputs.OthersNames, "^forward takes first, second, its spec says num, flag; name its parameters as the "),
        (two_inputs.OneResult, "^the model has 1 output, its spec says zeta, alpha$"),
    ],
)
def test_a_pytorch_model_with_other_names_is_one_clear_line(
    tmp_path: Path, kind: type[torch.nn.Module], said: str
) -> None:
    with pytest.raises(ExportError, match=said):
        torch_onnx.write(torch_model(kind, tmp_path), tmp_path, 1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["INT64", "INT32", "FP64"])
def test_a_pytorch_model_takes_every_dtype_that_numbers_have(tmp_path: Path, dtype: str) -> None:
    made = torch_model(two_inputs.Dicts, tmp_path)
    tensors = ([replace(tensor, dtype=dtype) for tensor in each] for each in (SPEC.inputs, SPEC.outputs))
    inputs, outputs = map(tuple, tensors)
    made = replace(made, spec=replace(SPEC, inputs=inputs, outputs=outputs))
    torch_onnx.write(made, tmp_path, 1)
    found = torch_onnx.load(tmp_path)(
        {name: rows.astype(DTYPES[dtype]) for name, rows in {"num": NUM, "flag": FLAG}.items()}
    )
    assert {values.dtype for values in found.values()} == {DTYPES[dtype]}
    np.testing.assert_array_equal(found["zeta"], (NUM.astype(DTYPES[dtype]) + FLAG.astype(DTYPES[dtype])))
