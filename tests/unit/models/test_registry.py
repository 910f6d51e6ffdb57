import ast
from pathlib import Path

import numpy as np
import pytest

from models.registry import FOLDER, read_model, read_models

X = np.array([[1, 2], [-3, 0.5]], np.float32)
TORCH = {"linear.weight": np.array([[2, -3]], np.float32), "linear.bias": np.array([0.5], np.float32)}
KERAS = {"layers/dense/vars/0": TORCH["linear.weight"].T, "layers/dense/vars/1": TORCH["linear.bias"]}


@pytest.mark.parametrize(("name", "weights"), [("simple_nn", TORCH), ("keras_dense", KERAS)])
def test_a_reference_is_the_affine_function_of_the_kernel_as_its_framework_keeps_it(
    name: str, weights: dict[str, np.ndarray]
) -> None:
    answer = read_models()[name].reference(weights, {"x": X})["y"]
    np.testing.assert_array_equal(answer, [[-3.5], [-7.0]])
    assert answer.dtype == np.float64


def test_the_reference_adds_in_float64_where_float32_would_lose_digits() -> None:
    weights = {"linear.weight": np.array([[1, 1]], np.float32), "linear.bias": np.array([1], np.float32)}
    x = np.array([[2**24, 1]], np.float32)
    assert read_models()["simple_nn"].reference(weights, {"x": x})["y"][0, 0] == 2**24 + 2


def test_the_architecture_that_travels_in_the_archive_imports_torch_alone_and_holds_one_class() -> None:
    tree = ast.parse((FOLDER / "simple_nn" / "model.py").read_text())
    imports = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imports |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imports == {"torch"}
    assert [node.name for node in tree.body if isinstance(node, ast.ClassDef)] == ["SimpleNN"]


@pytest.mark.parametrize("name", read_models())
def test_a_models_name_is_one_that_every_stack_and_path_can_carry(name: str) -> None:
    assert name.isidentifier()
    assert name.islower()


def test_a_folder_that_cannot_be_a_package_is_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="my-model: a model here has a name of letters, digits and _"):
        read_model(tmp_path / "my-model")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("framework = 'torch'\nbuilder = 'N'\n", "KeyError('formats')"),
        ("framework = torch", "TOMLDecodeError"),
        ((FOLDER / "simple_nn/spec.toml").read_text().replace('"torch"', '"jax"'), "framework 'jax' is not one of"),
    ],
)
def test_a_spec_that_cannot_be_read_is_refused_with_its_file_and_the_cause(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "spec.toml").write_text(text)
    with pytest.raises(ValueError, match=r"spec\.toml") as refused:
        read_model(tmp_path)
    assert said in str(refused.value)
