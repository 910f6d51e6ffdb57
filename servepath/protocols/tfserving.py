"""TensorFlow Serving's PredictionService/Predict: our types to its bytes and back, and its refusals to our errors.

Requests carry `tensor_content`; replies are read in both forms that the server has: typed values (its default) and
`tensor_content` (--enable_serialization_as_tensor_content). The reply names only the model and its version.
"""

from collections.abc import Sequence
from math import prod
from types import MappingProxyType
from typing import Any, NoReturn

from google.protobuf.message import DecodeError
from grpc import StatusCode

from servepath.protocols import error_mapping, errors, tensors
from servepath.protocols.signature import MAX_ELEMENTS, MAX_RANK
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb

SERVICE = "tensorflow.serving.PredictionService"
METHOD = f"/{SERVICE}/Predict"
METADATA_METHOD = f"/{SERVICE}/GetModelMetadata"
MODEL_SERVICE = "tensorflow.serving.ModelService"
STATUS_METHOD = f"/{MODEL_SERVICE}/GetModelStatus"
MAX_VERSION = 2**63 - 1
# Elements that one value of a reply may stand for.
MAX_REPEATED = 2**24

# tensorflow/core/framework/types.proto
DATA_TYPES = MappingProxyType(
    {"FP32": 1, "FP64": 2, "INT32": 3, "UINT8": 4, "INT16": 5, "INT8": 6, "BYTES": 7, "INT64": 9, "BOOL": 10}
    | {"BF16": 14, "UINT16": 17, "FP16": 19, "UINT32": 22, "UINT64": 23},
)
DTYPES = MappingProxyType({number: dtype for dtype, number in DATA_TYPES.items()})
# tensorflow/core/framework/tensor.proto: the field that holds a dtype's typed values.
FIELDS = MappingProxyType(
    dict.fromkeys(("INT8", "INT16", "INT32", "UINT8", "UINT16"), "int_val")
    | {"FP32": "float_val", "FP64": "double_val", "INT64": "int64_val", "BOOL": "bool_val", "BYTES": "string_val"}
    | {"FP16": "half_val", "BF16": "half_val", "UINT32": "uint32_val", "UINT64": "uint64_val"},
)
# half_val holds the bits of its elements.
_PACKED_AS = MappingProxyType({"FP16": "UINT16", "BF16": "UINT16"})


