"""ONNX Runtime as an Engine.

A run that is alone computes on all cores, one that is not on one: two runs of one thread each answer more rows than two
of two threads, which wait for one another (ADR 29). So there are two sessions, and they share their weights.

Which provider computes is asked of the session: onnxruntime.get_available_providers() lists what was compiled in, and a
session that cannot have CUDA falls back to the CPU without an error.
"""

import contextlib
import ctypes
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from servepath.artifacts.manifest import AGAIN
from servepath.artifacts.spec import OPEN, TensorSpec
from servepath.cli.cores import usable_cores
from servepath.protocols.arrays import DTYPES, NAMES, Array, to_array
from servepath.protocols.errors import BadInput
from servepath.protocols.stacks import STACKS
from servepath.protocols.tensors import pack
from servepath.protocols.types import Tensor
from services.dataplane.engine import REJECTED, EngineError, RunError
from services.oip_server.alone import Alone

log = logging.getLogger(__name__)

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# float32 is float32: CUDA's provider computes it in TF32 (10 bits) unless told not to, which PyTorch does not. Its
# default search for convolutions tries all algorithms at every new batch size, 30 to 80 ms each; the heuristic 8 to 11
# (one H200, ONNX Runtime 1.31.1, 2026-11-28).
CUDA_OPTIONS = MappingProxyType({"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})
# The folder of what is to be computed in TF32, MODEL/FORMAT/VERSION/model.onnx: the file is that of float32.
TF32 = STACKS["onnx"].in_precision("tf32").artifact_format
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
# The weights of larger models are shared by two sessions by way of a file; of smaller ones a second copy costs less.
SHARED_BYTES = 16 * 2**20
# How many times as large as the model that file may be: what is packed counts twice, float16 is unfolded first.
ROOM = 4
NO_CUDA = (
    "--device cuda: ONNX Runtime cannot use CUDA here (above it says what it misses); install NVIDIA's driver, "
    "onnxruntime-gpu[cuda,cudnn] and nvidia-cublas, or take --device auto"
)


class OrtEngine:
    """One ONNX file, in a session of one core and one of all.

    Thread-safe; ONNX Runtime releases the interpreter lock while it computes.
    """

    name = "onnxruntime"

    def __init__(self, file: Path, device: str, threads: int | None = None) -> None:
        """Load `file` on "cpu", "cuda" or "auto" (CUDA when it works). Raises EngineError.

        threads: cores that every run on a CPU takes, in place of one or all.
        """
        self._wide = None
        provider, tf32 = CPU, file.parent.parent.name == TF32
        if device == "cuda" or (device == "auto" and _has_driver()):
            onnxruntime.preload_dlls()
            self._narrow = _session(file, _options(1), [(CUDA, {**CUDA_OPTIONS, "use_tf32": str(int(tf32))}), CPU])
            (provider, *_) = self._narrow.get_providers()
            if device == "cuda" and provider != CUDA:
                raise EngineError(NO_CUDA)
        if provider != CUDA:
            if tf32:
                raise EngineError(f"{file}: NVIDIA's GPUs alone compute in TF32, and this service is on a CPU")
            self._narrow, self._wide = (
                (_session(file, _options(threads)), None) if threads else _cpu_sessions(file, usable_cores())
            )
        self.slow_first_runs = provider == CUDA
        self._alone = Alone()
        self.version = f"{onnxruntime.__version__} ({provider})"
        self._file = file
        self._largest = 0
        self._small_runs = 0
        self._untried = self._wide is not None

    def declared(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Return the session's inputs and outputs. Raises EngineError for a type that we do not serve."""
        inputs, outputs = self._narrow.get_inputs(), self._narrow.get_outputs()
        return tuple(map(self._spec, inputs)), tuple(map(self._spec, outputs))

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """Compute. Raises BadInput when ONNX Runtime calls an argument invalid, RunError when it fails otherwise."""
        feed = {tensor.name: _to_array(tensor) for tensor in inputs}
        try:
            if self._untried:
                # The probe has to be answered by both. And an arena never lets go of what its first run took.
                self._untried = False
                self._narrow.run(outputs, feed)
            with self._alone as alone:
                session = (self._wide if alone else None) or self._narrow
                arrays = session.run(outputs, feed)
            if self._holds_too_much(sum(len(tensor.data) for tensor in inputs)):
                # Each session has an arena of its own, and one lets go at the end of a run alone.
                for each in filter(None, (self._narrow, self._wide)):
                    each.run(outputs, feed, SHRINK)
        except InvalidArgument as error:
            raise BadInput(REJECTED, "CONTENT") from error
        except (Fail, RuntimeException) as error:
            raise RunError(str(error)) from error
        return tuple(map(_to_tensor, outputs, arrays))

    def _holds_too_much(self, size: int) -> bool:
        """Return whether the arenas should let go after a run of `size` bytes. Threads may count one twice: no harm."""
        if size * SMALLER >= self._largest:
            self._largest, self._small_runs = max(size, self._largest), 0
            return False
        self._small_runs += 1
        if self._small_runs < SMALL_RUNS:
            return False
        self._largest = self._small_runs = 0
        return True

    def _spec(self, node: Any) -> TensorSpec:
        if node.type not in TYPES:
            raise EngineError(f"{self._file}: {node.name!r} is a {node.type}, which this server does not support")
        return TensorSpec(
            node.name, TYPES[node.type], tuple(size if isinstance(size, int) else OPEN for size in node.shape)
        )


def _cpu_sessions(file: Path, cores: int) -> tuple[Any, Any]:
    """Return the session of one core and, where there are more, that of all, or None. Raises EngineError."""
    if cores == 1:
        return _session(file, _options(1)), None
    if (size := file.stat().st_size) < SHARED_BYTES:
        return _session(file, _options(1)), _session(file, _options(cores))
    try:
        with tempfile.TemporaryDirectory(prefix="servepath-weights-", ignore_cleanup_errors=True) as folder:
            if shutil.disk_usage(folder).free > ROOM * size:
                shared = _with_shared_weights(file, Path(folder))
                _give_memory_back()
                return _session(shared, _options(1)), _session(shared, _options(cores))
            why = f"{folder} has no room for {ROOM * size // 2**20} MB"
    except (EngineError, OSError) as error:
        why = str(error)
    log.warning(
        "%s: calls that are alone take one core, too: the weights cannot be shared by two sessions (%s); set TMPDIR to "
        "a folder with room",
        *(file, why),
    )
    return _session(file, _options(1)), None


def _with_shared_weights(file: Path, folder: Path) -> Path:
    """Write the optimized model, its weights packed, and return its file. Sessions map it: the folder may go then.

    Of 264 MB of weights two sessions take 273 MB of memory this way, pages that both map counted once, and one session
    of its own 284 MB (ONNX Runtime 1.31.1, 2026-11-29). Raises EngineError.
    """
    options, path = _options(1), folder / "model.onnx"
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3  # it warns that the file is for this machine alone, as it is meant to be
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    _session(file, options)
    return path


def _give_memory_back() -> None:
    """Return freed memory to the system: glibc keeps what the session that packed weights took, twice their size."""
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Threads that wait for more work after a run would take the cores of other runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _session(file: Path, options: Any, providers: Sequence[Any] = (CPU,)) -> Any:
    onnxruntime.disable_telemetry_events()  # a server reports to nobody but its users
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=list(providers))
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
