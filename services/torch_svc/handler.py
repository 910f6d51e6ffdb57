"""The TorchServe handler: raw bytes in, one merged forward over TorchServe's batch, safetensors bytes out.

It travels inside the .mar and runs there alone: torch, numpy, safetensors and the files beside it, nothing of this
repository. Each item of a batch is answered for itself, since one exception would fail all of them.

A request maps each input's name to its little-endian bytes, and SHAPES to all their shapes as JSON; without these, the
length gives the rows where spec.json leaves nothing else open. A reply is a safetensors buffer with one tensor per
output, and in its metadata who answered: engine, engine_version, precision, version, sha256. A refused item's buffer
holds no tensors, and `error` and `reason` beside these.

The model is a program of torch.export (.pt2), a TorchScript file (.pt), or the one module class of a Python file with
safetensors weights. It is called with the inputs in the spec's order, a class by the names of its `forward` where these
are the spec's. Its results, however nested, are the outputs: a class's dict by name, all else in the spec's order.
"""

import hashlib
import importlib.util
import inspect
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

Arrays = Sequence[NDArray[Any]]
Model = Callable[..., Any]

# The Open Inference Protocol's names, as spec.json has them; bytes on the wire are little-endian.
DTYPES = MappingProxyType(
    {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "INT8": "|i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8"}
    | {"BOOL": "|b1", "UINT8": "|u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8"}
)
# The name under which the shapes travel; no tensor's name has a "#".
SHAPES = "#shapes"
# The threads of a run, where torch_svc runs the worker.
THREADS = "SERVEPATH_THREADS"
# What TorchScript calls arguments that are numbers.
NUMBERS = frozenset({"IntType", "FloatType", "BoolType", "NumberType"})
# Parameters of `forward` that take any number of arguments.
VARIABLE = frozenset({inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})
log = logging.getLogger(__name__)


class Handler:
    """One model in one TorchServe worker. TorchServe wants exactly one class in this file."""

    def initialize(self, context: Any) -> None:
        """Load the model of context.system_properties["model_dir"]. Raises when a file is missing or unusable."""
        # A worker computes one batch at a time: on all cores, as torch would, or on as many as torch_svc says.
        if "OMP_NUM_THREADS" not in os.environ and THREADS in os.environ:
            torch.set_num_threads(int(os.environ[THREADS]))
        # float32 is float32, as on the other stacks: cuDNN's convolutions take TF32 (10 bits) unless told not to.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        folder = Path(context.system_properties["model_dir"])
        described = context.manifest["model"]
        spec = json.loads((folder / "spec.json").read_text())
        self.inputs, self.outputs = spec["inputs"], spec["outputs"]
        self.row_independent = bool(spec["row_independent"])
        self.device = choose_device(context.system_properties.get("gpu_id"))
        self.model = load(folder, described, self.device)
        names = ([tensor["name"] for tensor in tensors] for tensors in (self.inputs, self.outputs))
        self.call = by_name(self.model, *names) if isinstance(self.model, torch.nn.Module) else self.model
        self.identity = {
            "engine": "torchserve",
            "engine_version": str(context.system_properties["server_version"]),
            "precision": spec.get("precision", "fp32"),
            "version": str(described["modelVersion"]),
            "sha256": digest(folder),
        }

    def handle(self, data: Sequence[Mapping[str, bytes]], context: Any) -> list[bytes]:  # noqa: ARG002 - TorchServe's
        """Answer each item of a batch with a safetensors buffer; a bad item's buffer says what is wrong with it."""
        replies: dict[int, bytes] = {}
        good: dict[int, Arrays] = {}
        for index, item in enumerate(data):
            try:
                good[index] = read_item(item, self.inputs)
            except ValueError as error:
                replies[index] = self.refusal(*error.args)
        for group in self.groups(good):
            replies |= self.answer(group)
        return [replies[index] for index in range(len(data))]

    def groups(self, items: Mapping[int, Arrays]) -> Sequence[Mapping[int, Arrays]]:
        """Return the items that may run together: of independent rows, those whose other axes are equal."""
        found: dict[Any, dict[int, Arrays]] = {}
        for index, arrays in items.items():
            key = [array.shape[1:] for array in arrays] if self.row_independent else index
            found.setdefault(str(key), {})[index] = arrays
        return list(found.values())

    def answer(self, items: Mapping[int, Arrays]) -> dict[int, bytes]:
        """Run items in one forward; when their content makes it fail, one by one, so that only those at fault fail."""
        if not items:
            return {}
        try:
            return self.forward(items)
        except (torch.AcceleratorError, torch.OutOfMemoryError):
            raise  # no item's fault: TorchServe reports it
        except Exception:  # a program's guards assert, TorchScript has errors of its own
            if len(items) > 1:
                return {
                    key: reply for index, item in items.items() for key, reply in self.answer({index: item}).items()
                }
            log.exception("the model failed on an item")
            return dict.fromkeys(items, self.refusal("the model failed on these values", "BAD_INPUT.VALUE"))

    def forward(self, items: Mapping[int, Arrays]) -> dict[int, bytes]:
        """Run all items' rows together and return each the reply with its own rows."""
        merged = [torch.from_numpy(joined(parts)).to(self.device) for parts in zip(*items.values(), strict=True)]
        with torch.inference_mode():
            results = [result.detach().cpu().numpy() for result in tensors_of(self.call(*merged))]
        if len(items) == 1:
            return {index: self.reply(results) for index in items}
        ends = np.cumsum([len(arrays[0]) for arrays in items.values()])[:-1]
        split = zip(*(np.split(result, ends) for result in results), strict=True)
        return {index: self.reply(rows) for index, rows in zip(items, split, strict=True)}

    def reply(self, rows: Arrays) -> bytes:
        """Encode one item's outputs and our identity."""
        tensors = {
            output["name"]: np.asarray(array, order="C") for output, array in zip(self.outputs, rows, strict=True)
        }
        return bytes(safetensors.numpy.save(tensors, self.identity))

    def refusal(self, error: str, reason: str) -> bytes:
        """Encode an error and our identity."""
        return bytes(safetensors.numpy.save({}, self.identity | {"error": error, "reason": reason}))


