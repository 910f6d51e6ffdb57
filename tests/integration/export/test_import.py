"""`servepath import`: what is tried of a model, what is written, and what is refused in one line."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError
from export.importing import store
from export.importing.__main__ import main
from export.importing.deployed import deploy
from export.importing.errors import Refused
from export.importing.hints import Hints, read_hints
from export.importing.steps import read_onnx, read_proof
from servepath.artifacts.manifest import read_manifest, verify
from servepath.artifacts.reference import read_reference
from servepath.artifacts.spec import Spec, Tolerance
from servepath.protocols.arrays import from_values
from servepath.protocols.signature import Signature, probe_inputs
from servepath.protocols.types import Request
from services.oip_server.artifact import load
from services.onnx_svc.config import SERVICE
from services.onnx_svc.ort import OrtEngine
from tests.hostile_models import Make, external, hostile, hostile_tflite, hostile_to_tensorflow, model, value

node = helper.make_node


def found(tmp_path: Path, made: onnx.ModelProto, hints: Hints | None = None, **sample: Any) -> tuple[Spec, list[str]]:
    """Import a model and return what was found."""
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    work = tmp_path / "work"
    work.mkdir()
    read_onnx(work, path, hints or Hints(), "m", [sample] if sample else [])
    proof = read_proof(work)
    return proof.spec, list(proof.notes)


def shapes(spec: Spec) -> dict[str, tuple[int | str, ...]]:
    return {tensor.name: tensor.shape for tensor in spec.inputs + spec.outputs}


def test_rows_that_do_not_depend_on_each_other_are_found(tmp_path: Path) -> None:
    spec, notes = found(tmp_path, model())
    assert shapes(spec) == {"x": ("batch", 2), "y": ("batch", 1)}
    assert (spec.row_independent, notes) == (True, [])
    assert 0 < spec.tolerance.rtol < 1e-3


def test_a_row_that_depends_on_the_others_is_never_batched(tmp_path: Path) -> None:
    mean = numpy_helper.from_array(np.array([0], np.int64), "axes")
    nodes = [node("ReduceMean", ["x", "axes"], ["m"], keepdims=1), node("Sub", ["x", "m"], ["y"])]
    made = model(nodes, outputs=[value("y", ["n", 2])], weights=[mean], opsets={"": 18})
    spec, notes = found(tmp_path, made)
    assert not spec.row_independent
    assert spec.by_rows
    assert notes == ["a row's answer depends on the other rows of its batch: requests are never batched"]


def test_an_output_without_rows_makes_every_request_run_alone(tmp_path: Path) -> None:
    spec, notes = found(tmp_path, model([node("ReduceSum", ["x"], ["y"], keepdims=0)], outputs=[value("y", [])]))
    assert shapes(spec) == {"x": ("batch", 2), "y": ()}
    assert not spec.by_rows
    assert "every request runs alone" in notes[0]


def test_open_axes_are_tried_and_outputs_follow_them(tmp_path: Path) -> None:
    made = model(
        [node("Transpose", ["x"], ["y"], perm=[0, 2, 1]), node("NonZero", ["x"], ["z"])],
        inputs=[value("x", ["n", "words", "letters"])],
        outputs=[value("y", None), value("z", None, TensorProto.INT64)],
    )
    spec, _ = found(tmp_path, made)
    assert shapes(spec)["y"] == ("batch", "letters", "words")
    assert shapes(spec)["z"] == (3, "z_1")


def test_an_axis_that_is_declared_open_and_is_not_becomes_fixed(tmp_path: Path) -> None:
    made = model(inputs=[value("x", ["n", "size"])], weights=[numpy_helper.from_array(np.ones((8, 1), "f4"), "w")])
    spec, notes = found(tmp_path, made)
    assert shapes(spec) == {"x": ("batch", 8), "y": ("batch", 1)}
    assert "axis 'size' is declared open and the model runs at 8 alone: it is fixed" in notes


def test_axes_that_move_together_alone_are_one(tmp_path: Path) -> None:
    made = model(
        [node("Concat", ["x", "state"], ["y"], axis=1)],
        inputs=[value("x", [None, 2]), value("state", ["", 3])],
        outputs=[value("y", None)],
    )
    for tensor, name in zip(made.graph.input, ("a", "b"), strict=True):
        tensor.type.tensor_type.shape.dim[0].dim_param = name
    spec, _ = found(tmp_path, made)
    assert shapes(spec) == {"x": ("batch", 2), "state": ("batch", 3), "y": ("batch", 5)}


def test_a_scalar_and_a_batch_axis_in_the_middle_are_served_without_rows(tmp_path: Path) -> None:
    made = model(
        [node("Mul", ["state", "rate"], ["next"])],
        inputs=[value("state", [2, "n", 3]), value("rate", [])],
        outputs=[value("next", [2, "n", 3])],
    )
    spec, _ = found(tmp_path, made)
    assert shapes(spec) == {"state": (2, "n", 3), "rate": (), "next": (2, "n", 3)}
    assert not spec.row_independent


def test_names_ranges_and_a_tolerance_are_the_users(tmp_path: Path) -> None:
    table = numpy_helper.from_array(np.arange(20, dtype=np.float32).reshape(10, 2), "table")
    made = model(
        [node("Gather", ["table", "ids:0"], ["StatefulPartitionedCall:0"])],
        inputs=[value("ids:0", ["n"], TensorProto.INT64)],
        outputs=[value("StatefulPartitionedCall:0", ["n", 2])],
        weights=[table],
    )
    spec_file = tmp_path / "spec.toml"
    spec_file.write_text(
        '[names]\n"ids:0" = "ids"\n"StatefulPartitionedCall:0" = "rows"\n[ranges]\nids = [0, 9]\n'
        "[tolerance]\nrtol = 0.0\natol = 0.25\n"
    )
    spec, notes = found(tmp_path, made, read_hints(spec_file))
    assert shapes(spec) == {"ids": ("batch",), "rows": ("batch", 2)}
    assert spec.tolerance.atol == 0.25
    assert notes == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[range]\n",
            "unknown key range; there are names, ranges, sizes, max_sizes, inputs, torch",
        ),
        ("[ranges]\nx = [2, 1]\n", r"ranges.x: expected \[lowest, highest\]"),
        ("[sizes]\nn = [0]\n", "sizes.n: expected a list of whole numbers from 1 on"),
        ("[max_sizes]\nn = 0\n", "max_sizes.n: expected a whole number from 1 on, got 0"),
        ("[tolerance]\nrtol = 1\n", "tolerance: expected rtol and atol"),
        ("samples = 3\n", "samples: expected a list of file names"),
        ("[names\n", "cannot be read"),
    ],
)
def test_a_wrong_spec_file_names_the_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    with pytest.raises(ExportError, match=said):
        read_hints(path)


def test_a_sample_is_the_probe_and_the_reference(tmp_path: Path) -> None:
    x = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    spec, _ = found(tmp_path, model(), x=x, y=np.array([[3], [7], [11]], np.float32))
    proof = read_proof(tmp_path / "work")
    np.testing.assert_array_equal(proof.groups[0]["x"], x)
    assert spec.row_independent


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (
            {"x": np.ones((1, 2), np.float32), "y": np.full((1, 1), 2.5, np.float32)},
            "a sample's answer 'y' .* 0.5 away",
        ),
        ({"x": np.ones((1, 3), np.float32)}, r"a sample's 'x' has the shape \[1, 3\]"),
        ({"x": np.ones((1, 2))}, "a sample's 'x' is float64, expected float32"),
        ({"z": np.ones((1, 2))}, "a sample has no input 'x'"),
    ],
)
def test_a_sample_that_the_model_does_not_answer_is_refused(tmp_path: Path, sample: Any, said: str) -> None:
    with pytest.raises(Refused, match=said):
        found(tmp_path, model(), **sample)


def test_weights_beside_the_file_are_inside_the_written_one(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"skip" + np.array([1, 2], "<f4").tobytes())
    spec, _ = found(tmp_path, model(weights=[external("weights", offset="4", length="8")]))
    assert spec.row_independent
    written = onnx.load(tmp_path / "work" / "onnx" / "model.onnx", load_external_data=False)
    assert numpy_helper.to_array(written.graph.initializer[0]).tolist() == [[1], [2]]


def test_an_ir_version_that_the_runtime_does_not_read_is_lowered_and_said(tmp_path: Path) -> None:
    made = model()
    made.ir_version = 14
    _, notes = found(tmp_path, made)
    assert notes == ["the file's IR version 14 is newer than ONNX Runtime reads: written as 13"]


def test_infinite_answers_are_told_from_large_ones(tmp_path: Path) -> None:
    made = model([node("Div", ["x", "zero"], ["y"])], outputs=[value("y", ["n", 2])], weights=[_constant("zero", 0.0)])
    spec, _ = found(tmp_path, made)
    assert spec.row_independent
    sample = {"x": np.ones((1, 2), np.float32), "y": np.full((1, 2), 1e30, np.float32)}
    with pytest.raises(Refused, match="a sample's answer"):
        found(_new(tmp_path / "again"), made, **sample)


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _constant(name: str, number: float) -> TensorProto:
    return numpy_helper.from_array(np.array(number, np.float32), name)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(path: Path, name: str = "mine", *more: str) -> tuple[int, str, str]:
        own = ["--out", str(tmp_path / "exports"), "--deployments", str(tmp_path / "deployments.toml")]
        code = main([str(path), "--name", name, *own, *more])
        return code, *capsys.readouterr()

    return run


@pytest.mark.slow
def test_an_import_writes_a_version_with_golden_rows_and_its_path(tmp_path: Path, run: Any) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model().SerializeToString())
    code, out, _ = run(path)
    assert code == 0
    assert "  input  x FP32 [batch, 2]\n  output y FP32 [batch, 1]\n  rows are independent" in out
    assert "no path on torchserve: it serves mar, as which an ONNX file cannot be written" in out
    for artifact_format in ("onnx", "reference"):
        manifest = verify(tmp_path / "exports" / "mine" / artifact_format / "1")
        assert manifest.spec.row_independent
        assert probe_inputs(manifest)[0].shape == (1, 2)
    reference = read_reference(tmp_path / "exports", "mine")
    (group,) = reference.groups
    np.testing.assert_allclose(group["y"], group["x"].sum(axis=1, keepdims=True), rtol=1e-6)
    assert (tmp_path / "deployments.toml").read_text() == (
        '[models.mine]\ndefault = "onnx"\n[models.mine.stacks.onnx]\n'
    )
    code, out, _ = run(path)
    assert code == 0
    assert "onnx: version 1 was there already, and matches its manifest" in out
    assert "has its paths already" in out


@pytest.mark.slow
def test_another_file_under_the_name_is_the_next_version(tmp_path: Path, run: Any) -> None:
    path = tmp_path / "model.onnx"
    for number, weight in enumerate((1, 2), start=1):
        path.write_bytes(
            model(weights=[numpy_helper.from_array(np.full((2, 1), weight, "f4"), "w")]).SerializeToString()
        )
        assert run(path)[0] == 0
        assert (tmp_path / "exports" / "mine" / "current").read_text() == f"{number}\n"


@pytest.mark.slow
@pytest.mark.parametrize(("make", "said"), [pytest.param(m, s, id=n) for n, m, s in (*hostile(), *hostile_tflite())])
def test_a_hostile_file_is_one_line_and_leaves_nothing(tmp_path: Path, run: Any, make: Make, said: str) -> None:
    _is_refused(tmp_path, run, make, said)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "said"), [pytest.param(m, s, id=n) for n, m, s in hostile_to_tensorflow()])
def test_a_file_hostile_to_tensorflow_is_one_line_and_leaves_nothing(
    tmp_path: Path, run: Any, make: Make, said: str
) -> None:
    _is_refused(tmp_path, run, make, said)


def _is_refused(tmp_path: Path, run: Any, make: Make, said: str) -> None:
    code, _, err = run(make(_new(tmp_path / "source")))
    assert (code, err.count("\n")) == (1, 1), err
    assert err.startswith("servepath import: ")
    assert re.search(said, err), err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("name", ["simple_nn", "keras_dense"])
def test_the_name_of_a_model_of_this_repository_is_refused(tmp_path: Path, run: Any, name: str) -> None:
    code, _, err = run(tmp_path, name)
    assert (code, err) == (1, f"servepath import: {name!r} is a model of models/; choose another --name\n")


def test_a_name_that_no_model_may_have_is_a_wrong_command_line(tmp_path: Path, run: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, "all")
    assert ended.value.code == 2


def test_a_model_that_is_deployed_in_part_is_left_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    before = '# mine\n[models.m]\ndefault = "onnx"\n[models.m.stacks.onnx]\n'
    path.write_text(before)
    said = deploy(path, "m", ["onnx", "tfserving"])
    assert said == f"{path} has the model already: add [models.m.stacks.tfserving] to it"
    assert path.read_text() == before
    assert deploy(path, "other", ["onnx"]).startswith("added to ")
    assert path.read_text().startswith(before)


@pytest.mark.slow
def test_a_keras_model_with_two_inputs_and_outputs_keeps_its_names_on_both_stacks(tmp_path: Path, run: Any) -> None:
    import keras  # noqa: PLC0415 - seconds

    num, flag = keras.Input((1,), name="num"), keras.Input((1,), name="flag")
    outputs = {"zeta": keras.layers.Add()([num, flag]), "alpha": keras.layers.Subtract()([num, flag])}
    path = tmp_path / "two.keras"
    keras.Model({"num": num, "flag": flag}, outputs).save(path)
    code, out, err = run(path)
    assert code == 0, err
    assert "no path on onnx" not in out
    group = read_reference(tmp_path / "exports", "mine").groups[0]
    np.testing.assert_allclose(group["zeta"], group["num"] + group["flag"], rtol=1e-6)
    np.testing.assert_allclose(group["alpha"], group["num"] - group["flag"], rtol=1e-6)
    for artifact_format in ("saved_model", "onnx"):
        spec = read_manifest(tmp_path / "exports" / "mine" / artifact_format / "1").spec
        assert {tensor.name for tensor in spec.inputs + spec.outputs} == {"num", "flag", "zeta", "alpha"}
    stacks = json.dumps((tmp_path / "deployments.toml").read_text())
    assert "stacks.tfserving" in stacks
    assert "stacks.onnx" in stacks


def _independent(tmp_path: Path, made: onnx.ModelProto, hints: Hints | None = None, **sample: Any) -> bool:
    return found(tmp_path, made, hints, **sample)[0].row_independent


def _less_the_mean(dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Return y = x - the mean of all rows."""
    axes = numpy_helper.from_array(np.array([0], np.int64), "axes")
    nodes = [node("ReduceMean", ["x", "axes"], ["m"], keepdims=1), node("Sub", ["x", "m"], ["y"])]
    inputs, outputs = [value("x", ["n", 2], dtype)], [value("y", ["n", 2], dtype)]
    return model(nodes, inputs=inputs, outputs=outputs, weights=[axes], opsets={"": 18})


