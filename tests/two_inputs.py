"""Models of two inputs and two outputs in every form that frameworks have: zeta = num + flag, alpha = num - flag."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch

from export.trained import Trained
from models import frameworks
from models.registry import Model
from servepath.artifacts.spec import BATCH, Spec, TensorSpec, Tolerance

SPEC = Spec(
    inputs=(TensorSpec("num", "FP32", (BATCH, 1)), TensorSpec("flag", "FP32", (BATCH, 1))),
    outputs=(TensorSpec("zeta", "FP32", (BATCH, 1)), TensorSpec("alpha", "FP32", (BATCH, 1))),
    row_independent=True,
    tolerance=Tolerance(1e-5, 1e-5),
)
NUM, FLAG = np.array([[5.0], [1.0], [-4.0]], np.float32), np.array([[2.0], [7.0], [0.5]], np.float32)
ZETA, ALPHA = NUM + FLAG, NUM - FLAG


@dataclass(frozen=True)
class MadeUp(Trained):
    """A trained model that is in no registry."""

    builder: str = ""

    @property
    def model(self) -> Model:
        return Model("torch", self.builder, ("onnx",), self.spec)


class Results(NamedTuple):
    alpha: torch.Tensor
    zeta: torch.Tensor


class Tuples(torch.nn.Module):
    def forward(self, num: torch.Tensor, flag: torch.Tensor) -> Any:
        return num + flag, num - flag  # in the spec's order: a tuple has no names


class Lists(torch.nn.Module):
    def forward(self, flag: torch.Tensor, num: torch.Tensor) -> Any:
        return [num + flag, num - flag]


class NamedTuples(torch.nn.Module):
    def forward(self, flag: torch.Tensor, num: torch.Tensor) -> Any:
        return Results(zeta=num + flag, alpha=num - flag)


class Dicts(torch.nn.Module):
    def forward(self, tensors: Mapping[str, torch.Tensor]) -> Any:
        num, flag = tensors["num"], tensors["flag"]
        return {"alpha": num - flag, "zeta": num + flag}


class OthersNames(torch.nn.Module):
    def forward(self, first: torch.Tensor, second: torch.Tensor) -> Any:
        return first + second, first - second


class OneResult(torch.nn.Module):
    def forward(self, num: torch.Tensor, flag: torch.Tensor) -> Any:
        return num + flag


def torch_model(kind: type[torch.nn.Module], folder: Path) -> Trained:
    """Return a PyTorch model as training would leave it."""
    path = folder / "weights.safetensors"
    safetensors.torch.save_file({}, path)
    return MadeUp("made_up", path, SPEC, {}, f"tests.two_inputs:{kind.__name__}")


def keras_model(inputs: str, outputs: str, folder: Path, names: tuple[str, str] = ("num", "flag")) -> Trained:
    """Return a Keras model as training would leave it; inputs and outputs: "dict", "list" or "swapped list"."""
    frameworks.tensorflow()
    import keras  # noqa: PLC0415 - after TensorFlow, which takes seconds

    num, flag = (keras.Input((1,), name=name) for name in names)
    zeta, alpha = keras.layers.Add(name="zeta")([num, flag]), keras.layers.Subtract(name="alpha")([num, flag])
    taken = {"dict": {"num": num, "flag": flag}, "list": [num, flag], "swapped list": [flag, num]}[inputs]
    given = {"dict": {"zeta": zeta, "alpha": alpha}, "list": [zeta, alpha], "swapped list": [alpha, zeta]}[outputs]
    path = folder / "model.keras"
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    keras.Model(taken, given).save(path)
    return MadeUp("made_up", path, SPEC, {})
