"""`servepath import --precision`: what is written, what it costs, which gates keep it out, and that it is served."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from export.importing.__main__ import main
from export.importing.hints import Gate
from export.importing.onnx_reduced import write_emulated_tf32
from export.importing.onnx_source import load as load_onnx
from export.importing.reduced import Cost, _least_cosine, _vectors
from loadtest.payloads import load_reference, on_path, prepare
from servepath.artifacts.manifest import MANIFEST, digest, hash_files, read_manifest
from servepath.artifacts.spec import Spec
from servepath.protocols import oip
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.probes import allowing, fault, read_probe_request
from servepath.protocols.stacks import PATH_STACKS
from servepath.settings import SettingsError
from services.dataplane.batch_scope import BatchScope
from services.dataplane.batcher import BatchLimits
from services.dataplane.engine import EngineError
from services.oip_server.artifact import Version, load
from services.oip_server.models import load_models
from services.oip_server.threads import EngineThreads
from services.onnx_svc.config import SERVICE
from services.onnx_svc.ort import OrtEngine
from tests import tiny_tflite
from tests.hostile_models import model, value

node = helper.make_node
WIDTH = 16


def perceptron(scale: float = 1.0) -> onnx.ModelProto:
    """Return two layers, of weights that 8 bits carry, and as many classes as inputs."""
    random = np.random.default_rng(0)
    one, two = (random.normal(0, scale, (WIDTH, WIDTH)).astype(np.float32) for _ in range(2))
    nodes = [node("MatMul", ["x", "one"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "two"], ["y"])]
    weights = [numpy_helper.from_array(one, "one"), numpy_helper.from_array(two, "two")]
    return model(nodes, inputs=[value("x", ["n", WIDTH])], outputs=[value("y", ["n", WIDTH])], weights=weights)


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Import a model as `m` in precisions and return what was printed."""

    def run(made: onnx.ModelProto, *precisions: str, spec: str = "", code: int = 0) -> str:
        (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
        (tmp_path / "spec.toml").write_text(spec)
        words = [str(tmp_path / "model.onnx"), "--name", "m", "--out", str(tmp_path / "exports")]
        words += ["--deployments", str(tmp_path / "deployments.toml"), "--spec", str(tmp_path / "spec.toml")]
        assert main([*words, *(f"--precision={each}" for each in precisions)]) == code
        return "".join(capsys.readouterr())

    return run


def spec_of(tmp_path: Path, artifact_format: str) -> Spec:
    return read_manifest(tmp_path / "exports" / "m" / artifact_format / "1").spec


def load_version(folder: Path) -> Version:
    artifact = load(folder, SERVICE, lambda file: OrtEngine(file, "cpu"))
    return Version(artifact, partial(EngineThreads, threads=1), BatchLimits(), BatchScope())


def test_reduced_precisions_become_paths_with_tolerances_of_their_own(tmp_path: Path, imported: Any) -> None:
    said = imported(perceptron(), "int8", "fp16")
    assert re.search(r"onnx-int8: version 1 written, largest difference .*; least cosine 0\.99\d+, another", said)
    assert "on torchserve" in said
    deployments = read_deployments(tmp_path / "deployments.toml")
    assert list(deployments.models[0].names) == ["m", "m@onnx", "m@onnx:int8", "m@onnx:fp16"]
    assert [stack.name for stack in deployments.own_stacks] == ["onnx"]
    full, int8, fp16 = (spec_of(tmp_path, each) for each in ("onnx", "onnx-int8", "onnx-fp16"))
    assert [each.precision for each in (full, int8, fp16)] == ["fp32", "int8", "fp16"]
    atols = [each.outputs[0].tolerance.atol for each in (full, fp16, int8) if each.outputs[0].tolerance]
    assert len(atols) == 3
    assert atols == sorted(atols)


def test_rows_that_share_the_scale_of_their_numbers_are_never_batched(tmp_path: Path, imported: Any) -> None:
    imported(perceptron(), "int8", "fp16")
    assert [spec_of(tmp_path, each).row_independent for each in ("onnx", "onnx-int8", "onnx-fp16")] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_what_is_served_is_of_that_precision_and_within_its_tolerance(
    tmp_path: Path, imported: Any, precision: str
) -> None:
    imported(perceptron(), precision)
    artifact_format = f"onnx-{precision}"
    served = load(tmp_path / "exports" / "m" / artifact_format / "1", SERVICE, lambda file: OrtEngine(file, "cpu"))
    assert (served.served.stack, served.served.precision) == (f"onnx:{precision}", precision)
    asked = read_probe_request(tmp_path / "exports", "m", f"onnx:{precision}")
    asked = asked if precision == "fp16" else read_probe_request(tmp_path / "exports", "m", "onnx")
    tolerances = spec_of(tmp_path, artifact_format)
    asked = asked._replace(expected=allowing(asked.expected, tolerances))
    for row in range(4):
        inputs = [
            tensor._replace(shape=(1, WIDTH), data=tensor.data[row * 64 : row * 64 + 64])
            for tensor in asked.request.inputs
        ]
        outputs = served.engine.run(inputs, ["y"])
        wanted = [
            each._replace(shape=(1, WIDTH), values=each.values[row : row + 1], limits=each.limits[row : row + 1])
            for each in asked.expected
        ]
        assert fault(outputs, wanted) == ""
        # In full precision it would be wrong: what is served is the reduced file, and not a copy of the other.
        assert fault(outputs, allowing(tuple(wanted), spec_of(tmp_path, "onnx"))) != ""


def rounded_to_10_bits(array: Any) -> Any:
    """Return float32 numbers rounded to 10 bits after the first, half to even."""
    mantissa, exponent = np.frexp(array.astype(np.float64))
    return np.ldexp(np.rint(np.ldexp(mantissa, 11)), exponent - 11)


def test_tf32_is_the_file_of_float32_judged_by_products_of_rounded_numbers(tmp_path: Path, imported: Any) -> None:
    made = perceptron()
    said = imported(made, "tf32")
    assert re.search(
        r"onnx-tf32: version 1 written, largest difference .*; TF32 was emulated on the CPU, and NVIDIA", said
    )
    folder = tmp_path / "exports" / "m"
    assert (folder / "onnx-tf32/1/model.onnx").read_bytes() == (folder / "onnx/1/model.onnx").read_bytes()
    assert [spec_of(tmp_path, each).precision for each in ("onnx", "onnx-tf32")] == ["fp32", "tf32"]

    (tmp_path / "emulated").mkdir()
    write_emulated_tf32(folder / "onnx/1", tmp_path / "emulated")
    one, two = (numpy_helper.to_array(each) for each in made.graph.initializer)
    x = np.random.default_rng(3).uniform(-1, 1, (4, WIDTH)).astype(np.float32)
    hidden = np.maximum(rounded_to_10_bits(x) @ rounded_to_10_bits(one), 0).astype(np.float32)
    wanted = rounded_to_10_bits(hidden) @ rounded_to_10_bits(two)
    found = load_onnx(tmp_path / "emulated")({"x": x})["y"]
    in_full = np.maximum(x @ one, 0) @ two
    # Hidden numbers at the middle between two roundings may go either way: near, where float32 itself is far.
    assert np.abs(found - wanted).max() < np.abs(in_full - wanted).max() / 3


def test_a_service_on_a_cpu_does_not_serve_float32_under_the_name_of_tf32(
    tmp_path: Path, imported: Any, caplog: pytest.LogCaptureFixture
) -> None:
    imported(perceptron(), "tf32")
    with pytest.raises(EngineError, match="NVIDIA's GPUs alone compute in TF32"):
        OrtEngine(tmp_path / "exports/m/onnx-tf32/1/model.onnx", "cpu")
    served = load_models(tmp_path / "exports", SERVICE, load_version)
    assert list(served) == ["m"]
    assert "m@onnx:tf32 is not served before another start" in caplog.text


def test_a_model_without_products_of_float32_has_no_path_in_tf32(imported: Any) -> None:
    said = imported(model([node("Relu", ["x"], ["y"])], outputs=[value("y", ["n", 2])]), "tf32")
    assert "no path on onnx:tf32: it has no product of float32" in said


def test_changed_weights_under_a_fitting_hash_are_refused_by_the_proof(tmp_path: Path, imported: Any) -> None:
    imported(perceptron(), "fp16")
    folder = tmp_path / "exports" / "m" / "onnx-fp16" / "1"
    changed = onnx.load(folder / "model.onnx")
    weights = next(each for each in changed.graph.initializer if len(each.dims) == 2)
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float16(1.5), weights.name))
    (folder / "model.onnx").write_bytes(changed.SerializeToString())
    raw = json.loads((folder / MANIFEST).read_text())
    raw["files"] = raw["contents"] = hash_files(folder)
    (folder / MANIFEST).write_text(json.dumps({**raw, "sha256": digest(raw["contents"])}))
    with pytest.raises(EngineError, match="away from the reference, beyond rtol 0, atol"):
        load(folder, SERVICE, lambda file: OrtEngine(file, "cpu"))
    # And the server leaves that path out, and serves the model in full precision.
    models = load_models(tmp_path / "exports", SERVICE, load_version)
    assert list(models) == ["m"]