@pytest.mark.parametrize(
    "sample", [np.ones((1, 2)), np.ones((7, 2)), np.zeros((3, 2)), np.arange(14).reshape(7, 2)], ids=str
)
def test_samples_do_not_hide_that_rows_depend_on_each_other(tmp_path: Path, sample: np.ndarray) -> None:
    assert not _independent(tmp_path, _less_the_mean(), x=sample.astype(np.float32))


def test_rows_that_are_all_the_same_prove_nothing(tmp_path: Path) -> None:
    spec, notes = found(tmp_path, _less_the_mean(), Hints(ranges={"x": (2, 2)}))
    assert not spec.row_independent
    assert "all rows that were tried have one answer, which proves nothing: requests are never batched" in notes


def test_half_precision_does_not_hide_dependence_either(tmp_path: Path) -> None:
    made = model(
        [node("Softmax", ["x"], ["y"], axis=0)],
        inputs=[value("x", ["n", 2], TensorProto.FLOAT16)],
        outputs=[value("y", ["n", 2], TensorProto.FLOAT16)],
        weights=[],
    )
    spec, _ = found(tmp_path, made)
    assert not spec.row_independent
    assert spec.tolerance.rtol < 0.01
    assert spec.tolerance.atol < 0.01


@pytest.mark.parametrize(
    ("kind", "precision"), [(np.float32, "fp32"), (np.float16, "fp16"), (np.float64, "fp64"), (np.int8, "int8")]
)
def test_the_precision_of_a_model_is_that_of_most_of_its_weights(tmp_path: Path, kind: Any, precision: str) -> None:
    weights = [numpy_helper.from_array(np.ones((2, 2), kind), "w"), numpy_helper.from_array(np.array(0), "index")]
    nodes = [
        node("Cast", ["w"], ["as_float"], to=TensorProto.FLOAT),
        node("Gather", ["as_float", "index"], ["row"]),
        node("Mul", ["x", "row"], ["y"]),
    ]
    spec, _ = found(tmp_path, model(nodes, outputs=[value("y", ["n", 2])], weights=weights))
    assert spec.precision == precision
    assert Spec.from_dict(spec.to_dict()) == spec