def joined(parts: Arrays) -> NDArray[Any]:
    """Return one input of all items, one below the other; a copy, since PyTorch wants memory that it may write to."""
    return np.array(parts[0]) if len(parts) == 1 else np.concatenate(parts)


def tensors_of(results: Any) -> list[torch.Tensor]:
    """Return the tensors of a model's results, in their order: one, or a mapping or sequence of results."""
    if isinstance(results, torch.Tensor):
        return [results]
    parts = results.values() if isinstance(results, Mapping) else results
    return [tensor for part in parts for tensor in tensors_of(part)]


def read_item(item: Mapping[str, bytes], inputs: Sequence[Mapping[str, Any]]) -> Arrays:
    """Decode an item's inputs to arrays in the order of the spec. Raises ValueError(text, reason)."""
    for name in item.keys() - {spec["name"] for spec in inputs} - {SHAPES}:
        raise ValueError(f"there is no input {name!r}", "BAD_INPUT.NAME")
    shapes = read_shapes(item)
    arrays = [read_array(item, spec, shapes.get(spec["name"])) for spec in inputs]
    sizes: dict[str, int] = {}
    for spec, array in zip(inputs, arrays, strict=True):
        wanted = spec["shape"]
        fits = len(wanted) == array.ndim and all(
            sizes.setdefault(axis, size) == size if isinstance(axis, str) else axis == size
            for axis, size in zip(wanted, array.shape, strict=True)
        )
        if not fits:
            text = f"input {spec['name']!r} has the shape {list(array.shape)}, expected {wanted}"
            raise ValueError(f"{text}; axes of one name have one size", "BAD_INPUT.SHAPE")
    return arrays


def read_shapes(item: Mapping[str, bytes]) -> Mapping[str, Any]:
    """Return the shapes that travel with a request, by name; none where it has none. Raises ValueError."""
    try:
        shapes = json.loads(item.get(SHAPES, b"{}"))
    except (ValueError, RecursionError, TypeError):
        shapes = None
    if not isinstance(shapes, dict):
        raise ValueError(f"{SHAPES} is not a JSON object", "BAD_INPUT.SHAPE")  # noqa: TRY004 - refused as all others
    return shapes


def read_array(item: Mapping[str, bytes], spec: Mapping[str, Any], shape: Any) -> NDArray[Any]:
    """Decode one input; without a shape, to as many rows as there are. Raises ValueError(text, reason)."""
    name, dtype = spec["name"], np.dtype(DTYPES[spec["dtype"]])
    if name not in item:
        raise ValueError(f"input {name!r} is missing", "BAD_INPUT.NAME")
    data = item[name]
    if not isinstance(data, bytes | bytearray):  # TorchServe decodes JSON bodies that come over HTTP
        raise ValueError(f"input {name!r} is not raw bytes", "BAD_INPUT.DTYPE")  # noqa: TRY004 - refused as all others
    if shape is None:
        shape = rows_shape(name, spec["shape"], len(data), dtype.itemsize)
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"the shape of input {name!r} is not a list of sizes", "BAD_INPUT.SHAPE")
    if len(data) != math.prod(shape) * dtype.itemsize:
        expected = f"expected {dtype.itemsize} bytes for each element of {shape}"
        raise ValueError(f"input {name!r} has {len(data)} bytes, {expected}", "BAD_INPUT.SHAPE")
    try:
        return np.frombuffer(data, dtype).reshape(shape)
    except (ValueError, OverflowError) as error:  # more axes than numpy has, or nothing along one that is too long
        raise ValueError(f"input {name!r} cannot have the shape that it says", "BAD_INPUT.SHAPE") from error