# Where the code alone says too little: a fragment of the server's text decides, the first that fits.
ERROR_BY_TEXT: error_mapping.ByText = (
    (StatusCode.INVALID_ARGUMENT, "ModelSpec", error_mapping.misconfigured),
    (StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label", error_mapping.misconfigured),
    (StatusCode.INVALID_ARGUMENT, "input size does not match signature", error_mapping.bad("INPUTS")),
    (StatusCode.INVALID_ARGUMENT, "Signature input alias", error_mapping.bad("INPUTS")),
    (StatusCode.INVALID_ARGUMENT, "Inputs contains invalid name", error_mapping.bad("INPUTS")),
    (StatusCode.INVALID_ARGUMENT, "output tensor alias", error_mapping.bad("OUTPUTS")),
    (StatusCode.INVALID_ARGUMENT, "tensor parsing error", error_mapping.bad("BYTES")),
    (StatusCode.INVALID_ARGUMENT, "Expects arg[", error_mapping.bad("DTYPE")),
    (StatusCode.INVALID_ARGUMENT, "larger than maximum input batch size", error_mapping.bad("SHAPE")),
    (StatusCode.INVALID_ARGUMENT, "at least one dimension", error_mapping.bad("SHAPE")),
    (StatusCode.RESOURCE_EXHAUSTED, "timeout exceeded while waiting", error_mapping.expired),
    (StatusCode.FAILED_PRECONDITION, "different shapes", error_mapping.spoiled),
    (StatusCode.FAILED_PRECONDITION, "Serving signature key", error_mapping.misconfigured),
    (StatusCode.INTERNAL, "Tensor concat operation failed", error_mapping.spoiled),
    (StatusCode.UNAVAILABLE, "batch scheduling queue", error_mapping.overloaded),
    (StatusCode.UNAVAILABLE, "Model labels does not init yet", error_mapping.loading),
)


def encode_request(request: Request, model: str, version: int) -> bytes:
    """Encode a PredictRequest for the default signature; version 0 is the newest. Raises BadInput, ModelNotFound."""
    message = pb.PredictRequest()
    message.model_spec.name = model
    if version:
        if version > MAX_VERSION:
            raise errors.ModelNotFound(f"model version {version} is not loaded")
        message.model_spec.version.value = version
    for tensor in request.inputs:
        _fill(message.inputs[tensor.name], tensor)
    message.output_filter.extend(request.outputs)
    return message.SerializeToString()


def decode_answer(payload: bytes, model: str, stack: str) -> Answer:
    """Read a PredictResponse; outputs come sorted by name, for the reply holds a map. Raises BackendBadReply.

    sha256 and engine are empty: the manifest of `version` has the one, servepath.protocols.identity finds the other.
    """
    try:
        message = pb.PredictResponse.FromString(payload)
    except DecodeError:
        raise errors.BackendBadReply("the model server's reply is not a tensorflow.serving.PredictResponse") from None
    spec = message.model_spec
    if spec.name != model or not spec.HasField("version"):
        raise errors.BackendBadReply("the model server's reply does not name the model that was asked, and its version")
    outputs = tuple(_tensor(name, message.outputs[name]) for name in sorted(message.outputs))
    return Answer(outputs, Provenance(model, stack, "", "", spec.version.value, "", sha256_observed=False))


def translate(code: StatusCode, details: str) -> errors.ServeError:
    """Map the server's error to one of ours. Its text names nodes of the graph: read, never passed on."""
    return error_mapping.translate(code, details, error_mapping.BY_CODE, ERROR_BY_TEXT)


def _fill(message: pb.TensorProto, tensor: Tensor) -> None:
    number = DATA_TYPES.get(tensor.dtype)
    if number is None:
        raise errors.BadInput(f"input {tensor.name!r}: TensorFlow has no dtype {tensor.dtype!r}", "DTYPE")
    message.dtype = number
    for size in tensor.shape:
        message.tensor_shape.dim.add(size=size)
    if tensor.dtype == "BYTES":
        try:
            message.string_val.extend(tensors.split_strings(tensor.data))
        except ValueError as error:
            raise errors.BadInput(f"input {tensor.name!r}: {error}", "BYTES") from None
    else:
        message.tensor_content = tensor.data


def _tensor(name: str, message: pb.TensorProto) -> Tensor:
    dims = message.tensor_shape.dim
    dtype = DTYPES.get(message.dtype)
    if dtype is None:
        _unusable(f"data type {message.dtype}")
    if message.tensor_shape.unknown_rank or len(dims) > MAX_RANK:
        _unusable("rank")
    shape = tuple(dim.size for dim in dims)
    count = prod(shape)
    if count > MAX_ELEMENTS or any(size < 0 for size in shape):
        _unusable("shape")
    if message.tensor_content and dtype != "BYTES":
        data = message.tensor_content
    else:
        data = _packed(dtype, getattr(message, FIELDS[dtype]), count)
    if dtype != "BYTES" and len(data) != count * tensors.ITEM_BYTES[dtype]:
        _unusable("length")
    return Tensor(name, dtype, shape, data)


def _packed(dtype: str, values: Sequence[Any], count: int) -> bytes:
    # One value stands for all, up to a bound and not for strings: a short reply could claim any amount of memory.
    repeat = count if len(values) == 1 and dtype != "BYTES" and count <= MAX_REPEATED else 1
    if len(values) * repeat != count:
        _unusable("number of values")
    try:
        return tensors.pack("", _PACKED_AS.get(dtype, dtype), values) * repeat
    except errors.BadInput:
        _unusable("range of values")


def _unusable(what: str) -> NoReturn:
    raise errors.BackendBadReply(f"the model server's reply holds a tensor with an unusable {what}") from None