def test_each_output_has_its_own_tolerance_and_whole_numbers_have_none(tmp_path: Path) -> None:
    made = model(
        [
            node("Mul", ["x", "big"], ["large"]),
            node("Softmax", ["x"], ["small"], axis=1),
            node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
        ],
        outputs=[value("large", ["n", 2]), value("small", ["n", 2]), value("label", ["n"], TensorProto.INT64)],
        weights=[_constant("big", 1e8)],
    )
    spec, _ = found(tmp_path, made)
    assert spec.row_independent
    large, small, label = (spec.tolerance_of(output) for output in spec.outputs)
    assert large.atol > 1000
    assert small.atol < 1e-3
    assert (label.rtol, label.atol) == (0, 0)


def test_a_small_output_is_not_hidden_by_a_large_one(tmp_path: Path) -> None:
    made = model(
        [node("Mul", ["x", "big"], ["large"]), node("Softmax", ["x"], ["small"], axis=0)],
        outputs=[value("large", ["n", 2]), value("small", ["n", 2])],
        weights=[_constant("big", 1e8)],
    )
    assert not _independent(tmp_path, made)


def test_answers_that_are_noise_are_refused(tmp_path: Path) -> None:
    made = model(
        [node("Mul", ["x", "big"], ["z"]), node("Sin", ["z"], ["y"])],
        outputs=[value("y", ["n", 2])],
        weights=[_constant("big", 1e7)],
    )
    with pytest.raises(Refused, match="with the last bit of its inputs: no two runtimes can be compared so"):
        found(tmp_path, made)


