"""What is read of files that nobody here made: every stored tensor, every name, every operation, before any is run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import safetensors.numpy
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from export.importing import onnx_source
from export.importing.errors import Refused
from export.importing.hints import Hints
from export.importing.prove import Proof
from tests.hostile_models import W, external, model, value

node = helper.make_node
Save = Callable[..., Path]


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


def test_a_file_of_an_unknown_kind_is_told_what_import_takes(tmp_path: Path) -> None:
    path, cut = tmp_path / "weights.safetensors", tmp_path / "cut.onnx"
    safetensors.numpy.save_file({"w": np.ones((2, 1), np.float32)}, path)
    with pytest.raises(
        Refused, match=r"^weights\.safetensors is not an ONNX file.*; import takes an ONNX file .*Saved"
    ):
        onnx_source.read(path)
    cut.write_bytes(model().SerializeToString()[:-3])
    with pytest.raises(Refused, match=r"^cut\.onnx is not an ONNX file, or is cut off$"):
        onnx_source.read(cut)


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


@pytest.fixture(scope="module")
def saved_models() -> Any:
    return pytest.importorskip("export.importing.saved_model_source")


@pytest.fixture
def save(tmp_path: Path, saved_models: Any) -> Save:
    """Return what writes y = 2 x as a SavedModel, under any names, and with an operation run when it is loaded."""
    tensorflow = saved_models.tensorflow
    v1 = tensorflow.compat.v1

    def save(names: tuple[str, str] = ("x", "y"), init: Callable[[], Any] | None = None, call: Any = None) -> Path:
        path = tmp_path / "saved"
        graph = v1.Graph()
        with graph.as_default(), v1.Session(graph=graph) as session:
            x = v1.placeholder(tensorflow.float32, [None, 2])
            with graph.control_dependencies([call()] if call else []):
                y = x * 2
            infos = [{name: v1.saved_model.build_tensor_info(each)} for name, each in zip(names, (x, y), strict=True)]
            signature = v1.saved_model.build_signature_def(*infos, "tensorflow/serving/predict")
            builder = v1.saved_model.Builder(str(path))
            builder.add_meta_graph_and_variables(
                session, ["serve"], {"serving_default": signature}, main_op=init and init()
            )
            builder.save()
        return path

    return save


@pytest.mark.slow
def test_what_a_saved_model_runs_when_it_is_loaded_is_looked_at_before(
    tmp_path: Path, saved_models: Any, save: Save
) -> None:
    written = tmp_path / "written"
    source = save(init=lambda: saved_models.tensorflow.io.write_file(str(written), "x"))
    with pytest.raises(Refused, match="the graph runs WriteFile, which reaches beyond the model"):
        saved_models.load(source)
    assert not written.exists()


@pytest.mark.slow
def test_a_call_that_writes_a_checkpoint_is_refused(saved_models: Any, save: Save) -> None:
    raw = saved_models.tensorflow.raw_ops

    def call() -> Any:
        def write() -> Any:
            raw.SaveV2(prefix="/nowhere", tensor_names=["w"], shape_and_slices=[""], tensors=[1.0])
            return saved_models.tensorflow.constant(1.0)

        return saved_models.tensorflow.function(write)()

    with pytest.raises(Refused, match="the graph runs SaveV2"):
        saved_models.load(save(call=call))


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["SaveV2", "MergeV2Checkpoints"])
@pytest.mark.parametrize("where", ["restoring", "object"])
def test_loading_may_not_write_a_checkpoint(tmp_path: Path, saved_models: Any, operation: str, where: str) -> None:
    from tensorflow.core.protobuf import saved_model_pb2  # noqa: PLC0415 - after TensorFlow

    saved = saved_model_pb2.SavedModel()
    meta = saved.meta_graphs.add()
    body = meta.graph_def.library.function.add()
    body.signature.name = "f"
    body.node_def.add(name="n", op=operation)
    if where == "object":
        meta.object_graph_def.concrete_functions["f"].bound_inputs.append(0)
    else:
        meta.graph_def.node.add(name="restore", op="NoOp", input=["^call"])
        meta.graph_def.node.add(name="call", op="PartitionedCall").attr["f"].func.name = "f"
        meta.saver_def.restore_op_name = "restore"
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(Refused, match=f"the graph runs {operation}, which"):
        saved_models.load(tmp_path)


UNSAFE = (
    *("PyFunc", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles", "WholeFileReaderV2", "TextLineReaderV2"),
    *("TFRecordDataset", "SaveDataset", "LoadDataset", "CacheDataset", "Snapshot", "SnapshotDatasetV2", "PrintV2"),
    *("DebugIdentity", "DebugNumericSummary", "CreateSummaryFileWriter", "WriteSummary", "IteratorV2", "DumpTensor"),
    *("ImmutableConst", "LoadAndRemapMatrix", "RecordInput", "Skipgram", "RpcServer", "DecodeProtoV2", "Restore"),
    *("InitializeTableFromTextFileV2", "GenerateVocabRemapping", "FixedUnigramCandidateSampler", "Abort"),
)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["graph", "function", "another graph"])
def test_operations_that_reach_beyond_a_model_are_refused(tmp_path: Path, saved_models: Any, where: str) -> None:
    from tensorflow.core.protobuf import saved_model_pb2  # noqa: PLC0415 - after TensorFlow

    for operation in UNSAFE:
        saved = saved_model_pb2.SavedModel()
        graph = saved.meta_graphs.add().graph_def
        if where == "another graph":
            graph = saved.meta_graphs.add().graph_def
        (graph.library.function.add().node_def if where == "function" else graph.node).add(name="n", op=operation)
        (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
        with pytest.raises(Refused, match=f"the graph runs {operation}, which"):
            saved_models.load(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("x", "x"), "an input and an output of its signature are both called 'x'"),
        (("x", "y#1"), "its signature has the name 'y#1'"),
        (("x\nb", "y"), r"its signature has the name 'x\\nb'"),
    ],
)
def test_names_that_a_saved_model_cannot_be_served_under_are_refused(
    saved_models: Any, save: Save, names: tuple[str, str], said: str
) -> None:
    with pytest.raises(Refused, match=said):
        saved_models.load(save(names))


@pytest.mark.slow
def test_a_saved_model_of_tensorflow_1_is_taken(tmp_path: Path, saved_models: Any, save: Save) -> None:
    saved_models.copy_parts(save(init=saved_models.tensorflow.no_op), tmp_path)
    answer = saved_models.load(tmp_path)({"x": np.ones((1, 2), np.float32)})
    np.testing.assert_array_equal(answer["y"], [[2, 2]])


@pytest.mark.slow
@pytest.mark.parametrize("part", ["assets", "variables", "assets.extra"])
def test_a_part_that_is_a_link_is_refused(tmp_path: Path, saved_models: Any, part: str) -> None:
    source = tmp_path / "saved"
    for folder in (source, tmp_path / "elsewhere", tmp_path / "copy"):
        folder.mkdir()
    (source / part).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match=f"{part} is a link"):
        saved_models.copy_parts(source, tmp_path / "copy")


@pytest.mark.slow
def test_a_copy_of_a_saved_model_has_the_usual_modes(tmp_path: Path, saved_models: Any) -> None:
    source, copy = tmp_path / "saved", tmp_path / "copy"
    (source / "variables" / "inner").mkdir(parents=True)
    copy.mkdir()
    names = ("saved_model.pb", "variables/variables.index", "variables/inner/more")
    for name in names:
        (source / name).write_text(name)
        (source / name).chmod(0o400)
    folders = ("variables", "variables/inner")
    for name in reversed(folders):
        (source / name).chmod(0o500)
    try:
        saved_models.copy_parts(source, copy)
    finally:
        for name in folders:
            (source / name).chmod(0o700)
    (tmp_path / "usual").touch()
    assert [(copy / name).read_text() for name in names] == list(names)
    assert {(copy / name).stat().st_mode for name in names} == {(tmp_path / "usual").stat().st_mode}
    assert {(copy / name).stat().st_mode for name in folders} == {copy.stat().st_mode}
