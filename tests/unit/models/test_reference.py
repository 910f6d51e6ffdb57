import ast
from pathlib import Path

import numpy as np
import pytest

from models import reference
from models.registry import MODELS

X = np.array([[1, 2], [-3, 0.5]], np.float32)


def test_simple_nn_answers_the_affine_function_of_its_kernel_as_torch_keeps_it() -> None:
    weights = {"linear.weight": np.array([[2, -3]], np.float32), "linear.bias": np.array([0.5], np.float32)}
    answer = reference.simple_nn(weights, {"x": X})["y"]
    np.testing.assert_array_equal(answer, [[-3.5], [-7.0]])
    assert answer.dtype == np.float64


def test_keras_dense_answers_the_affine_function_of_its_kernel_as_keras_keeps_it() -> None:
    weights = {
        "layers/dense/vars/0": np.array([[2], [-3]], np.float32),
        "layers/dense/vars/1": np.array([0.5], np.float32),
    }
    answer = reference.keras_dense(weights, {"x": X})["y"]
    np.testing.assert_array_equal(answer, [[-3.5], [-7.0]])
    assert answer.dtype == np.float64


def test_the_reference_adds_in_float64_where_float32_would_lose_digits() -> None:
    weights = {"linear.weight": np.array([[1, 1]], np.float32), "linear.bias": np.array([1], np.float32)}
    x = np.array([[2**24, 1]], np.float32)
    assert reference.simple_nn(weights, {"x": x})["y"][0, 0] == 2**24 + 2


def test_the_architecture_that_travels_in_the_archive_imports_torch_alone_and_holds_one_class() -> None:
    tree = ast.parse((Path(reference.__file__).parent / "simple_nn.py").read_text())
    imports = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imports |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imports == {"torch"}
    assert [node.name for node in tree.body if isinstance(node, ast.ClassDef)] == ["SimpleNN"]


@pytest.mark.parametrize("name", MODELS)
def test_a_models_name_is_one_that_every_stack_and_path_can_carry(name: str) -> None:
    assert name.isidentifier()
    assert name.islower()