def test_first_axes_that_can_differ_are_not_one(tmp_path: Path) -> None:
    made = model(
        [node("Transpose", ["k"], ["t"], perm=[1, 0]), node("MatMul", ["q", "t"], ["y"])],
        inputs=[value("q", ["n", 3]), value("k", ["m", 3])],
        outputs=[value("y", ["n", "m"])],
        weights=[],
    )
    spec, _ = found(tmp_path, made)
    assert shapes(spec) == {"q": ("n", 3), "k": ("m", 3), "y": ("n", "m")}


def test_another_axis_that_is_called_batch_is_another_axis(tmp_path: Path) -> None:
    made = model(
        [node("Relu", ["x"], ["y"])],
        inputs=[value("x", ["time", "batch", 3])],
        outputs=[value("y", ["time", "batch", 3])],
        weights=[],
    )
    spec, _ = found(tmp_path, made)
    assert shapes(spec)["x"] == ("batch", "batch_axis", 3)


def test_an_output_axis_that_is_declared_open_stays_open(tmp_path: Path) -> None:
    made = model(
        [node("Sub", ["x", "five"], ["z"]), node("Relu", ["z"], ["r"]), node("NonZero", ["r"], ["y"])],
        inputs=[value("x", [3])],
        outputs=[value("y", [1, "found"], TensorProto.INT64)],
        weights=[_constant("five", 5.0)],
    )
    spec, _ = found(tmp_path, made)
    assert shapes(spec)["y"] == (1, "y_1")


