"""What both ONNX exporters share: stable names, one checked file, and ONNX Runtime to try it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from export.parity import Predict
from models.reference import Arrays
from store.spec import Spec

FILE = "model.onnx"
BATCH_NAME = "batch"


def save(model: onnx.ModelProto, spec: Spec, folder: Path) -> Mapping[str, str]:
    """Write the model as one file under the spec's tensor names. Raises onnx.checker.ValidationError."""
    _rename(model.graph, dict(zip(_names(model.graph.input), (t.name for t in spec.inputs), strict=True)))
    _rename(model.graph, dict(zip(_names(model.graph.output), (t.name for t in spec.outputs), strict=True)))
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = BATCH_NAME
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    (folder / FILE).write_bytes(model.SerializeToString(deterministic=True))
    (opset,) = (entry.version for entry in model.opset_import if not entry.domain)
    return {"onnx_opset": str(opset), "onnx_ir": str(model.ir_version)}


def load(folder: Path) -> Predict:
    """Give a function that runs the file in ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / FILE, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def predict(inputs: Arrays) -> Arrays:
        return {name: np.asarray(rows) for name, rows in zip(names, session.run(names, dict(inputs)), strict=True)}

    return predict


def _names(values: Iterable[Any]) -> list[str]:
    return [value.name for value in values]


def _rename(graph: onnx.GraphProto, new: Mapping[str, str]) -> None:
    """Give tensors new names wherever the graph mentions them."""
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = new.get(value.name, value.name)


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporters note about themselves: stack traces with this machine's paths, counters."""
    graph = model.graph
    model.doc_string = graph.doc_string = ""
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