def rows_shape(name: str, wanted: Sequence[Any], size: int, item_bytes: int) -> list[int]:
    """Return the shape of an input that came without one. Raises ValueError where more than its rows is open."""
    rows, inner = wanted[:1], wanted[1:]
    if any(isinstance(axis, str) for axis in inner):
        raise ValueError(f"input {name!r} needs its shape: send it in {SHAPES}", "BAD_INPUT.SHAPE")
    if not rows or not isinstance(rows[0], str):
        return list(wanted)
    row_bytes = math.prod(inner) * item_bytes
    if not row_bytes or size % row_bytes:
        raise ValueError(f"input {name!r} has {size} bytes, not a multiple of {row_bytes}", "BAD_INPUT.SHAPE")
    return [size // row_bytes, *inner]


def choose_device(gpu_id: int | None) -> torch.device:
    """Return the GPU that TorchServe assigned, or the CPU where it assigned none or PyTorch cannot use it."""
    if gpu_id is not None and torch.cuda.is_available():
        return torch.device(f"cuda:{gpu_id}")
    return torch.device("cpu")


def load(folder: Path, described: Mapping[str, Any], device: torch.device) -> Model:
    """Return the model of an archive's folder on a device. Raises when a file is missing or unusable."""
    file = folder / described["serializedFile"]
    if file.suffix == ".pt2":
        return load_program(file, device)
    if file.suffix == ".pt":
        return load_script(file, device)
    model: Model = load_model(folder / described["modelFile"], file).to(device)
    return model


def load_program(file: Path, device: torch.device) -> Model:
    """Return a function of the tensors that an exported program takes, in its order."""
    program = torch.export.load(file)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass  # noqa: PLC0415 - costs a second that few models need

        program = move_to_device_pass(program, device)
    return caller(program, program.module())


def caller(program: torch.export.ExportedProgram, module: torch.nn.Module) -> Model:
    """Return a function of the tensors that a program takes, in its order, which calls the program's module."""
    form = program.call_spec.in_spec
    arguments = [each.arg for each in program.graph_signature.input_specs if each.kind.name == "USER_INPUT"]

    def call(*tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        # What was no tensor when it was exported is part of the program.
        flat = [each.value if hasattr(each, "value") else next(given) for each in arguments]
        positional, named = pytree.tree_unflatten(flat, form)
        return module(*positional, **named)

    return call


def load_script(file: Path, device: torch.device) -> Model:
    """Return a function of the arguments of a TorchScript module's `forward`, all of them tensors."""
    script = torch.jit.load(file, map_location=device).eval()
    numbers = [argument.type.kind() in NUMBERS for argument in script.forward.schema.arguments[1:]]

    def call(*tensors: torch.Tensor) -> Any:
        pairs = zip(tensors, numbers, strict=False)  # the last arguments may have defaults
        return script(*(tensor.item() if number else tensor for tensor, number in pairs))

    return call


def load_model(architecture: Path, weights: Path) -> torch.nn.Module:
    """Create the only module class of a Python file with its weights. Raises when they do not fit."""
    found = importlib.util.spec_from_file_location(architecture.stem, architecture)
    if found is None or found.loader is None:
        raise ImportError(f"{architecture} is not a Python file")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    (kind,) = (kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == architecture.stem)
    model: torch.nn.Module = kind()
    load_weights(model, weights)
    return model.eval()


def by_name(model: torch.nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> Model:
    """Return a function of the inputs in the spec's order, whose results are in that order where they have names.

    As in the other exports, `forward` gets the inputs by name or, where it takes one argument and there are several, as
    a dict; where neither fits, in the spec's order.
    """
    takes = [each for each in inspect.signature(model.forward).parameters.values() if each.kind not in VARIABLE]
    needed = {each.name for each in takes if each.default is each.empty}
    named = needed <= set(inputs) <= {each.name for each in takes if each.kind is not each.POSITIONAL_ONLY}
    as_dict = len(needed) == 1 < len(inputs)

    def call(*tensors: torch.Tensor) -> Any:
        given = dict(zip(inputs, tensors, strict=True))
        results = model(**given) if named else model(*([given] if as_dict else tensors))
        if hasattr(results, "_asdict"):
            results = results._asdict()  # a named tuple's public way
        fits = isinstance(results, Mapping) and results.keys() == set(outputs)
        return [results[name] for name in outputs] if fits else results

    return call


def load_weights(model: torch.nn.Module, file: Path) -> None:
    """Load a model's weights; of several names of one tensor, the file may have one. Raises when they do not fit."""
    found = safetensors.torch.load_file(file)
    own = model.state_dict(keep_vars=True)  # the tensors themselves: tied ones are one object
    given = {id(own[name]): values for name, values in found.items() if name in own}
    tied = {name: given[id(tensor)] for name, tensor in own.items() if id(tensor) in given}
    model.load_state_dict({**tied, **found})


def digest(folder: Path) -> str:
    """Return the sha256 of the lines `HASH  NAME` of the files at the folder's root: the artifact's identity."""
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()