def test_whole_numbers_beyond_the_fractions_of_float64_are_told_apart(tmp_path: Path) -> None:
    made = model(
        [node("Identity", ["x"], ["y"])],
        inputs=[value("x", ["n"], TensorProto.INT64)],
        outputs=[value("y", ["n"], TensorProto.INT64)],
        weights=[],
    )
    with pytest.raises(Refused, match="a sample's answer 'y'"):
        found(tmp_path, made, x=np.array([2**60], np.int64), y=np.array([2**60 + 50], np.int64))


def test_a_model_that_runs_with_a_few_rows_alone_is_not_batched(tmp_path: Path) -> None:
    table = numpy_helper.from_array(np.arange(32, dtype=np.float32).reshape(16, 2), "table")
    nodes = [
        node("Shape", ["x"], ["s"], start=0, end=1),
        node("Slice", ["table", "zero", "s"], ["part"]),
        node("Add", ["x", "part"], ["y"]),
    ]
    zero = numpy_helper.from_array(np.array([0], np.int64), "zero")
    made = model(nodes, outputs=[value("y", ["n", 2])], weights=[table, zero])
    spec, notes = found(tmp_path, made)
    assert not spec.row_independent, notes


@pytest.mark.parametrize(
    ("hints", "said"),
    [
        (Hints(ranges={"z": (0, 1)}), r"\[ranges\] names 'z'; the model's inputs are x"),
        (Hints(sizes={"z": (1, 2)}), r"\[sizes\] names 'z'; the open axes are batch"),
        (Hints(max_sizes={"z": 2}), r"\[max_sizes\] names 'z'; the open axes are batch"),
    ],
)
def test_hints_about_what_is_not_there_are_refused(tmp_path: Path, hints: Hints, said: str) -> None:
    with pytest.raises(Refused, match=said):
        found(tmp_path, model(), hints)


