"""An ONNX file that nobody here made: read with care, tried in ONNX Runtime, written as the one file that is served."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from export.importing.axes import Axes
from export.importing.draw import Arrays
from export.importing.errors import TAKEN, Refused
from export.importing.hints import Hints, printable
from export.importing.onnx_weights import MAX_BYTES, read_weights
from export.importing.prove import Declared, Proof, Run, first_line, prove
from export.onnx_file import FILE, predictor
from export.onnx_names import free_name, own_outputs, rename
from servepath.artifacts.spec import Spec, TensorSpec

# What every ONNX Runtime has operators for; others come as libraries, which nobody here loads.
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"})
# FLOAT8, INT4, BF16, complex and the like are missing: numpy has no such types.
TYPES: Mapping[str, str] = MappingProxyType(
    {"tensor(bool)": "BOOL", "tensor(float16)": "FP16", "tensor(float)": "FP32", "tensor(double)": "FP64"}
    | {f"tensor({sign}int{bits})": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
# The newest that ONNX Runtime 1.31 reads; onnx 1.23 writes 14.
MAX_IR = 13


def import_onnx(path: Path, folder: Path, hints: Hints, samples: Sequence[Arrays] = ()) -> tuple[Proof, dict[str, str]]:
    """Write FOLDER/model.onnx under public names; return what the model is and facts for the manifest.

    Raises Refused with the one reason why the model cannot be served.
    """
    model = read(path)
    note = _lower(model)
    public = _public_names(model.graph, hints)
    rename(model.graph, {old: new for old, new in public.items() if old != new})
    _clean_axes(model.graph)
    # The reference is the graph as it was written; what is served is what the runtime makes of it.
    plain = _session(model.SerializeToString(), onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    outputs = {node.name: _axes(node) for node in plain.get_outputs()}
    weights = [(onnx.TensorProto.DataType.Name(t.data_type), prod(t.dims)) for t in model.graph.initializer]
    proof = prove(_declared(plain), predictor(plain), hints, samples, outputs, weights=weights)
    if note:
        proof = replace(proof, notes=(note, *proof.notes))
    declare(model.graph, proof.spec)
    (folder / FILE).write_bytes(model.SerializeToString(deterministic=True))
    opset = max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0)
    return proof, {"onnx_opset": str(opset), "onnx_ir": str(model.ir_version)}


def load(folder: Path) -> Run:
    """Return a function that runs the written file as onnx_svc does. Raises Refused when it does not load."""
    return predictor(_session(str(folder / FILE), onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL))


def read(path: Path) -> onnx.ModelProto:
    """Return the model, its weights inside. Nothing outside the file's folder is read."""
    if path.stat().st_size > MAX_BYTES:
        raise Refused(f"{path.name} is larger than 2 GiB, which no ONNX file of one piece can be")
    taken = "" if path.suffix == ".onnx" else f"; import takes {TAKEN}"  # any file of an unknown kind comes here
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except DecodeError:
        raise Refused(f"{path.name} is not an ONNX file, or is cut off{taken}") from None
    if not model.graph.output or not model.ir_version:
        raise Refused(f"{path.name} is not an ONNX file: it has no graph with outputs{taken}")
    _check_domains(model)
    _check_names(model.graph)
    read_weights(model, path.parent)
    return model


def _check_domains(model: onnx.ModelProto) -> None:
    """Raise Refused for operators that neither the runtime nor the file itself defines."""
    known = DOMAINS | {function.domain for function in model.functions}
    for part in (model, *model.functions):
        for entry in part.opset_import:
            if entry.domain not in known:
                raise Refused(f"operators of the domain {entry.domain!r} are custom ones, which no server here loads")


def _check_names(graph: onnx.GraphProto) -> None:
    for what, names in (
        ("inputs", [value.name for value in graph.input]),
        ("outputs", [value.name for value in graph.output]),
        ("weights", _weight_names(graph)),
    ):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice and what != "outputs":  # one tensor may be two outputs, which _public_names parts
            raise Refused(f"two of the {what} are called {twice[0]!r}")
        if not all(names):
            raise Refused(f"one of the {what} has no name")


def _weight_names(graph: onnx.GraphProto) -> list[str]:
    return [tensor.name for tensor in graph.initializer] + [each.values.name for each in graph.sparse_initializer]


def _lower(model: onnx.ModelProto) -> str:
    """Lower the file's IR version to one that the runtime reads; return a note, "" where it was one already.

    What the model computes is said by its opset.
    """
    if model.ir_version <= MAX_IR:
        return ""
    note = f"the file's IR version {model.ir_version} is newer than ONNX Runtime reads: written as {MAX_IR}"
    model.ir_version = MAX_IR
    return note


def _public_names(graph: onnx.GraphProto, hints: Hints) -> Mapping[str, str]:
    """Return the public name of each input and output, by the file's. Raises Refused for a wrong [names]."""
    own_outputs(graph)
    names = [value.name for value in (*_inputs(graph), *graph.output)]
    if unknown := sorted(hints.names.keys() - set(names)):
        raise Refused(f"the spec names {unknown[0]!r}; the model has {', '.join(map(repr, names))}")
    wanted = Counter(hints.names.get(name, printable(name)) for name in names)
    for name, said in hints.names.items():
        if wanted[said] > 1:
            raise Refused(f"the spec names {name!r} {said!r}, which another tensor of the model is called")
    return dict(hints.names) | _apart([name for name in names if name not in hints.names], hints.names.values())


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return what a caller gives: older files list their weights among the inputs."""
    weights = set(_weight_names(graph))
    return [value for value in graph.input if value.name not in weights]


def _apart(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return for each name a printable one without '#' that no other has."""
    found: dict[str, str] = {}
    used = set(taken)
    for name in dict.fromkeys(names):
        wanted = printable(name)
        found[name] = free_name(wanted, used) if wanted in used else wanted
        used.add(found[name])
    return found


def _clean_axes(graph: onnx.GraphProto) -> None:
    """Make the inputs' declared axes such as a spec has: names that print, no size of 0.

    Raises Refused for an input that declares none: ONNX Runtime would take it for a scalar.
    """
    tensors = [(value.name, value.type.tensor_type) for value in _inputs(graph) if value.type.HasField("tensor_type")]
    for name, declared in tensors:
        if not declared.HasField("shape"):
            raise Refused(f"input {name!r} declares no number of axes")
    dims = [dim for _, declared in tensors for dim in declared.shape.dim]
    names = _apart(dim.dim_param for dim in dims if dim.dim_param)
    for dim in dims:
        if dim.dim_param:
            dim.dim_param = names[dim.dim_param]
        elif dim.dim_value <= 0:
            dim.ClearField("dim_value")


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
    return [Declared(node.name, TYPES[node.type], _axes(node)) for node in session.get_inputs()]


def _axes(node: Any) -> Axes:
    return tuple(axis if isinstance(axis, int | str) else None for axis in node.shape)


def declare(graph: onnx.GraphProto, spec: Spec) -> None:
    """Write into the file what was found: the axes of its inputs and outputs."""
    for values, tensors in ((_inputs(graph), spec.inputs), (graph.output, spec.outputs)):
        found = {value.name: value for value in values}
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
