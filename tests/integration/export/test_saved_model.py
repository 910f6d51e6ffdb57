"""Keras models of every form through the SavedModel export, both loaders and the warm-up record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import parity, saved_model, warmup
from export.errors import ExportError, ParityError
from models import frameworks
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols import tfserving
from servepath.protocols.arrays import from_values
from servepath.protocols.types import Request, Tensor
from tests.limits import LONG_S
from tests.manifests import write_manifest
from tests.tf_server import TfServer

tensorflow = frameworks.tensorflow()
keras = tensorflow.keras

Arrays = dict[str, Any]


@dataclass
class Made:
    """As export.trained.Trained, of a model that no registry has: the reference is the Keras model itself."""

    name: str
    path: Path
    spec: Spec
    model: Any

    def reference(self, inputs: Arrays) -> Arrays:
        names = [tensor.name for tensor in self.spec.outputs]
        takes = self.model.inputs if isinstance(self.model, keras.Sequential) else self.model.input
        if isinstance(takes, dict):
            given: Any = inputs
        else:
            given = [inputs[tensor.name] for tensor in self.model.inputs]
        results = self.model(given if isinstance(takes, dict) or len(given) > 1 else given[0])
        named = results if isinstance(results, dict) else dict(zip(names, _listed(results), strict=True))
        return {name: np.asarray(value) for name, value in named.items()}


def _listed(results: Any) -> list[Any]:
    return list(results) if isinstance(results, list | tuple) else [results]


def make(folder: Path, model: Any, inputs: dict[str, tuple[str, int]], outputs: dict[str, tuple[str, int]]) -> Made:
    """Save a Keras model; inputs and outputs: dtype and width by name."""
    folder.mkdir(exist_ok=True)
    model.save(folder / "model.keras")
    spec = Spec(
        tuple(TensorSpec(name, dtype, ("batch", width)) for name, (dtype, width) in inputs.items()),
        tuple(TensorSpec(name, dtype, ("batch", width)) for name, (dtype, width) in outputs.items()),
        row_independent=True,
        tolerance=Tolerance(1e-5, 1e-5),
    )
    return Made("made", folder / "model.keras", spec, model)


def pair(kind: type) -> Any:
    """Two inputs and two outputs whose order cannot be mixed up unseen, as dicts or as lists."""
    num, flag = keras.Input((2,), name="num"), keras.Input((2,), name="flag")
    zeta = keras.layers.Identity(name="zeta")(keras.layers.Dense(1)(num) + 2.0 * flag[:, :1])
    alpha = keras.layers.Identity(name="alpha")(num - 3.0 * flag)
    if kind is dict:
        return keras.Model({"num": num, "flag": flag}, {"zeta": zeta, "alpha": alpha})
    return keras.Model([num, flag], [zeta, alpha])


def every_dtype() -> Any:
    inputs = {name: keras.Input((2,), name=name, dtype=dtype) for name, dtype in DTYPES.items()}
    return keras.Model(inputs, {f"{name}_out": keras.layers.Identity(autocast=False)(inputs[name]) for name in inputs})


DTYPES = {
    name: f"{kind}{bits}"
    for kind in ("int", "uint", "float")
    for bits in (8, 16, 32, 64)
    if not (kind == "float" and bits == 8)
    for name in [f"{kind}{bits}"]
} | {"bool": "bool", "bfloat16": "bfloat16"}
OIP = {"bool": "BOOL", "bfloat16": "BF16"} | {
    name: name.upper().replace("FLOAT", "FP") for name in DTYPES if name not in {"bool", "bfloat16"}
}


def lookup() -> Any:
    """Text in: a table that the graph's own op has to fill."""
    text = keras.Input((1,), name="text", dtype="string")
    return keras.Model(text, keras.layers.StringLookup(vocabulary=["1", "2", "3"])(text))


@pytest.fixture
def two(tmp_path: Path) -> Made:
    return make(tmp_path / "two", pair(dict), PAIR_IN, PAIR_OUT)


PAIR_IN = {"num": ("FP32", 2), "flag": ("FP32", 2)}
PAIR_OUT = {"zeta": ("FP32", 1), "alpha": ("FP32", 2)}
MODELS: dict[str, tuple[Any, dict[str, tuple[str, int]], dict[str, tuple[str, int]]]] = {
    "one layer": (
        lambda: keras.Sequential([keras.Input((2,), name="any"), keras.layers.Dense(1)]),
        {"x": ("FP32", 2)},
        {"y": ("FP32", 1)},
    ),
    "dict": (lambda: pair(dict), PAIR_IN, PAIR_OUT),
    "list": (lambda: pair(list), PAIR_IN, PAIR_OUT),
    "every dtype": (
        every_dtype,
        {name: (OIP[name], 2) for name in DTYPES},
        {f"{name}_out": (OIP[name], 2) for name in DTYPES},
    ),
    "lookup": (lookup, {"text": ("BYTES", 1)}, {"place": ("INT64", 1)}),
}


