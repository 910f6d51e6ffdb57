"""ONNX Runtime as an Engine.

Which provider computes is asked of the session: onnxruntime.get_available_providers() lists what was compiled in, and a
session that cannot have CUDA falls back to the CPU without an error.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from servepath.artifacts.manifest import AGAIN
from servepath.artifacts.spec import OPEN, TensorSpec
from servepath.protocols.arrays import DTYPES, NAMES, Array, to_array
from servepath.protocols.errors import BadInput
from servepath.protocols.tensors import pack
from servepath.protocols.types import Tensor
from services.dataplane.engine import REJECTED, EngineError, RunError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# float32 is float32: CUDA's provider computes it in TF32 (10 bits) unless told not to, which PyTorch does not. Its
# default search for convolutions tries all algorithms at every new batch size, 30 to 80 ms each; the heuristic 8 to 11
# (one H200, ONNX Runtime 1.31.1, 2026-11-28).
CUDA_OPTIONS = MappingProxyType({"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})
# BF16 is missing: numpy has no such type.
TYPES = MappingProxyType(
    {"tensor(bool)": "BOOL", "tensor(float16)": "FP16", "tensor(float)": "FP32", "tensor(double)": "FP64"}
    | {f"tensor({sign}int{bits})": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
    | {"tensor(string)": "BYTES"}
)
# A run with this lets go of the memory that the arena holds and does not use: after one request of 64 texts a sentence
# encoder of 90 MB kept 1.2 GB, for good (ONNX Runtime 1.31).
SHRINK = onnxruntime.RunOptions()
SHRINK.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
# It comes after so many runs in a row that were smaller than the largest one before by this factor.
SMALL_RUNS, SMALLER = 64, 4
NO_CUDA = (
    "--device cuda: ONNX Runtime cannot use CUDA here (above it says what it misses); install NVIDIA's driver, "
    "onnxruntime-gpu[cuda,cudnn] and nvidia-cublas, or take --device auto"
)


class OrtEngine:
    """One ONNX file in one session. Thread-safe; ONNX Runtime releases the interpreter lock while it computes."""

    name = "onnxruntime"
    precision = "fp32"

    def __init__(self, file: Path, device: str) -> None:
        """Load `file` on "cpu", "cuda" or "auto" (CUDA when it works). Raises EngineError."""
        self._session = _session(file, device)
        (provider, *_) = self._session.get_providers()
        if device == "cuda" and provider != CUDA:
            raise EngineError(NO_CUDA)
        self.version = f"{onnxruntime.__version__} ({provider})"
        self._file = file
        self._largest = 0
        self._small_runs = 0

    def declared(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Return the session's inputs and outputs. Raises EngineError for a type that we do not serve."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        return tuple(map(self._spec, inputs)), tuple(map(self._spec, outputs))

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """Compute. Raises BadInput when ONNX Runtime calls an argument invalid, RunError when it fails otherwise."""
        feed = {tensor.name: _to_array(tensor) for tensor in inputs}
        try:
            arrays = self._session.run(outputs, feed, self._options(sum(len(tensor.data) for tensor in inputs)))
        except InvalidArgument as error:
            raise BadInput(REJECTED, "CONTENT") from error
        except (Fail, RuntimeException) as error:
            raise RunError(str(error)) from error
        return tuple(map(_to_tensor, outputs, arrays))

    def _options(self, size: int) -> Any:
        """Return the options of a run of `size` bytes of input. Threads may count a run twice, which does no harm."""
        if size * SMALLER >= self._largest:
            self._largest, self._small_runs = max(size, self._largest), 0
            return None
        self._small_runs += 1
        if self._small_runs < SMALL_RUNS:
            return None
        self._largest = self._small_runs = 0
        return SHRINK

    def _spec(self, node: Any) -> TensorSpec:
        if node.type not in TYPES:
            raise EngineError(f"{self._file}: {node.name!r} is a {node.type}, which this server does not support")
        return TensorSpec(
            node.name, TYPES[node.type], tuple(size if isinstance(size, int) else OPEN for size in node.shape)
        )


def _session(file: Path, device: str) -> Any:
    onnxruntime.disable_telemetry_events()  # a server reports to nobody but its users
    options = onnxruntime.SessionOptions()
    # Calls run side by side on our own threads; a second level of threads would only fight for the same cores.
    options.intra_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    providers: list[Any] = [CPU]
    if device == "cuda" or (device == "auto" and _has_driver()):
        onnxruntime.preload_dlls()
        providers = [(CUDA, dict(CUDA_OPTIONS)), CPU]
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:
        reason = str(error).splitlines()[0][:300]
        raise EngineError(f"{file}: ONNX Runtime cannot load it ({reason}); {AGAIN}") from error


def _has_driver() -> bool:
    """Return whether this machine has NVIDIA's driver; without one, trying CUDA only fills the log."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _to_array(tensor: Tensor) -> Array:
    if tensor.dtype != "BYTES":
        return np.frombuffer(tensor.data, DTYPES[tensor.dtype]).reshape(tensor.shape)
    try:
        text: Array = np.vectorize(bytes.decode, otypes=[object])(to_array(tensor))
    except UnicodeDecodeError:
        raise BadInput(f"input {tensor.name!r}: an element is not UTF-8 text", "CONTENT") from None
    return text


def _to_tensor(name: str, array: Array) -> Tensor:
    if array.dtype != object:
        return Tensor(name, NAMES[array.dtype], array.shape, array.tobytes())
    return Tensor(name, "BYTES", array.shape, pack(name, "BYTES", [str(element).encode() for element in array.flat]))