@pytest.mark.parametrize(
    ("gate", "why"),
    [
        ("cosine = 1.0", "the least cosine of an answer and its reference is 0.99"),
        ("flips = 0.0\ncosine = 0.5", "of the answers have another largest element, the gate is 0.0%"),
    ],
)
def test_what_costs_more_than_the_gate_allows_is_no_path(tmp_path: Path, imported: Any, gate: str, why: str) -> None:
    said = imported(perceptron(), "int8", spec=f"[gate]\n{gate}\n")
    assert re.search(f"no path on onnx:int8: .*{re.escape(why)}", said), said
    assert not (tmp_path / "exports" / "m" / "onnx-int8").exists()
    assert list(read_deployments(tmp_path / "deployments.toml").models[0].stacks) == ["onnx"]


def test_a_model_without_weights_to_reduce_is_no_path(imported: Any) -> None:
    said = imported(model([node("Relu", ["x"], ["y"])], outputs=[value("y", ["n", 2])]), "int8", "fp16")
    assert "no path on onnx:int8: it has no product of a matrix of weights, which alone is quantized" in said
    assert "no path on onnx:fp16: it has no weights of float32" in said


def test_a_path_of_the_file_that_the_new_version_lacks_names_the_option(tmp_path: Path, imported: Any) -> None:
    imported(perceptron(), "int8")
    said = imported(perceptron(2.0), code=1)
    assert (
        "has m@onnx:int8, and this model cannot be served on onnx:int8 (import it with --precision int8): take" in said
    )
    said = imported(perceptron(2.0), "int8", spec="[gate]\ncosine = 1.0\n", code=1)
    assert "cannot be served on onnx:int8 (the least cosine of an answer and its reference is 0.99" in said
    imported(perceptron(2.0), "int8")
    assert (tmp_path / "exports" / "m" / "onnx-int8" / "2").is_dir()


