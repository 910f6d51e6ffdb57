"""What both ONNX exporters share: stable names, one checked file, and ONNX Runtime to try it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime

from export.by_name import match
from export.errors import ExportError
from export.onnx_names import graphs, own_outputs, rename
from export.parity import Predict
from models.registry import Arrays
from servepath.artifacts.spec import BATCH, Spec, TensorSpec

FILE = "model.onnx"
BATCH_NAME = "batch"


class Names(NamedTuple):
    """What a graph's inputs and outputs are called by the framework's model, in the graph's order."""

    inputs: Sequence[str]
    outputs: Sequence[str]


def save(model: onnx.ModelProto, spec: Spec, names: Names, folder: Path) -> Mapping[str, str]:
    """Write the model as one file under the spec's tensor names, in the spec's order.

    Raises ExportError when `names` are not the spec's, onnx.checker.ValidationError.
    """
    graph = model.graph
    own_outputs(graph)
    new: dict[str, str] = {}
    for what, values, called, tensors in (
        ("inputs", graph.input, names.inputs, spec.inputs),
        ("outputs", graph.output, names.outputs, spec.outputs),
    ):
        found = match(what, list(zip(called, values, strict=True)), tensors)
        new |= {value.name: name for name, value in found.items()}
        for tensor in tensors:
            _free_batch_axis(found[tensor.name], tensor)
        _replace(values, list(found.values()))
    rename(graph, {old: name for old, name in new.items() if old != name})
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    (folder / FILE).write_bytes(model.SerializeToString(deterministic=True))
    (opset,) = (entry.version for entry in model.opset_import if not entry.domain)
    return {"onnx_opset": str(opset), "onnx_ir": str(model.ir_version)}


def load(folder: Path) -> Predict:
    """Return a function that runs the file in ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return predictor(onnxruntime.InferenceSession(folder / FILE, options, providers=["CPUExecutionProvider"]))


def predictor(session: Any) -> Predict:
    """Return a function that runs a session of ONNX Runtime's: inputs and outputs by name."""
    names = [output.name for output in session.get_outputs()]

    def predict(inputs: Arrays) -> Arrays:
        return {name: np.asarray(rows) for name, rows in zip(names, session.run(names, dict(inputs)), strict=True)}

    return predict


def _free_batch_axis(value: onnx.ValueInfoProto, tensor: TensorSpec) -> None:
    """Name the first axis of a tensor that has a batch axis; leave a scalar, or a tensor that is one for all rows."""
    shape = value.type.tensor_type.shape
    if tensor.shape[:1] != (BATCH,):
        return
    if not shape.dim:
        raise ExportError(f"{tensor.name} has no axis in the ONNX file, its spec says {list(tensor.sizes)}")
    shape.dim[0].dim_param = BATCH_NAME


def _replace(values: Any, ordered: Sequence[onnx.ValueInfoProto]) -> None:
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in ordered]
    del values[:]
    values.extend(copies)


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporters note about themselves: stack traces with this machine's paths, counters."""
    model.doc_string = ""
    model.ClearField("metadata_props")
    for graph in graphs(model.graph):
        graph.doc_string = ""
        for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            part.ClearField("metadata_props")
