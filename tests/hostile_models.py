"""Files that are no model, or one that nobody should serve: name, what makes it in a folder, and what must be said.

None does any harm: each is what our own checks must refuse before a runtime would have to.
"""

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests import tiny_tflite

Make = Callable[[Path], Path]
W = numpy_helper.from_array(np.ones((2, 1), np.float32), "w")


def model(
    nodes: list[onnx.NodeProto] | None = None,
    *,
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    weights: list[TensorProto] | None = None,
    opsets: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """Return y = x @ w, or a variation of it."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])] if nodes is None else nodes,
        "g",
        [value("x", ["n", 2])] if inputs is None else inputs,
        [value("y", ["n", 1])] if outputs is None else outputs,
        [W] if weights is None else weights,
    )
    imports = [helper.make_opsetid(domain, number) for domain, number in (opsets or {"": 17}).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def value(name: str, shape: list[int | str] | None, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """Return an input or output."""
    return helper.make_tensor_value_info(name, dtype, shape)


def external(location: str, **more: str) -> TensorProto:
    """Return the weights w, said to be in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 1], data_location=TensorProto.EXTERNAL)
    for key, said in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=said)
    return tensor


def huge(*dims: int) -> TensorProto:
    """Return weights without data."""
    return TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims)


def _bytes(content: bytes, name: str = "model.onnx") -> Make:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return make


def _onnx(made: onnx.ModelProto, **beside: bytes) -> Make:
    def make(folder: Path) -> Path:
        for name, content in beside.items():
            (folder / name).write_bytes(content)
        return _bytes(made.SerializeToString())(folder)

    return make


def _link(folder: Path) -> Path:
    (folder / "elsewhere").write_bytes(bytes(8))
    (folder / "inner").mkdir()
    (folder / "inner" / "weights").symlink_to(folder / "elsewhere")
    return _bytes(model(weights=[external("weights")]).SerializeToString())(folder / "inner")


def _archive(members: Mapping[str, bytes], name: str = "model.keras") -> Make:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return folder / name

    return make


def _unlabelled(folder: Path) -> Path:
    made = model()
    made.graph.input[0].type.tensor_type.ClearField("shape")
    return _onnx(made)(folder)


def _sparse(folder: Path) -> Path:
    made = model(weights=[])
    sparse = made.graph.sparse_initializer.add(dims=[2, 1])
    sparse.values.CopyFrom(external("weights"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0, 1], np.int64), "places"))
    return _onnx(made, weights=bytes(8))(folder)


def _writes_when_loaded(folder: Path) -> Path:
    from tensorflow.core.protobuf import saved_model_pb2  # noqa: PLC0415 - seconds

    saved = saved_model_pb2.SavedModel()
    meta = saved.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.graph_def.node.add(name="init", op="WriteFile")
    meta.collection_def["saved_model_main_op"].node_list.value.append("init")
    return _saved_model(saved.SerializeToString())(folder)


def _linked_part(folder: Path) -> Path:
    (folder / "elsewhere").mkdir()
    path = _saved_model(b"")(folder)
    (path / "assets").symlink_to(folder / "elsewhere")
    return path


def _saved_model(content: bytes | None, *, link: bool = False) -> Make:
    def make(folder: Path) -> Path:
        path = folder / "saved"
        (path / "variables").mkdir(parents=True)
        if content is not None:
            (path / "saved_model.pb").write_bytes(content)
        if link:
            (path / "variables" / "variables.index").symlink_to("/etc/hostname")
        return path

    return make


# {"weights": [1.0]}, pickled.
PICKLED = b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x07weights\x94]\x94G?\xf0\x00\x00\x00\x00\x00\x00as."
NAN = numpy_helper.from_array(np.full((2, 1), np.nan, np.float32), "w")
LAMBDA = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {
        "name": "s",
        "layers": [
            {
                "module": "keras.layers",
                "class_name": "Lambda",
                "config": {"name": "l", "function": {"class_name": "__lambda__", "config": {"code": "AA=="}}},
            }
        ],
    },
}


def hostile() -> Iterator[tuple[str, Make, str]]:
    """Yield name, maker and a part of the sentence, a regular expression."""
    yield from _no_models()
    yield from _bad_weights()
    yield from _bad_graphs()


