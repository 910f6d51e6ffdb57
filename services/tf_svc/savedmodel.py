"""A version folder as a Servable, restored and run in a session of TensorFlow. Importing this module takes seconds.

As tensorflow_model_server loads it (cc/saved_model/loader.cc): a graph and a session, variables restored by the graph's
own op, warm-up records replayed. Python's other loader, tf.saved_model.load, runs SavedModels that no server can.
"""

import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from grpc import StatusCode

from servepath.cli.cores import usable_cores
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from services.tf_svc import answers
from services.tf_svc.refusal import LoadError, Refusal
from services.tf_svc.servable import Array, Declared, Servable, Signature
from services.tf_svc.tensors import NUMPY

log = logging.getLogger(__name__)

VERSION: str = tf.__version__
TAGS = ["serve"]
CODES = {code.value[0]: code for code in StatusCode} | {StatusCode.UNKNOWN.value[0]: StatusCode.INTERNAL}
# Restores tables and the like; the loader runs it, and no caller may.
INIT_SIGNATURE = "__saved_model_init_op"
WARMUP = Path("assets.extra", "tf_serving_warmup_requests")
MAX_WARMUP_RECORDS = 1000


def configure() -> str:
    """Set TensorFlow up for many small calls and return the device it computes on, for the log. Call it once, first."""
    tf.get_logger().setLevel(logging.ERROR)  # its session loader calls itself deprecated
    # float32 is float32, as on the other stacks: TensorFlow computes it in TF32 on GPUs unless told not to.
    tf.config.experimental.enable_tensor_float_32_execution(False)  # noqa: FBT003 - its API
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    return f"{len(gpus)} GPU" if gpus else "CPU"


def load(model: str, version: int, folder: Path, threads: int | None = None) -> Servable:
    """Load a version folder and replay its warm-up records. Raises LoadError with the code that the real server has.

    threads: cores that a large operation takes, all of them unless told.
    """
    # A call's own thread goes from operation to operation: hand-offs cost more than a small model's arithmetic. Large
    # operations share one pool of all cores, whoever calls (ADR 29).
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=threads or usable_cores(), inter_op_parallelism_threads=-1
    )
    config.gpu_options.allow_growth = True
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=config)
    try:
        servable = _restored(session, version, folder)
        for request in _warmup_requests(folder / WARMUP):
            answers.run(servable, request)
    except Exception as error:
        session.close()
        raise _load_error(model, folder, error) from error
    weakref.finalize(servable, session.close)
    return servable


def _restored(session: Any, version: int, folder: Path) -> Servable:
    with session.graph.as_default():
        declared = tf.compat.v1.saved_model.load(session, TAGS, str(folder)).signature_def
    definitions = pb.SignatureDefMap()
    for name, definition in declared.items():
        definitions.signature_def[name].ParseFromString(definition.SerializeToString())
    signatures = {}
    for name, definition in definitions.signature_def.items():
        if name != INIT_SIGNATURE:
            try:
                signatures[name] = _signature(session, definition)
            except (KeyError, ValueError) as error:
                log.warning("%s: signature %r is left out: tensors that are not served (%s)", folder, name, error)
    return Servable(version, signatures, definitions.SerializeToString())


def _signature(session: Any, definition: pb.SignatureDef) -> Signature:
    """Return a signature's call. Feeds and fetches are the graph's tensors that its declaration names.

    Raises KeyError for a dtype that is not served, ValueError for what is no dense tensor, such as a sparse one.
    """
    inputs = tuple(_declared(alias, definition.inputs[alias]) for alias in sorted(definition.inputs))
    outputs = tuple(sorted(definition.outputs))
    tensor = session.graph.get_tensor_by_name
    fetches = [tensor(definition.outputs[alias].name) for alias in outputs]
    call = session.make_callable(fetches, [tensor(declared.feed) for declared in inputs])
    kinds = [NUMPY[fetch.dtype.as_datatype_enum] for fetch in fetches]
    return Signature(inputs, outputs, _guarded(call, kinds))


def _guarded(call: Callable[..., Sequence[Any]], kinds: Sequence[np.dtype[Any]]) -> Callable[..., Sequence[Array]]:
    def run(arrays: Sequence[Array]) -> Sequence[Array]:
        try:
            return [np.asarray(result, kind) for result, kind in zip(call(*arrays), kinds, strict=True)]
        except tf.errors.OpError as error:
            log.warning("a call failed in the graph: %.500s", " ".join(error.message.split()))
            raise Refusal(CODES[error.error_code], "the graph rejected the tensors") from error

    return run


def _declared(alias: str, info: pb.TensorInfo) -> Declared:
    shape = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
    return Declared(alias, info.name, info.dtype, shape)


def _warmup_requests(path: Path) -> Iterator[pb.PredictRequest]:
    """Yield the requests of the warm-up records (servables/tensorflow/saved_model_warmup_util.cc). Raises LoadError."""
    if not path.exists():
        return
    for number, record in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()):
        if number == MAX_WARMUP_RECORDS:
            text = f"Number of warmup records exceeds the maximum ({MAX_WARMUP_RECORDS}) at {path}"
            raise LoadError(StatusCode.INVALID_ARGUMENT, text)
        log_record = pb.PredictionLog.FromString(record)
        if log_record.WhichOneof("log_type") != "predict_log":
            raise LoadError(StatusCode.UNIMPLEMENTED, f"{path}: this server replays records of Predict alone")
        yield log_record.predict_log.request


def _load_error(model: str, folder: Path, error: Exception) -> LoadError:
    """Return what a failed load means: the code that TensorFlow gives, where it gives one."""
    where = f"{model}: {folder} cannot be loaded"
    match error:
        case LoadError():
            return error
        case Refusal():
            return LoadError(error.code, f"{where}: its warm-up record is refused: {error.text}")
        case tf.errors.OpError():
            code = CODES[error.error_code]
            said = " ".join(error.message.split())[:500]
        case OSError() if (folder / "saved_model.pb").exists():
            code, said = StatusCode.DATA_LOSS, "saved_model.pb is not a SavedModel"
        case ValueError() if not (folder / "variables" / "variables.index").exists():
            # The real server restores nothing then, and its warm-up record ends with this code.
            code, said = StatusCode.FAILED_PRECONDITION, "variables/variables.index is missing"
        case OSError() | RuntimeError():  # no saved_model.pb; no graph for our tags
            code, said = StatusCode.NOT_FOUND, str(error).partition("\n")[0][:500]
        case _:
            code, said = StatusCode.INTERNAL, type(error).__name__
    return LoadError(code, f"{where} ({said}); run: make export NEW_VERSION=1")