def test_a_model_that_is_in_that_precision_already_gets_no_second_path(imported: Any) -> None:
    half = np.ones((2, 1), np.float16)
    nodes = [node("Cast", ["w"], ["wide"], to=1), node("MatMul", ["x", "wide"], ["y"])]
    said = imported(model(nodes, weights=[numpy_helper.from_array(half, "w")]), "fp16")
    assert "no path on onnx:fp16: most of its weights are fp16 already" in said


def test_whole_numbers_that_change_are_no_path(imported: Any) -> None:
    made = perceptron()
    made.graph.node.append(node("ArgMax", ["y"], ["label"], axis=1, keepdims=0))
    made.graph.node.append(node("Cast", ["y"], ["rounded"], to=7))
    for name in ("label", "rounded"):
        made.graph.output.append(value(name, ["n"] if name == "label" else ["n", WIDTH], 7))
    said = imported(made, "int8")
    assert re.search(
        "no path on onnx:int8: output '(label|rounded)', of whole numbers, is another one in int8", said
    ), said


def test_hints_about_sizes_do_not_keep_a_precision_out(tmp_path: Path, imported: Any) -> None:
    weights = [numpy_helper.from_array(np.random.default_rng(0).normal(0, 1, (4, 4)).astype(np.float32), "w")]
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    shape: list[int | str] = ["n", "length", 4]
    made = model(nodes, inputs=[value("x", shape)], outputs=[value("y", shape)], weights=weights)
    imported(made, "fp16", spec="[sizes]\nlength = [16]\n[max_sizes]\nlength = 20\n")
    assert (tmp_path / "exports" / "m" / "onnx-fp16" / "1").is_dir()


