"""A version folder as a Servable, computed by TensorFlow. Importing this module takes seconds."""

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.protobuf import saved_model_pb2

from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from services.tf_svc.refusal import Refusal
from services.tf_svc.servable import Array, Declared, Servable, Signature
from services.tf_svc.tensors import NUMPY
from store.manifest import ArtefactError, verify

log = logging.getLogger(__name__)

VERSION: str = tf.__version__
TAGS = {"serve"}
CODES = {code.value[0]: code for code in StatusCode} | {StatusCode.UNKNOWN.value[0]: StatusCode.INTERNAL}


def configure() -> str:
    """Set TensorFlow up for many small calls and give the device it computes on, for the log. Call it once, first.

    One thread per call: hand-offs between threads cost more than a small model's arithmetic.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    return f"{len(gpus)} GPU" if gpus else "CPU"


def load(version: int, folder: Path) -> Servable:
    """Load a version folder whose files are those of its manifest. Raises ArtefactError naming what is wrong."""
    manifest = verify(folder)
    if (manifest.format, manifest.version) != ("saved_model", version):
        raise ArtefactError(f"{folder} holds {manifest.format} version {manifest.version}; run: make export")
    try:
        definitions = _definitions(folder)
        functions = tf.saved_model.load(str(folder), tags=TAGS).signatures
        signatures = {name: _signature(functions[name], definitions.signature_def[name]) for name in functions}
    except Exception as error:  # TensorFlow raises anything, IndexError included, on files that are not its own
        raise ArtefactError(f"{folder} cannot be loaded ({type(error).__name__}); run: make export") from error
    for signature in signatures.values():
        _warm_up(signature)
    return Servable(version, signatures, definitions.SerializeToString())


def _definitions(folder: Path) -> pb.SignatureDefMap:
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = next(graph for graph in saved.meta_graphs if set(graph.meta_info_def.tags) == TAGS)
    definitions = pb.SignatureDefMap()
    for name, definition in graph.signature_def.items():
        definitions.signature_def[name].ParseFromString(definition.SerializeToString())
    return definitions


def _signature(function: Any, definition: pb.SignatureDef) -> Signature:
    """Join a signature's function with its declaration. TensorFlow flattens both sides sorted by alias."""
    inputs = tuple(_declared(alias, definition.inputs[alias]) for alias in sorted(definition.inputs))
    outputs = tuple(sorted(definition.outputs))
    captured = list(function.captured_inputs)
    feeds = [tensor.dtype.as_datatype_enum for tensor in function.inputs[: len(inputs)]]
    fetches = [tensor.dtype for tensor in function.outputs]
    kinds = [NUMPY[dtype.as_datatype_enum] for dtype in fetches]
    if feeds != [declared.data_type for declared in inputs] or len(fetches) != len(outputs):
        raise ValueError("the signature's function and its declaration differ")

    def run(arrays: Sequence[Array]) -> Sequence[Array]:
        # What calling `function` ends in, without its 150 us of binding and checking: our own checks came before.
        try:
            results = tf.raw_ops.StatefulPartitionedCall(
                args=[*map(tf.constant, arrays), *captured], Tout=fetches, f=function
            )
            return [np.asarray(tensor.numpy(), kind) for tensor, kind in zip(results, kinds, strict=True)]
        except tf.errors.OpError as error:
            log.warning("a call failed in the graph: %.500s", " ".join(error.message.split()))
            raise Refusal(CODES[error.error_code], "the graph refused the tensors") from error

    return Signature(inputs, outputs, run)


def _declared(alias: str, info: pb.TensorInfo) -> Declared:
    shape = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
    return Declared(alias, info.name, info.dtype, shape)


def _warm_up(signature: Signature) -> None:
    """Run once on one row, so that no caller waits for TensorFlow to prepare the function."""
    if any(declared.shape is None or declared.data_type not in NUMPY for declared in signature.inputs):
        return
    ones = ([1 if size < 0 else size for size in declared.shape or ()] for declared in signature.inputs)
    pairs = zip(ones, signature.inputs, strict=True)
    # A model may well refuse zeros, a parser of text for one; it is prepared all the same.
    with contextlib.suppress(Refusal):
        signature.run([_blank(shape, NUMPY[declared.data_type]) for shape, declared in pairs])


def _blank(shape: list[int], dtype: np.dtype[Any]) -> Array:
    return np.full(shape, b"", dtype) if dtype.hasobject else np.zeros(shape, dtype)
