"""Tiny TFLite files, written by the schema that LiteRT comes with: in milliseconds, without TensorFlow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from servepath.artifacts import atomic, manifest
from servepath.artifacts.spec import Spec
from tests.manifests import NONE, SPEC, write_manifest

WEIGHTS = (1.0, 2.0)
KINDS = {
    "FP32": schema.TensorType.FLOAT32,
    "FP16": schema.TensorType.FLOAT16,
    "FP64": schema.TensorType.FLOAT64,
    "BOOL": schema.TensorType.BOOL,
    **{f"INT{bits}": getattr(schema.TensorType, f"INT{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": getattr(schema.TensorType, f"UINT{bits}") for bits in (8, 16, 32, 64)},
    "BYTES": schema.TensorType.STRING,
}
Names = Mapping[str, int]


class T(NamedTuple):
    """One tensor of a graph. shape: -1 for an open axis."""

    name: str
    shape: Sequence[int]
    dtype: str = "FP32"
    values: Any = None
    scale: float = 0.0


class Op(NamedTuple):
    """One operator: a name of schema.BuiltinOperator, or of a custom one; places of its tensors; its options."""

    name: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: Any = None


def graph(
    tensors: Sequence[T],
    operators: Sequence[Op],
    inputs: Sequence[int],
    outputs: Sequence[int],
    signature: tuple[Names, Names] | None = None,
) -> bytes:
    """Return a file of one graph. signature: places of inputs and outputs by name; without one the file has none."""
    model, subgraph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers = 3, [schema.BufferT()]
    subgraph.tensors = [_tensor(model, tensor) for tensor in tensors]
    subgraph.inputs, subgraph.outputs = list(inputs), list(outputs)
    model.operatorCodes = [_code(op.name) for op in operators]
    subgraph.operators = [_operator(place, op) for place, op in enumerate(operators)]
    model.subgraphs = [subgraph]
    if signature is not None:
        made = schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = "serving_default", 0
        made.inputs, made.outputs = (_map(names) for names in signature)
        model.signatureDefs = [made]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def linear(bias: float, *, signature: bool = True) -> bytes:
    """Return the file of y = x0 + 2 x1 + bias."""
    tensors = [
        T("graph_x", (-1, 2)),
        T("w", (1, 2), values=np.array([WEIGHTS], np.float32)),
        T("b", (1,), values=np.array([bias], np.float32)),
        T("graph_y", (-1, 1)),
    ]
    options = schema.FullyConnectedOptionsT()
    operators = [Op("FULLY_CONNECTED", (0, 1, 2), (3,), options)]
    return graph(tensors, operators, (0,), (3,), ({"x": 0}, {"y": 3}) if signature else None)


def make_export(
    exports: Path, model: str, version: int = 1, *, content: bytes, spec: Spec = SPEC, names: Mapping[str, str] = NONE
) -> manifest.Manifest:
    """Write EXPORTS/MODEL/tflite/VERSION, make it current, and return its manifest."""
    folder = manifest.artifact_folder(exports, model, "tflite", version)
    with atomic.new_folder(folder) as temporary:
        (temporary / "model.tflite").write_bytes(content)
        made = write_manifest(temporary, model, "tflite", version, spec, names=names)
    atomic.write_file(exports / model / "current", str(version))
    return made


def _tensor(model: Any, tensor: T) -> Any:
    made = schema.TensorT()
    made.name, made.type = tensor.name, KINDS[tensor.dtype]
    made.shape = [abs(size) for size in tensor.shape]
    made.shapeSignature = list(tensor.shape) if -1 in tensor.shape else None
    made.buffer, made.hasRank = 0, True
    if tensor.values is not None:
        made.buffer = len(model.buffers)
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(tensor.values.tobytes(), np.uint8)
    if tensor.scale:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = [tensor.scale], [0]
    return made


def _code(name: str) -> Any:
    made = schema.OperatorCodeT()
    builtin = getattr(schema.BuiltinOperator, name, schema.BuiltinOperator.CUSTOM)
    made.builtinCode, made.deprecatedBuiltinCode, made.version = builtin, min(builtin, 127), 1
    if builtin == schema.BuiltinOperator.CUSTOM:
        made.customCode = name
    return made


def _operator(place: int, op: Op) -> Any:
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = place, list(op.inputs), list(op.outputs)
    if op.options is not None:
        made.builtinOptions = op.options
        made.builtinOptionsType = getattr(schema.BuiltinOptions, type(op.options).__name__.removesuffix("T"))
    return made


def _map(names: Names) -> list[Any]:
    found = []
    for name, place in names.items():
        made = schema.TensorMapT()
        made.name, made.tensorIndex = name, place
        found.append(made)
    return found
