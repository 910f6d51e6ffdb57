"""Small SavedModels and their manifests in an exports folder: python -m tests.savedmodels FOLDER MODEL=VERSION ...

A program and not a fixture: TensorFlow stays out of the test process.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from servepath.artifacts import atomic, manifest
from tests.manifests import write_manifest

FORMAT = "saved_model"
DTYPES = "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64 string".split()  # noqa: SIM905 - one line reads best


def linear(version: int) -> tuple[tf.Module, Any]:
    """Y = x0 + 2 x1 + version: every version answers differently."""
    module = tf.Module()
    module.weights = tf.Variable([[1.0], [2.0]])
    module.bias = tf.Variable([float(version)])

    def serve(x: Any) -> Any:
        return {"y": x @ module.weights + module.bias}

    return module, _concrete(serve, x=([None, 2], tf.float32))


def pair(version: int) -> tuple[tf.Module, Any]:
    """Two inputs and outputs whose order cannot be mixed up unseen; any width; a weight of its own per version."""

    def serve(left: Any, also: Any) -> Any:
        return {"quotient": left / also, "doubled": left * 2.0 * version}

    return tf.Module(), _concrete(serve, left=([None, None], tf.float32), also=([None, None], tf.float32))


def kinds(_version: int) -> tuple[tf.Module, Any]:
    """Every dtype in, the same out."""

    def serve(**inputs: Any) -> Any:
        return {f"{name}_out": tf.identity(tensor) for name, tensor in inputs.items()}

    return tf.Module(), _concrete(serve, **{name: ([None], getattr(tf, name)) for name in DTYPES})


def fussy(_version: int) -> tuple[tf.Module, Any]:
    """Refuses negative numbers inside the graph."""

    def serve(x: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_non_negative(x)]):
            return {"y": tf.identity(x)}

    return tf.Module(), _concrete(serve, x=([None], tf.float32))


def divided(version: int) -> tuple[tf.Module, Any]:
    """Y = the whole part of version / x: the graph fails where x is 0."""

    def serve(x: Any) -> Any:
        return {"y": tf.constant(version) // x}

    return tf.Module(), _concrete(serve, x=([None], tf.int32))


MODELS: dict[str, Callable[[int], tuple[tf.Module, Any]]] = {
    "linear": linear,
    "moving": linear,
    "divided": divided,
    "pair": pair,
    "kinds": kinds,
    "fussy": fussy,
}


def save(exports: Path, model: str, version: int) -> None:
    """Write one version folder."""
    module, signature = MODELS[model](version)
    with atomic.new_folder(manifest.artifact_folder(exports, model, FORMAT, version)) as folder:
        tf.saved_model.save(module, str(folder), signatures={"serving_default": signature, "again": signature})
        write_manifest(folder, model, FORMAT, version)


def _concrete(serve: Callable[..., Any], **inputs: tuple[list[int | None], Any]) -> Any:
    specs = {name: tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()}
    return tf.function(serve).get_concrete_function(**specs)


if __name__ == "__main__":
    for word in sys.argv[2:]:
        name, number = word.split("=")
        save(Path(sys.argv[1]), name, int(number))