@pytest.mark.parametrize("most", [4, 20])
def test_the_largest_size_of_an_axis_may_be_said(tmp_path: Path, most: int) -> None:
    spec, _ = found(tmp_path, model(), Hints(max_sizes={"batch": most}))
    assert (spec.max_sizes, spec.row_independent, spec.max_rows(64)) == ({"batch": most}, True, most)


def _of_any_length() -> onnx.ModelProto:
    """Return y = the positive part of x [n, length]."""
    shape: list[int | str] = ["n", "length"]
    return model([node("Relu", ["x"], ["y"])], inputs=[value("x", shape)], outputs=[value("y", shape)], weights=[])


@pytest.mark.parametrize("most", [2, 4, 10, 14, 400])
def test_nothing_larger_than_the_largest_size_is_tried_and_the_server_loads_what_was_written(
    tmp_path: Path, most: int
) -> None:
    spec, _ = found(tmp_path, _of_any_length(), Hints(max_sizes={"length": most}))
    assert spec.max_sizes == {"length": most}
    assert shapes(spec) == {"x": ("batch", "length"), "y": ("batch", "length")}
    groups = read_proof(tmp_path / "work").groups
    for group in groups:
        asked = tuple(from_values(tensor.name, tensor.dtype, group[tensor.name]) for tensor in spec.inputs)
        Signature(spec).check(Request("m", 0, asked))
    assert len({group["x"].shape[1] for group in groups}) > 1
    store.store(tmp_path / "exports", "m", "source", tmp_path / "work")
    loaded = load(tmp_path / "exports" / "m" / "onnx" / "1", SERVICE, partial(OrtEngine, device="cpu"))
    assert loaded.spec == spec


