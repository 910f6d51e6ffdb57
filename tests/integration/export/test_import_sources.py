"""What is read of files that nobody here made: every stored tensor, every name, every operation, before any is run."""

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from export.importing import onnx_source
from export.importing.errors import Refused
from export.importing.hints import Hints
from export.importing.prove import Proof
from tests.hostile_models import W, external, model, value

node = helper.make_node


def imported(tmp_path: Path, made: onnx.ModelProto, **names: str) -> Proof:
    """Import a model and return what was found."""
    path, folder = tmp_path / "source.onnx", tmp_path / "written"
    path.write_bytes(made.SerializeToString())
    folder.mkdir()
    proof, _ = onnx_source.import_onnx(path, folder, Hints(names=names))
    onnx_source.load(folder)
    return proof


def shapes(proof: Proof) -> Mapping[str, tuple[int | str, ...]]:
    return {tensor.name: tensor.shape for tensor in proof.spec.inputs + proof.spec.outputs}


def sparse(*dims: int) -> onnx.ModelProto:
    """Return y = x @ w with w = [[1], [0]], of which one element is stored."""
    made = model(weights=[])
    stored = made.graph.sparse_initializer.add(dims=dims)
    stored.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "w"))
    stored.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), "places"))
    return made


def function(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """Return y = mine.F(x), the file's own function."""
    made = model([node("F", ["x"], ["y"], domain="mine")], weights=[], opsets={"": 17, "mine": 1})
    made.functions.append(helper.make_function("mine", "F", ["a"], ["b"], nodes, [helper.make_opsetid("", 17)]))
    return made


def test_sparse_weights_are_served(tmp_path: Path) -> None:
    proof = imported(tmp_path, sparse(2, 1))
    group = proof.groups[0]
    np.testing.assert_array_equal(group["y"], group["x"][:, :1])


def test_sparse_weights_that_would_be_huge_when_dense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="'w' have 1099511627776 elements: more than 2 GiB"):
        imported(tmp_path, sparse(2**20, 2**20))


def test_a_function_of_the_file_is_no_custom_operator(tmp_path: Path) -> None:
    constant = node("Constant", [], ["w"], value=W)
    proof = imported(tmp_path, function([constant, node("MatMul", ["a", "w"], ["b"])]))
    assert shapes(proof) == {"x": ("batch", 2), "y": ("batch", 1)}


def test_a_function_with_operators_of_another_domain_is_refused(tmp_path: Path) -> None:
    made = function([node("G", ["a"], ["b"], domain="evil")])
    made.functions[0].opset_import.append(helper.make_opsetid("evil", 1))
    with pytest.raises(Refused, match="domain 'evil' are custom ones"):
        imported(tmp_path, made)


@pytest.mark.parametrize("field", ["t", "tensors", "sparse_tensor", "sparse_tensors"])
def test_weights_in_a_graph_inside_a_function_are_looked_at(tmp_path: Path, field: str) -> None:
    made = function([node("If", ["a"], ["b"])])
    inner = made.functions[0].node[0].attribute.add(name="then_branch", type=AttributeProto.GRAPH).g
    attribute = inner.node.add(op_type="Constant", output=["w"]).attribute.add(name="value")
    where = getattr(attribute, field)
    stored = where.add() if field.endswith("s") else where
    (stored.values if "sparse" in field else stored).CopyFrom(external("../elsewhere"))
    with pytest.raises(Refused, match=r"'w' are (outside the model's folder|in another file)"):
        imported(tmp_path, made)


def test_many_weights_are_looked_at_in_no_time(tmp_path: Path) -> None:
    made = model()
    made.graph.initializer.extend(TensorProto(name=f"w{n}", data_type=1, dims=[0]) for n in range(30_000))
    made.graph.initializer.add(name="w7", data_type=1, dims=[0])
    with pytest.raises(Refused, match="two of the weights are called 'w7'"):
        imported(tmp_path, made)


@pytest.mark.parametrize(("name", "count"), [("int4", 3), ("uint4", 4), ("int2", 5), ("uint2", 8)])
def test_small_numbers_beside_the_file_lie_several_in_a_byte(tmp_path: Path, name: str, count: int) -> None:
    packed = numpy_helper.from_array(np.ones(count, getattr(ml_dtypes, name)), "w")
    (tmp_path / "weights").write_bytes(packed.raw_data)
    tensor = external("weights", length=str(len(packed.raw_data)))
    tensor.dims[:], tensor.data_type = [count], packed.data_type
    path = tmp_path / "small.onnx"
    path.write_bytes(model(weights=[tensor]).SerializeToString())
    found = onnx_source.read(path).graph.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(found).astype(int), np.ones(count, int))


def test_an_axis_of_size_0_is_an_open_one(tmp_path: Path) -> None:
    proof = imported(tmp_path, model(inputs=[value("x", [0, 2])], outputs=[value("y", [0, 1])]))
    assert shapes(proof) == {"x": ("batch", 2), "y": ("batch", 1)}


def test_names_of_axes_print_and_two_axes_stay_two(tmp_path: Path) -> None:
    made = model(
        [node("Transpose", ["x"], ["y"], perm=[0, 2, 1])],
        inputs=[value("x", ["n", "a#", "a\n"])],
        outputs=[value("y", None)],
        weights=[],
    )
    assert shapes(imported(tmp_path, made)) == {"x": ("batch", "a_", "a__1"), "y": ("batch", "a__1", "a_")}


@pytest.mark.parametrize("names", [{"x": "y"}, {"y": "x"}, {"x": "z", "y": "z"}])
def test_a_name_that_another_tensor_has_is_refused(tmp_path: Path, names: dict[str, str]) -> None:
    with pytest.raises(Refused, match=r"the spec names '.' '.', which another tensor of the model is called"):
        imported(tmp_path, model(), **names)


def test_two_tensors_may_change_names(tmp_path: Path) -> None:
    assert shapes(imported(tmp_path, model(), x="y", y="x")) == {"y": ("batch", 2), "x": ("batch", 1)}


def test_a_name_made_printable_leaves_the_users_name_alone(tmp_path: Path) -> None:
    made = model(
        [node("Add", ["a#", "a\n"], ["y"])],
        inputs=[value("a#", ["n"]), value("a\n", ["n"])],
        outputs=[value("y", ["n"])],
        weights=[],
    )
    assert shapes(imported(tmp_path, made, y="a__1")).keys() == {"a_", "a__2", "a__1"}
