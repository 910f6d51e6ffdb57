"""What `onnx_file.save` makes of models that exporters could give: the same answers, under the spec's names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import onnx_file
from export.errors import ExportError
from export.onnx_file import Names
from servepath.artifacts.spec import BATCH, Spec, TensorSpec, Tolerance

X = np.array([[1.0, 2.0], [3.0, -5.0], [0.5, 0.0]], np.float32)
TRUE, FALSE = np.array(True), np.array(False)  # noqa: FBT003 - a flag of the model
NO_BATCH: tuple[int, ...] = ()


def value(name: str, shape: Sequence[Any] | None = ("n", 2), kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name: str, *numbers: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(numbers, np.float32), name)


def model(nodes: Sequence[onnx.NodeProto], inputs: Any, outputs: Any, constants: Any = ()) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "made", list(inputs), list(outputs), list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def spec(inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]]) -> Spec:
    sides = [tuple(TensorSpec(name, "FP32", shape) for name, shape in side.items()) for side in (inputs, outputs)]
    return Spec(*sides, row_independent=True, tolerance=Tolerance(1e-5, 1e-5))


ROWS = (BATCH, 2)


def saved(made: onnx.ModelProto, names: Names, contract: Spec, folder: Path) -> onnx.ModelProto:
    onnx.checker.check_model(made, full_check=True)  # the test's own model is a right one
    onnx_file.save(made, contract, names, folder)
    found = onnx.load(folder / onnx_file.FILE)
    onnx.checker.check_model(found, full_check=True)
    return found


def run(folder: Path, **inputs: Any) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(folder / onnx_file.FILE, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def choosing(inner: str = "inner") -> onnx.ModelProto:
    """Return `out = twice + a if flag else twice - a`, twice = a + a.

    Both branches use tensors of the graph outside.
    """

    def branch(kind: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node(kind, ["twice", "a"], [inner]),
            helper.make_node("Identity", [inner], [f"{kind}_out"], doc_string="", name=kind),
        ]
        nodes[0].metadata_props.add(key="stack", value="/home/somebody/model.py")
        return helper.make_graph(nodes, kind, [], [value(f"{kind}_out")])

    chosen = helper.make_node("If", ["b"], ["out"], then_branch=branch("Add"), else_branch=branch("Sub"))
    nodes = [helper.make_node("Add", ["a", "a"], ["twice"]), chosen]
    return model(nodes, [value("a"), value("b", [], TensorProto.BOOL)], [value("out")])


CHOOSING = spec({"x": ROWS, "flag": NO_BATCH}, {"y": ROWS})


@pytest.mark.parametrize("inner", ["inner", "x", "y", "flag"])
def test_the_branches_of_an_if_keep_what_they_use_of_the_graph_outside(tmp_path: Path, inner: str) -> None:
    saved(choosing(inner), Names(["x", "flag"], ["y"]), CHOOSING, tmp_path)
    np.testing.assert_array_equal(run(tmp_path, x=X, flag=TRUE)["y"], 3 * X)
    np.testing.assert_array_equal(run(tmp_path, x=X, flag=FALSE)["y"], X)


def test_no_graph_inside_keeps_what_the_exporter_noted_about_this_machine(tmp_path: Path) -> None:
    saved(choosing(), Names(["x", "flag"], ["y"]), CHOOSING, tmp_path)
    assert b"/home/somebody" not in (tmp_path / onnx_file.FILE).read_bytes()


def test_the_body_of_a_loop_keeps_what_it_uses_of_the_graph_outside(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["sum_in", "a"], ["sum_out"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
        ],
        "body",
        [value("i", [], TensorProto.INT64), value("go_in", [], TensorProto.BOOL), value("sum_in")],
        [value("go_out", [], TensorProto.BOOL), value("sum_out")],
    )
    times = numpy_helper.from_array(np.array(4), "y")  # the name that the output is to have
    made = model([helper.make_node("Loop", ["y", "", "a"], ["out"], body=body)], [value("a")], [value("out")], [times])
    saved(made, Names(["x"], ["y"]), spec({"x": ROWS}, {"y": ROWS}), tmp_path)
    np.testing.assert_array_equal(run(tmp_path, x=X)["y"], 5 * X)


def test_a_wanted_name_that_another_tensor_has_is_taken_from_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["a", "x"], ["y"]),  # x is a constant and y a tensor in between
        helper.make_node("Add", ["y", "y_1"], ["out"]),
    ]
    made = model(nodes, [value("a")], [value("out")], [constant("x", 3.0), constant("y_1", 1.0)])
    saved(made, Names(["x"], ["y"]), spec({"x": ROWS}, {"y": ROWS}), tmp_path)
    np.testing.assert_array_equal(run(tmp_path, x=X)["y"], 3 * X + 1)


def test_inputs_that_have_each_others_names_are_swapped(tmp_path: Path) -> None:
    made = model([helper.make_node("Sub", ["a", "b"], ["c"])], [value("a"), value("b")], [value("c")])
    saved(made, Names(["b", "a"], ["c"]), spec({"a": ROWS, "b": ROWS}, {"c": ROWS}), tmp_path)
    np.testing.assert_array_equal(run(tmp_path, a=X, b=2 * X)["c"], X)


def test_one_tensor_may_be_an_input_and_two_outputs(tmp_path: Path) -> None:
    made = model([helper.make_node("Neg", ["a"], ["b"])], [value("a")], [value("a"), value("b"), value("b")])
    contract = spec({"x": ROWS}, {"same": ROWS, "minus": ROWS, "again": ROWS})
    saved(made, Names(["x"], ["same", "minus", "again"]), contract, tmp_path)
    found = run(tmp_path, x=X)
    for name, expected in {"same": X, "minus": -X, "again": -X}.items():
        np.testing.assert_array_equal(found[name], expected)


def test_the_file_has_the_specs_order_whatever_the_exporters_was(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sub", ["b", "a"], ["d"]), helper.make_node("Add", ["b", "a"], ["c"])]
    made = model(nodes, [value("a"), value("b")], [value("c"), value("d")])
    contract = spec({"num": ROWS, "flag": ROWS}, {"less": ROWS, "more": ROWS})
    graph = saved(made, Names(["flag", "num"], ["more", "less"]), contract, tmp_path).graph
    assert [[each.name for each in side] for side in (graph.input, graph.output)] == [["num", "flag"], ["less", "more"]]
    found = run(tmp_path, num=X, flag=2 * X)
    np.testing.assert_array_equal(found["more"], 3 * X)
    np.testing.assert_array_equal(found["less"], -X)


def test_only_tensors_with_a_batch_axis_get_one(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["a"], ["scalar"], keepdims=0),
        helper.make_node("Identity", ["table"], ["constant"]),
        helper.make_node("Neg", ["a"], ["rows"]),
    ]
    outputs = [value("scalar", []), value("constant", [3]), value("rows")]
    made = model(nodes, [value("a")], outputs, [constant("table", 1.0, 2.0, 3.0)])
    contract = spec({"x": ROWS}, {"scalar": NO_BATCH, "constant": (3,), "rows": ROWS})
    graph = saved(made, Names(["x"], ["scalar", "constant", "rows"]), contract, tmp_path).graph
    shapes = [[dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim] for each in graph.output]
    assert shapes == [[], [3], ["batch", 2]]
    found = run(tmp_path, x=X)
    assert found["scalar"] == 3.0
    assert found["constant"].tolist() == [1, 2, 3]


def test_a_batch_axis_that_the_file_lacks_is_one_clear_line(tmp_path: Path) -> None:
    made = model([helper.make_node("ReduceMax", ["a"], ["b"], keepdims=0)], [value("a")], [value("b", [])])
    with pytest.raises(ExportError, match=r"^y has no axis in the ONNX file, its spec says \[-1, 2\]$"):
        onnx_file.save(made, spec({"x": ROWS}, {"y": ROWS}), Names(["x"], ["y"]), tmp_path)


def test_names_that_are_not_the_specs_are_one_clear_line(tmp_path: Path) -> None:
    made = model([helper.make_node("Add", ["a", "b"], ["c"])], [value("a"), value("b")], [value("c")])
    said = "^the model's inputs are a, b, its spec says x, b; name them alike$"
    with pytest.raises(ExportError, match=said):
        onnx_file.save(made, spec({"x": ROWS, "b": ROWS}, {"y": ROWS}), Names(["a", "b"], ["y"]), tmp_path)
