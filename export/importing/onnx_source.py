"""An ONNX file that nobody here made: read with care, tried in ONNX Runtime, written as the one file that is served."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from export.importing.draw import Arrays
from export.importing.errors import Refused
from export.importing.hints import Hints
from export.importing.prove import Declared, Proof, Run, first_line, prove
from export.onnx_file import FILE
from export.onnx_names import free_name, graphs, own_outputs, rename
from servepath.artifacts.spec import Spec, TensorSpec

MAX_BYTES = 2**31 - 1  # one protobuf message
# What every ONNX Runtime has operators for; others come as libraries, which nobody here loads.
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"})
# FLOAT8, INT4, BF16, complex and the like are missing: numpy has no such types.
TYPES: Mapping[str, str] = MappingProxyType(
    {"tensor(bool)": "BOOL", "tensor(float16)": "FP16", "tensor(float)": "FP32", "tensor(double)": "FP64"}
    | {f"tensor({sign}int{bits})": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
# The newest that ONNX Runtime 1.31 reads; onnx 1.23 writes 14.
MAX_IR = 13
# Of initializers: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
KEYS = frozenset({"location", "offset", "length", "checksum"})


def import_onnx(path: Path, folder: Path, hints: Hints, samples: Sequence[Arrays] = ()) -> tuple[Proof, dict[str, str]]:
    """Write FOLDER/model.onnx under public names; return what the model is and facts for the manifest.

    Raises Refused with the one reason why the model cannot be served.
    """
    model = read(path)
    notes = _lower(model)
    public = _public_names(model.graph, hints)
    rename(model.graph, {old: new for old, new in public.items() if old != new})
    # The reference is the graph as it was written; what is served is what the runtime makes of it.
    plain = _session(model.SerializeToString(), onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    proof = prove(_declared(plain), _run(plain), hints, samples)
    proof = replace(proof, notes=(*notes, *proof.notes))
    _declare(model.graph, proof.spec)
    (folder / FILE).write_bytes(model.SerializeToString(deterministic=True))
    opset = max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0)
    return proof, {"onnx_opset": str(opset), "onnx_ir": str(model.ir_version)}


def load(folder: Path) -> Run:
    """Return a function that runs the written file as onnx_svc does."""
    return _run(_session(str(folder / FILE), onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL))


def read(path: Path) -> onnx.ModelProto:
    """Return the model, its weights inside. Nothing outside the file's folder is read."""
    if path.stat().st_size > MAX_BYTES:
        raise Refused(f"{path.name} is larger than 2 GiB, which no ONNX file of one piece can be")
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except DecodeError:
        raise Refused(f"{path.name} is not an ONNX file, or is cut off") from None
    if not model.graph.output or not model.ir_version:
        raise Refused(f"{path.name} is not an ONNX file: it has no graph with outputs")
    for entry in model.opset_import:
        if entry.domain not in DOMAINS:
            raise Refused(f"operators of the domain {entry.domain!r} are custom ones, which no server here loads")
    _check_names(model.graph)
    budget = MAX_BYTES
    for tensor in _weights(model):
        budget -= _check_size(tensor, budget)
        _read_external(tensor, path.parent)
    return model


def _check_names(graph: onnx.GraphProto) -> None:
    for what, values in (("inputs", graph.input), ("outputs", graph.output), ("weights", graph.initializer)):
        names = [value.name for value in values]
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice and what != "outputs":  # one tensor may be two outputs, which _public_names parts
            raise Refused(f"two of the {what} are called {twice[0]!r}")
        if not all(names):
            raise Refused(f"one of the {what} has no name")