@pytest.mark.parametrize("limits", [{"n": 16, "m": 16}, {"n": 20, "m": 16}, {"n": 2, "m": 2}])
def test_first_axes_that_are_one_keep_the_smallest_of_their_limits(tmp_path: Path, limits: dict[str, int]) -> None:
    both = model(
        [node("Add", ["x", "z"], ["y"])],
        inputs=[value("x", ["n", 4]), value("z", ["m", 4])],
        outputs=[value("y", ["k", 4])],
        weights=[],
    )
    spec, _ = found(tmp_path, both, Hints(max_sizes=limits))
    assert shapes(spec) == {"x": ("batch", 4), "z": ("batch", 4), "y": ("batch", 4)}
    assert spec.max_sizes == {"batch": min(limits.values())}


def test_an_axis_that_may_have_one_size_alone_is_fixed(tmp_path: Path) -> None:
    spec, notes = found(tmp_path, _of_any_length(), Hints(max_sizes={"length": 1}))
    assert shapes(spec)["x"] == ("batch", 1)
    assert "axis 'length' may have at most 1: it is fixed" in notes


def test_sizes_and_samples_above_the_largest_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"^\[sizes\] has 64 along 'length', which may have at most 10$"):
        found(tmp_path, _of_any_length(), Hints(sizes={"length": (8, 64)}, max_sizes={"length": 10}))
    sample = np.ones((1, 11), np.float32)
    with pytest.raises(Refused, match=r"^a sample has 11 along 'length', which may have at most 10$"):
        found(_new(tmp_path / "again"), _of_any_length(), Hints(max_sizes={"length": 10}), x=sample)


@pytest.mark.slow
def test_what_a_saved_model_became_is_loaded_by_the_server_with_its_open_axes(tmp_path: Path, run: Any) -> None:
    import keras  # noqa: PLC0415 - seconds

    words = keras.Input((None, 3), name="words")
    path = tmp_path / "words.keras"
    keras.Model(words, keras.layers.Dense(2, name="scores")(words)).save(path)
    code, out, err = run(path)
    assert code == 0, err
    assert "no path on onnx" not in out
    loaded = load(tmp_path / "exports" / "mine" / "onnx" / "1", SERVICE, partial(OrtEngine, device="cpu"))
    (words_spec,), (scores,) = loaded.spec.inputs, loaded.spec.outputs
    assert (words_spec.shape[0], words_spec.shape[2]) == ("batch", 3)
    assert scores.shape == ("batch", words_spec.shape[1], 2)


def test_an_embedding_may_be_compared_by_its_direction(tmp_path: Path) -> None:
    spec, _ = found(tmp_path, model(), Hints(tolerance=Tolerance(cosine=0.999)))
    assert spec.tolerance_of(spec.outputs[0]) == Tolerance(cosine=0.999)


def test_a_scalar_has_no_direction(tmp_path: Path) -> None:
    made = model([node("ReduceSum", ["x"], ["y"], keepdims=0)], outputs=[value("y", [])])
    with pytest.raises(Refused, match=r"output 'y' has no axis along which cosine 0\.999 could be asked"):
        found(tmp_path, made, Hints(tolerance=Tolerance(cosine=0.999)))
