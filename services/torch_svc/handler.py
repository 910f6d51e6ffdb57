"""The TorchServe handler: raw bytes in, one merged forward over TorchServe's batch, safetensors bytes out.

It travels inside the .mar and runs there alone: torch, numpy, safetensors and the files beside it, nothing of this
repository. Each item of a batch is answered for itself, since one exception would fail all of them.

A request maps each input's name to its little-endian bytes; spec.json gives dtypes and shapes, the length gives the
rows. A reply is a safetensors buffer with one tensor per output, and in its metadata who answered: engine,
engine_version, version, sha256. A refused item's buffer holds no tensors, and `error` and `reason` beside these.
"""

import hashlib
import importlib.util
import inspect
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray

Arrays = Sequence[NDArray[Any]]

# The Open Inference Protocol's names, as spec.json has them; bytes on the wire are little-endian.
DTYPES = MappingProxyType(
    {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "INT8": "|i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8"}
    | {"BOOL": "|b1", "UINT8": "|u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8"}
)
log = logging.getLogger(__name__)


class Handler:
    """One model in one TorchServe worker. TorchServe wants exactly one class in this file."""

    def initialize(self, context: Any) -> None:
        """Load the model of context.system_properties["model_dir"]. Raises when a file is missing or unusable."""
        torch.set_num_threads(1)  # a thread pool costs more than it gives on one small batch at a time
        folder = Path(context.system_properties["model_dir"])
        described = context.manifest["model"]
        spec = json.loads((folder / "spec.json").read_text())
        self.inputs, self.outputs = spec["inputs"], spec["outputs"]
        self.row_independent = bool(spec["row_independent"])
        self.device = choose_device(context.system_properties.get("gpu_id"))
        self.model = load_model(folder / described["modelFile"], folder / described["serializedFile"]).to(self.device)
        self.identity = {
            "engine": "torchserve",
            "engine_version": str(context.system_properties["server_version"]),
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
        for group in [good] if self.row_independent else [{index: arrays} for index, arrays in good.items()]:
            replies |= self.answer(group)
        return [replies[index] for index in range(len(data))]

    def answer(self, items: Mapping[int, Arrays]) -> dict[int, bytes]:
        """Run items in one forward; when their content makes it fail, one by one, so that only those at fault fail."""
        if not items:
            return {}
        try:
            return self.forward(items)
        except (torch.AcceleratorError, torch.OutOfMemoryError):
            raise  # no item's fault: TorchServe reports it
        except (RuntimeError, ValueError, IndexError):
            if len(items) > 1:
                return {
                    key: reply for index, item in items.items() for key, reply in self.answer({index: item}).items()
                }
            log.exception("the model failed on an item")
            return dict.fromkeys(items, self.refusal("the model failed on these values", "BAD_INPUT.VALUE"))

    def forward(self, items: Mapping[int, Arrays]) -> dict[int, bytes]:
        """Run all items' rows together and return each the reply with its own rows."""
        merged = [
            torch.from_numpy(np.concatenate(parts)).to(self.device) for parts in zip(*items.values(), strict=True)
        ]
        with torch.inference_mode():
            results = self.model(*merged)
        ends = np.cumsum([len(arrays[0]) for arrays in items.values()])[:-1]
        results = results if isinstance(results, tuple) else (results,)
        split = zip(*(np.split(result.cpu().numpy(), ends) for result in results), strict=True)
        return {index: self.reply(rows) for index, rows in zip(items, split, strict=True)}

    def reply(self, rows: Arrays) -> bytes:
        """Encode one item's outputs and our identity."""
        tensors = {output["name"]: array for output, array in zip(self.outputs, rows, strict=True)}
        return bytes(safetensors.numpy.save(tensors, self.identity))

    def refusal(self, error: str, reason: str) -> bytes:
        """Encode an error and our identity."""
        return bytes(safetensors.numpy.save({}, self.identity | {"error": error, "reason": reason}))


def read_item(item: Mapping[str, bytes], inputs: Sequence[Mapping[str, Any]]) -> Arrays:
    """Decode an item's inputs to arrays in the order of the spec. Raises ValueError(text, reason)."""
    for name in item.keys() - {spec["name"] for spec in inputs}:
        raise ValueError(f"there is no input {name!r}", "BAD_INPUT.NAME")
    arrays = [read_array(item, spec) for spec in inputs]
    if len({len(array) for array in arrays}) > 1:
        raise ValueError("the inputs have different numbers of rows", "BAD_INPUT.SHAPE")
    return arrays


def read_array(item: Mapping[str, bytes], spec: Mapping[str, Any]) -> NDArray[Any]:
    """Decode one input to [rows, ...]. Raises ValueError(text, reason)."""
    name, dtype, inner = spec["name"], np.dtype(DTYPES[spec["dtype"]]), spec["shape"][1:]
    if name not in item:
        raise ValueError(f"input {name!r} is missing", "BAD_INPUT.NAME")
    data = item[name]
    if not isinstance(data, bytes | bytearray):  # TorchServe decodes JSON bodies that come over HTTP
        raise ValueError(f"input {name!r} is not raw bytes", "BAD_INPUT.DTYPE")  # noqa: TRY004 - refused as all others
    row_bytes = math.prod(inner) * dtype.itemsize
    if len(data) % row_bytes:
        raise ValueError(f"input {name!r} has {len(data)} bytes, not a multiple of {row_bytes}", "BAD_INPUT.SHAPE")
    return np.frombuffer(data, dtype).reshape(-1, *inner)


def choose_device(gpu_id: int | None) -> torch.device:
    """Return the GPU that TorchServe assigned, or the CPU where it assigned none or PyTorch cannot use it."""
    if gpu_id is not None and torch.cuda.is_available():
        return torch.device(f"cuda:{gpu_id}")
    return torch.device("cpu")


def load_model(architecture: Path, weights: Path) -> torch.nn.Module:
    """Create the only module class of a Python file with its weights. Raises when they do not fit."""
    found = importlib.util.spec_from_file_location(architecture.stem, architecture)
    if found is None or found.loader is None:
        raise ImportError(f"{architecture} is not a Python file")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    (kind,) = (kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == architecture.stem)
    model: torch.nn.Module = kind()
    model.load_state_dict(safetensors.torch.load_file(weights))
    return model.eval()


def digest(folder: Path) -> str:
    """Return the sha256 of the lines `HASH  NAME` of the files at the folder's root: the artifact's identity."""
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()