def _no_models() -> Iterator[tuple[str, Make, str]]:
    whole = model().SerializeToString()
    yield "empty", _bytes(b""), "it has no graph with outputs"
    yield "cut", _bytes(whole[: len(whole) // 2]), "not an ONNX file"
    yield "text", _bytes(b"not a model at all\n" * 9), "not an ONNX file"
    yield "pickle", _bytes(PICKLED), "is a pickle of Python objects, which can run code"
    yield "archive", _archive({"data.pkl": b"x"}, "model.onnx"), "not an ONNX file"
    yield "no outputs", _onnx(model(outputs=[])), "it has no graph with outputs"
    yield "no inputs", _onnx(model([helper.make_node("Identity", ["w"], ["y"])], inputs=[])), "no inputs"
    yield "no folder of a model", _saved_model(None), "a folder without saved_model.pb"


def _bad_weights() -> Iterator[tuple[str, Make, str]]:
    yield "external missing", _onnx(model(weights=[external("weights")])), "there is no weights beside the model"
    yield "external above", _onnx(model(weights=[external("../weights")])), "outside the model's folder"
    yield "external absolute", _onnx(model(weights=[external("/etc/hostname")])), "outside the model's folder"
    yield "external link", _link, "behind a link"
    yield "external short", _onnx(model(weights=[external("weights")]), weights=bytes(7)), "does not hold them"
    yield (
        "external offset",
        _onnx(model(weights=[external("weights", offset="-8")]), weights=bytes(8)),
        "does not hold them",
    )
    yield "external sparse", _sparse, "the sparse weights 'w' are in another file"
    yield "2^40 elements", _onnx(model(weights=[huge(2**20, 2**20)])), "have 1099511627776 elements: more than 2 GiB"
    yield "no data", _onnx(model(weights=[huge(2, 1)])), "2 elements and no data"
    yield "negative shape", _onnx(model(weights=[huge(-2, 1)])), r"have the shape \[-2, 1\]"
    yield "weights twice", _onnx(model(weights=[W, W])), "two of the weights are called 'w'"
    yield "NaN weights", _onnx(model(weights=[NAN])), "every element of every answer is NaN"


def _bad_graphs() -> Iterator[tuple[str, Make, str]]:
    yield "inputs twice", _onnx(model(inputs=[value("x", ["n", 2])] * 2)), "two of the inputs are called 'x'"
    yield "no axes", _unlabelled, "input 'x' declares no number of axes"
    yield "nameless", _onnx(model(inputs=[value("", ["n", 2])])), "one of the inputs has no name"
    yield "custom operator", _onnx(model(opsets={"": 17, "evil": 1})), "domain 'evil' are custom ones"
    yield "future opset", _onnx(model(opsets={"": 999})), "ONNX Runtime .* cannot load it"
    yield (
        "unknown operator",
        _onnx(model([helper.make_node("Nonsense", ["x", "w"], ["y"])])),
        "ONNX Runtime .* cannot load it",
    )
    yield "no tensor", _onnx(model([helper.make_node("SequenceConstruct", ["x"], ["y"])], outputs=[_sequence()])), "seq"
    yield (
        "text input",
        _onnx(model([helper.make_node("Identity", ["x"], ["y"])], inputs=[_text("x")], outputs=[_text("y")])),
        r"tensor\(string\), which import cannot draw",
    )
    yield (
        "random",
        _onnx(model([helper.make_node("RandomUniformLike", ["x"], ["y"])], outputs=[value("y", ["n", 2])])),
        "draws random numbers or keeps state",
    )


def hostile_tflite() -> Iterator[tuple[str, Make, str]]:
    """Yield those that LiteRT is asked about."""
    tensors = [tiny_tflite.T(name, (-1, 2)) for name in ("x", "y")]
    custom, flex = (
        tiny_tflite.graph(tensors, [tiny_tflite.Op(name, (0,), (1,))], (0,), (1,)) for name in ("Mine", "FlexErf")
    )
    text = tiny_tflite.graph([tiny_tflite.T("x", (-1, 2), "BYTES")], [], (0,), (0,))
    same = tiny_tflite.graph([tiny_tflite.T("x", (-1, 2))] * 2, [], (0, 1), (0,))
    yield "no more than TFLite's mark", _bytes(bytes(4) + b"TFL3"), "LiteRT .* cannot load it"
    yield "cut TFLite file", _bytes(tiny_tflite.linear(1)[:200]), "LiteRT .* cannot load it"
    yield "custom operator", _bytes(custom), "not have all its operators: unresolved custom op: Mine; no server here"
    yield "operator of TensorFlow", _bytes(flex), r"not have all its operators: Select TensorFlow op\(s\)"
    yield "text", _bytes(text), "input 'x' is of .*, which import cannot draw or compare"
    yield "two of one name", _bytes(same), "two of its inputs have one name, and it has no signature"


def hostile_to_tensorflow() -> Iterator[tuple[str, Make, str]]:
    """Yield those that TensorFlow or Keras is asked about."""
    yield "cut SavedModel", _saved_model(b"\x08\x01\x12\xff\xff"), "cannot load it for serving"
    yield "linked SavedModel", _saved_model(b"", link=True), "variables.index is a link"
    yield "linked part of a SavedModel", _linked_part, "assets is a link"
    yield "SavedModel that writes files", _writes_when_loaded, "the graph runs WriteFile"
    yield "cut Keras file", _bytes(b"PK\x03\x04 and no more", "model.keras"), "not a .keras file, or is cut off"
    yield "archive without a model", _archive({"data.pkl": b"x"}), "it has no config.json"
    yield (
        "bomb",
        _archive({"config.json": b"{}", "model.weights.h5": bytes(300 * 2**20)}),
        "would unpack to 314,572,802 bytes",
    )
    yield (
        "code in a Keras file",
        _archive({"config.json": json.dumps(LAMBDA).encode(), "metadata.json": b"{}", "model.weights.h5": b""}),
        "does not load it without running its code",
    )


def _sequence() -> onnx.ValueInfoProto:
    return helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)


def _text(name: str) -> onnx.ValueInfoProto:
    return value(name, ["n", 2], TensorProto.STRING)
