"""ONNX in a reduced precision, by ONNX Runtime's own tools."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import onnx
from onnx import TensorProto, helper

from export.importing.answers import first_line
from export.importing.errors import Refused
from export.onnx_file import FILE
from export.onnx_names import graphs

# Matrices and embeddings. Convolutions of int8 are slower than float32's on most CPUs (ONNX Runtime 1.31).
QUANTIZED = ("MatMul", "Gather")
# What tensor cores compute in TF32: products, whose operands they round to 10 bits.
MULTIPLIED = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})


def write(source: Path, folder: Path, precision: str) -> Mapping[str, str]:
    """Write FOLDER/model.onnx from SOURCE/model.onnx in a precision; return facts. Raises Refused."""
    model = onnx.load(source / FILE)
    inputs, outputs = list(model.graph.input), list(model.graph.output)
    try:
        made = WRITERS[precision](model, folder / FILE)
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"ONNX Runtime's tools cannot write it in {precision}: {first_line(error)}") from error
    for values, known in ((made.graph.input, inputs), (made.graph.output, outputs)):
        if [(each.name, each.type) for each in values] != [(each.name, each.type) for each in known]:
            raise Refused(f"in {precision} the inputs or outputs of the model would be others")
    (folder / FILE).write_bytes(made.SerializeToString(deterministic=True))
    opset = max(entry.version for entry in made.opset_import if entry.domain in {"", "ai.onnx"})
    return {"onnx_opset": str(opset), "onnx_ir": str(made.ir_version)}


def write_emulated_tf32(source: Path, folder: Path) -> None:
    """Write FOLDER/model.onnx, which answers on a CPU nearly as SOURCE/model.onnx would in TF32. Raises Refused.

    Operands of products are rounded to 10 bits by way of float16, which has as many. It has fewer exponents: what is
    beyond 65504 becomes infinite, and the gate refuses it.
    """
    model = onnx.load(source / FILE)
    found = onnx.shape_inference.infer_shapes(model)
    rounded = 0
    for graph, known in zip(graphs(model.graph), graphs(found.graph), strict=True):
        of_float32 = {each.name for each in graph.initializer if each.data_type == TensorProto.FLOAT} | {
            each.name
            for each in (*known.input, *known.value_info, *known.output)
            if each.type.tensor_type.elem_type == TensorProto.FLOAT
        }
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            for place, name in enumerate(node.input[:2] if node.op_type in MULTIPLIED else ()):
                if name in of_float32:
                    half, back = (f"{name}/tf32/{rounded}/{each}" for each in ("half", "back"))
                    nodes.append(helper.make_node("Cast", [name], [half], to=TensorProto.FLOAT16))
                    nodes.append(helper.make_node("Cast", [half], [back], to=TensorProto.FLOAT))
                    node.input[place] = back
                    rounded += 1
            nodes.append(node)
        del graph.node[:]
        graph.node.extend(nodes)
    if not rounded:
        raise Refused("it has no product of float32, which alone is computed in TF32")
    (folder / FILE).write_bytes(model.SerializeToString(deterministic=True))


def _int8(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    """Return the model with weights of 8 bits, and numbers between them rounded to 8 bits as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - only an import in a reduced precision needs it

    # Stale for the tool, which turns Gemm into MatMul and would then trust the old shapes of the weights.
    del model.graph.value_info[:]
    # 7 bits of the weights: with 8, CPUs without VNNI overflow where two products are added in 16 bits.
    quantize_dynamic(model, file, list(QUANTIZED), per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
    made = onnx.load(file)
    if not any(node.op_type in {"MatMulInteger", "DynamicQuantizeMatMul"} for node in made.graph.node):
        raise Refused("it has no product of a matrix of weights, which alone is quantized")
    return made


def _fp16(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:  # noqa: ARG001 - a writer
    """Return the model with weights of float16, inputs and outputs as they are."""
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415 - as above

    made: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True)
    if not any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in made.graph.initializer):
        raise Refused("it has no weights of float32")
    return made


def _tf32(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:  # noqa: ARG001 - a writer
    """Return the model as it is: TF32 is how the server computes float32."""
    return model


WRITERS: Mapping[str, Callable[[onnx.ModelProto, Path], onnx.ModelProto]] = MappingProxyType(
    {"fp16": _fp16, "int8": _int8, "tf32": _tf32}
)