def ask_embedded_server(exports: Path, run_folder: Path, rows: Arrays, expected: Arrays) -> Arrays:
    """Return what the embedded server answers; its bytes are read as the dtypes that are expected."""
    with TfServer(exports, run_folder) as server:
        server.wait_ready()
        inputs = [
            from_values(name, "BYTES", values)
            if values.dtype == object
            else Tensor(name, OIP[values.dtype.name], values.shape, values.tobytes())
            for name, values in rows.items()
        ]
        payload = tfserving.encode_request(Request("made", 0, tuple(inputs)), "made", 0)
        reply = server.channel.unary_unary(tfserving.METHOD)(payload, timeout=LONG_S)
    answer = tfserving.decode_answer(reply, "made", "tfserving")
    return {
        tensor.name: np.frombuffer(tensor.data, expected[tensor.name].dtype).reshape(tensor.shape)
        for tensor in answer.outputs
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_keras_model_answers_alike_in_a_session_in_python_in_keras_and_when_served(tmp_path: Path, name: str) -> None:
    build, inputs, outputs = MODELS[name]
    made = make(tmp_path / "build", build(), inputs, outputs)
    if name == "one layer":
        made.reference = lambda given: {"y": np.asarray(made.model(given["x"]))}  # type: ignore[method-assign]
    folder = tmp_path / "exports" / "made" / "saved_model" / "1"
    folder.mkdir(parents=True)
    saved_model.write(made, folder, 1)  # type: ignore[arg-type]
    write_manifest(folder, "made", "saved_model", 1, made.spec)
    rows = {name: values[:3] for name, values in parity.seeded_inputs(made.spec).items()}
    expected = made.reference(rows)
    served = ask_embedded_server(tmp_path / "exports", tmp_path / "run", rows, expected)
    for answer in (saved_model.load(folder)(rows), saved_model.load_in_python(folder)(rows), served):
        assert answer.keys() == expected.keys() == outputs.keys()
        for key, values in answer.items():
            assert values.dtype == expected[key].dtype
            np.testing.assert_allclose(values.astype("float64"), expected[key].astype("float64"), rtol=1e-5, atol=1e-5)


def test_a_savedmodel_that_hangs_a_keras_model_on_a_module_is_found_by_the_session_alone(
    two: Made, tmp_path: Path
) -> None:
    module = tensorflow.Module()
    module.model = two.model

    def serve(num: Any, flag: Any) -> Any:
        return module.model({"num": num, "flag": flag})

    specs = {name: tensorflow.TensorSpec((None, 2), tensorflow.float32, name) for name in PAIR_IN}
    signature = tensorflow.function(serve).get_concrete_function(**specs)
    tensorflow.saved_model.save(module, str(tmp_path / "old"), signatures={"serving_default": signature})
    assert parity.check(two, "saved_model", saved_model.load_in_python(tmp_path / "old")).batch_equals_singles  # type: ignore[arg-type]
    with pytest.raises(tensorflow.errors.FailedPreconditionError, match="Could not find variable"):
        parity.check(two, "saved_model", saved_model.load(tmp_path / "old"))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_signature_of_tensors_that_are_not_served_is_left_out_and_the_others_are_served(tmp_path: Path) -> None:
    def serve(x: Any) -> Any:
        return {"y": x + 1.0}

    def spectrum(x: Any) -> Any:
        return {"y": tensorflow.cast(x, tensorflow.complex64)}

    folder = tmp_path / "exports" / "made" / "saved_model" / "1"
    folder.mkdir(parents=True)
    signatures = {
        name: tensorflow.function(call).get_concrete_function(x=tensorflow.TensorSpec((None, 2), name="x"))
        for name, call in {"serving_default": serve, "spectrum": spectrum}.items()
    }
    tensorflow.saved_model.save(tensorflow.Module(), str(folder), signatures=signatures)
    write_manifest(folder, "made", "saved_model", 1)
    rows = {"x": np.ones((1, 2), np.float32)}
    answer = ask_embedded_server(tmp_path / "exports", tmp_path / "run", rows, {"y": rows["x"]})
    assert answer["y"].tolist() == [[2.0, 2.0]]
    assert "signature 'spectrum' is left out" in (tmp_path / "run.log").read_text()


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        (
            {"num": ("FP32", 2), "other": ("FP32", 2)},
            PAIR_OUT,
            "the model's inputs are num, flag, its spec says num, other",
        ),
        (
            PAIR_IN,
            {"zeta": ("FP32", 1), "beta": ("FP32", 2)},
            "the model's outputs are zeta, alpha, its spec says zeta, beta",
        ),
    ],
)
def test_names_that_are_not_the_specs_are_refused_by_name(
    tmp_path: Path, inputs: dict[str, tuple[str, int]], outputs: dict[str, tuple[str, int]], says: str
) -> None:
    made = make(tmp_path / "made", pair(dict), inputs, outputs)
    with pytest.raises(ExportError) as caught:
        saved_model.write(made, tmp_path / "saved", 1)  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_a_warm_up_record_whose_reply_is_not_the_references_is_refused(two: Made, tmp_path: Path) -> None:
    warmup.write(two, tmp_path)  # type: ignore[arg-type]

    def wrong(inputs: Arrays) -> Arrays:
        return {name: values + 1 for name, values in two.reference(inputs).items()}

    warmup.check(two, tmp_path, two.reference)  # type: ignore[arg-type]
    with pytest.raises(ParityError, match="warm-up record's reply differs"):
        warmup.check(two, tmp_path, wrong)  # type: ignore[arg-type]