def _weights(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every stored tensor: initializers and constants, in every graph and function."""
    nodes = [node for graph in graphs(model.graph) for node in graph.node]
    nodes += [node for function in model.functions for node in function.node]
    for graph in graphs(model.graph):
        yield from graph.initializer
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_size(tensor: onnx.TensorProto, budget: int) -> int:
    """Return the bytes of a stored tensor. Raises Refused when they are absurd or not there."""
    if any(size < 0 for size in tensor.dims):
        raise Refused(f"the weights {tensor.name!r} have the shape {list(tensor.dims)}")
    elements = prod(tensor.dims)
    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError):
        raise Refused(f"the weights {tensor.name!r} are of an unknown type, {tensor.data_type}") from None
    size = elements * (1 if kind.hasobject else kind.itemsize)
    if size > budget:
        raise Refused(f"the weights {tensor.name!r} have {elements} elements: more than 2 GiB with those before them")
    stored = tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.HasField("raw_data")
    if elements and not stored and not any(field.name.endswith("_data") for field, _ in tensor.ListFields()):
        raise Refused(f"the weights {tensor.name!r} have {elements} elements and no data")
    return int(size)


def _read_external(tensor: onnx.TensorProto, folder: Path) -> None:
    """Put weights that lie in a file beside the model into the model."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    said = {entry.key: entry.value for entry in tensor.external_data}
    location, what = said.get("location", ""), f"the weights {tensor.name!r}"
    if said.keys() - KEYS or not location:
        raise Refused(f"{what} are in another file, and it is not said which")
    root = folder.resolve()
    file = root / location
    if Path(location).is_absolute() or not file.resolve().is_relative_to(root) or file.is_symlink():
        raise Refused(f"{what} are outside the model's folder, or behind a link")
    if not file.is_file():
        raise Refused(f"{what} are missing: there is no {location} beside the model")
    wanted = prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    try:
        offset, length = int(said.get("offset") or 0), int(said.get("length") or wanted)
    except ValueError:
        raise Refused(f"{what} have an offset or a length in {location} that is no number") from None
    if length != wanted or offset < 0 or offset + length > file.stat().st_size:
        raise Refused(f"{what} have {wanted} bytes, and {location} does not hold them where the model says")
    with file.open("rb") as opened:
        opened.seek(offset)
        tensor.raw_data = opened.read(length)
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.DEFAULT


def _lower(model: onnx.ModelProto) -> Sequence[str]:
    """Lower the file's IR version to one that the runtime reads, and return a note; what it computes is the opset's."""
    if model.ir_version <= MAX_IR:
        return ()
    note = f"the file's IR version {model.ir_version} is newer than ONNX Runtime reads: written as {MAX_IR}"
    model.ir_version = MAX_IR
    return (note,)


def _public_names(graph: onnx.GraphProto, hints: Hints) -> Mapping[str, str]:
    """Return the public name of each input and output, by the file's."""
    own_outputs(graph)
    weights = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in weights]
    names += [value.name for value in graph.output]
    if unknown := sorted(hints.names.keys() - set(names)):
        raise Refused(f"the spec names {unknown[0]!r}; the model has {', '.join(names)}")
    public: dict[str, str] = {}
    for name in names:
        wanted = hints.names.get(name, "".join(c if c.isprintable() and c != "#" else "_" for c in name))
        public[name] = free_name(wanted, public.values()) if wanted in public.values() else wanted
    return public


def _session(model: bytes | str, level: Any) -> Any:
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = level
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Refused(f"ONNX Runtime {onnxruntime.__version__} cannot load it: {first_line(error)}") from error


def _declared(session: Any) -> Sequence[Declared]:
    """Return the inputs. Raises Refused for an input or output of a type that is not served."""
    for what, nodes in (("input", session.get_inputs()), ("output", session.get_outputs())):
        for node in nodes:
            if not node.type.startswith("tensor("):
                raise Refused(f"{what} {node.name!r} is no tensor but a {node.type}; a call carries tensors alone")
            if node.type not in TYPES:
                raise Refused(f"{what} {node.name!r} is a {node.type}, which import cannot draw or compare")
    return [
        Declared(
            node.name, TYPES[node.type], tuple(axis if isinstance(axis, int | str) else None for axis in node.shape)
        )
        for node in session.get_inputs()
    ]


def _run(session: Any) -> Run:
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, map(np.asarray, session.run(names, dict(inputs))), strict=True))

    return run


def _declare(graph: onnx.GraphProto, spec: Spec) -> None:
    """Write into the file what was found: the axes of its inputs and outputs."""
    weights = {tensor.name for tensor in graph.initializer}
    for values, tensors in ((graph.input, spec.inputs), (graph.output, spec.outputs)):
        found = {value.name: value for value in values if value.name not in weights}
        for tensor in tensors:
            _declare_axes(found[tensor.name], tensor)


def _declare_axes(value: onnx.ValueInfoProto, tensor: TensorSpec) -> None:
    shape = value.type.tensor_type.shape
    shape.SetInParent()
    del shape.dim[:]
    for axis in tensor.shape:
        if isinstance(axis, str):
            shape.dim.add().dim_param = axis
        else:
            shape.dim.add().dim_value = axis
