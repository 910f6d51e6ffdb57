"""What models of TensorFlow, Keras and LiteRT are computed in, as their import finds it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.importing.__main__ import main
from export.importing.hints import Hints
from export.importing.steps import Step, read_keras, read_proof, read_saved_model, read_tflite
from models import frameworks
from servepath.artifacts.manifest import read_manifest
from tests.tiny_tflite import linear

tensorflow = frameworks.tensorflow()
keras = tensorflow.keras
SMALLER = tensorflow.lite.Optimize.DEFAULT


def precision(tmp_path: Path, step: Step, source: Path) -> str:
    """Return the precision of an imported model."""
    work = tmp_path / "work"
    work.mkdir()
    step(work, source, Hints(), "m")
    return read_proof(work).spec.precision


def network(policy: str) -> Any:
    """Return x [4] -> y [2], float32 both, whose hidden layers have a policy."""
    hidden = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, dtype=policy)])
    return keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(2, dtype="float32")])


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("float32", "fp32"),
        ("float16", "fp16"),
        ("bfloat16", "bf16"),
        ("float64", "fp64"),
        ("mixed_float16", "fp16"),
        ("mixed_bfloat16", "bf16"),
    ],
)
def test_a_keras_model_is_of_the_precision_that_most_of_its_weights_are_computed_in(
    tmp_path: Path, policy: str, said: str
) -> None:
    network(policy).save(tmp_path / "m.keras")
    assert precision(tmp_path, read_keras, tmp_path / "m.keras") == said


def test_a_quantized_keras_model_is_of_whole_numbers(tmp_path: Path) -> None:
    made = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64), keras.layers.Dense(2)])
    made.layers[0].quantize("int8")
    made.save(tmp_path / "m.keras")
    assert precision(tmp_path, read_keras, tmp_path / "m.keras") == "int8"


def save(folder: Path, weights: Any, **others: Any) -> None:
    """Save y = x * the sum of weights, a variable or a constant; the module holds others, which no call reads."""
    module = tensorflow.Module()
    module.weights, module.others = weights, others

    def serve(x: Any) -> Any:
        return {"y": x * tensorflow.cast(tensorflow.reduce_sum(tensorflow.cast(weights, "float32")), "float32")}

    signature = tensorflow.function(serve).get_concrete_function(tensorflow.TensorSpec([None, 2], "float32", "x"))
    tensorflow.saved_model.save(module, str(folder), signatures=signature)


@pytest.mark.parametrize("kind", [tensorflow.Variable, tensorflow.constant])
@pytest.mark.parametrize(("dtype", "said"), [("float32", "fp32"), ("float16", "fp16"), ("bfloat16", "bf16")])
def test_a_saved_model_is_of_the_precision_of_most_of_its_variables_and_constants(
    tmp_path: Path, kind: Any, dtype: str, said: str
) -> None:
    unread = tensorflow.Variable(np.ones((8, 8), np.float64))
    save(tmp_path / "saved", kind(np.ones((4, 4)), dtype=dtype), unread=unread)
    assert precision(tmp_path, read_saved_model, tmp_path / "saved") == said


def test_a_saved_model_without_variables_or_constants_is_of_float32(tmp_path: Path) -> None:
    signature = tensorflow.function(lambda x: {"y": x + x})
    signature = signature.get_concrete_function(tensorflow.TensorSpec([None, 2], "float32", "x"))
    tensorflow.saved_model.save(tensorflow.Module(), str(tmp_path / "saved"), signatures=signature)
    assert precision(tmp_path, read_saved_model, tmp_path / "saved") == "fp32"


def test_variables_of_tensorflow_1_count_too(tmp_path: Path) -> None:
    v1 = tensorflow.compat.v1
    with tensorflow.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder("float32", [None, 2], "x")
        weights = v1.get_variable("w", initializer=np.ones((4, 4), np.float16), use_resource=False)
        y = x * tensorflow.cast(tensorflow.reduce_sum(weights), "float32")
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(tmp_path / "saved"), {"x": x}, {"y": y})
    assert precision(tmp_path, read_saved_model, tmp_path / "saved") == "fp16"


def convert(file: Path, optimizations: Sequence[Any], types: Sequence[Any]) -> None:
    """Write a Keras model as TFLite, as a user does it."""
    made = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64), keras.layers.Dense(2)])
    converter = tensorflow.lite.TFLiteConverter.from_keras_model(made)
    converter.optimizations, converter.target_spec.supported_types = optimizations, types
    file.write_bytes(converter.convert())


@pytest.mark.parametrize(
    ("optimizations", "types", "said"),
    [([], [], "fp32"), ([SMALLER], [], "int8"), ([SMALLER], [tensorflow.float16], "fp16")],
    ids=["not quantized", "dynamic range", "float16"],
)
def test_a_tflite_file_is_of_the_precision_of_most_of_the_tensors_that_it_holds(
    tmp_path: Path, optimizations: Sequence[Any], types: Sequence[Any], said: str
) -> None:
    convert(tmp_path / "m.tflite", optimizations, types)
    assert precision(tmp_path, read_tflite, tmp_path / "m.tflite") == said


def test_a_tflite_file_written_by_hand_is_of_float32(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(linear(1))
    assert precision(tmp_path, read_tflite, tmp_path / "m.tflite") == "fp32"


@pytest.mark.slow
def test_every_path_of_an_import_has_the_precision_of_its_source(tmp_path: Path) -> None:
    network("float16").save(tmp_path / "m.keras")
    exports, hints = tmp_path / "exports", tmp_path / "hints.toml"
    hints.write_text("[tolerance]\nrtol = 0.01\natol = 0.01\n")  # half precision on other stacks
    words = [f"--out={exports}", f"--deployments={tmp_path / 'deployments.toml'}", f"--spec={hints}"]
    assert main([str(tmp_path / "m.keras"), "--name=m", *words]) == 0
    written = [folder.name for folder in (exports / "m").iterdir() if folder.is_dir()]
    assert {"saved_model", "onnx", "reference"} <= set(written)
    assert {read_manifest(exports / "m" / name / "1").spec.precision for name in written} == {"fp16"}