@pytest.mark.parametrize(
    ("own", "known", "least"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]], 1.0),
        ([[1.0, 2.0], [4.0, -3.0]], [[1.0, 2.0], [3.0, 4.0]], 0.0),
        ([[np.nan, 2.0]], [[1.0, 2.0]], 0.0),
        ([[-np.inf, 2.0]], [[-np.inf, 2.0]], 1.0),
        ([[-np.inf, 2.0]], [[-np.inf, -2.0]], -1.0),
        ([[1.0, 2.0]], [[-np.inf, 2.0]], 0.0),
        ([[0.0, 0.0]], [[0.0, 0.0]], 1.0),
        ([[0.0, 1e-4]], [[0.0, 0.0]], 0.0),
        ([[2.0], [1.0]], [[1.0], [2.0]], 0.8),
    ],
)
def test_the_least_cosine_is_of_a_rows_whole_answer(own: Any, known: Any, least: float) -> None:
    assert _least_cosine(np.array(own), np.array(known), by_rows=True) == pytest.approx(least)


def test_one_number_for_all_rows_is_not_near_a_reference_that_differs_by_row() -> None:
    known = [np.array([[10.0], [10.5]]), np.array([[11.0]])]
    for own, least in (([each + 0.001 for each in known], 1.0), ([np.full_like(each, 10.5) for each in known], 0.0)):
        (pair,) = _vectors(list(zip(own, known, strict=True)), by_rows=True)
        assert _least_cosine(*pair, by_rows=True) == pytest.approx(least, abs=0.01)


def test_zeros_of_one_channel_do_not_count_alone() -> None:
    known, own = np.zeros((1, 2, 3)), np.zeros((1, 2, 3))
    known[0, 0], own[0, 0], own[0, 1] = 1, 1, 1e-4
    assert _least_cosine(own, known, by_rows=True) > 0.99


def test_a_path_whose_rows_depend_on_each_other_is_asked_one_row(tmp_path: Path, imported: Any) -> None:
    imported(perceptron(), "int8", "fp16")
    rows = {
        stack: read_probe_request(tmp_path / "exports", "m", stack).request.inputs[0].shape[0]
        for stack in ("onnx", "onnx:fp16", "onnx:int8")
    }
    assert rows == {"onnx": 8, "onnx:fp16": 8, "onnx:int8": 1}
    reference = load_reference(tmp_path / "exports", "m")
    two = prepare(reference, "m", oip.encode_request, rows=2, seed=0)
    assert on_path(two, tmp_path / "exports", "m", "onnx") == two
    with pytest.raises(SettingsError, match="m@onnx:int8 answers a row otherwise beside others, so requests of 2 rows"):
        on_path(two, tmp_path / "exports", "m", "onnx:int8")
    one = prepare(reference, "m", oip.encode_request, rows=1, seed=0)
    widened = on_path(one, tmp_path / "exports", "m", "onnx:int8")[0].expected[0].limits
    assert (widened > one[0].expected[0].limits).all()


def test_labelled_texts_need_a_model_of_texts(tmp_path: Path, imported: Any) -> None:
    (tmp_path / "test.tsv").write_text("a\tb\n")
    said = imported(perceptron(), "int8", spec='[gate]\nlabelled = "test.tsv"\n')
    assert "no path on onnx:int8: [gate] labelled: the model takes no texts, which test.tsv holds" in said


def test_a_precision_that_no_stack_of_the_model_has_is_refused(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_tflite.linear(1))
    code = main([str(path), "--name", "m", "--out", str(tmp_path / "e"), "--precision", "int8", "--no-deploy"])
    assert code == 1
    assert "--precision int8 is for what is served on onnx, as which this cannot be written" in capsys.readouterr().err


def test_accuracy_that_is_lost_is_beyond_the_gate() -> None:
    cost = Cost(cosine=0.995, flips=0.5, accuracy=(0.93, 0.91))
    assert cost.beyond(Gate(), classes=False) == "accuracy falls from 0.930 to 0.910, the gate is 0.01"
    assert cost.beyond(Gate(lost=0.03), classes=False) == ""
    assert str(cost) == "least cosine 0.9950, another largest element in 50.0%, accuracy 0.910 (in full 0.930)"


def test_every_reduced_stack_has_the_address_of_its_server() -> None:
    int8 = PATH_STACKS["onnx:int8"]
    assert int8.address_variable == PATH_STACKS["onnx"].address_variable
    assert (int8.name_of("m"), PATH_STACKS["onnx"].name_of("m")) == ("m@onnx:int8", "m")
