"""servepath.v1.Gateway/Predict, the gateway's own protocol: bytes to our types and back, for server and client.

What Compare has in common with it is public here; the rest is in servepath.protocols.comparison.
"""

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError

from servepath.protocols import errors, tensors
from servepath.protocols.names import VERSION_LABEL, VERSION_LABEL_RULE
from servepath.protocols.signature import MAX_RANK, MAX_TENSORS
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from servepath_pb.servepath.v1 import gateway_pb2 as pb

SERVICE = "servepath.v1.Gateway"
METHOD = f"/{SERVICE}/Predict"
LIST_PATHS = f"/{SERVICE}/ListPaths"
COMPARE = f"/{SERVICE}/Compare"
FIELDS = (
    dict.fromkeys(("INT8", "INT16", "INT32", "INT64"), "ints")
    | dict.fromkeys(("UINT8", "UINT16", "UINT32", "UINT64"), "uints")
    | {"BOOL": "bools", "FP32": "fp32", "FP64": "fp64", "BYTES": "strings"}
)
TYPED = frozenset(FIELDS.values())
MAX_ID = 128


def decode_request(payload: bytes) -> Request:
    """Read a PredictRequest. Raises BadInput."""
    try:
        message = pb.PredictRequest.FromString(payload)
    except DecodeError:
        raise errors.BadInput("the message is not a servepath.v1.PredictRequest", "MESSAGE") from None
    request_id = message.request_id
    if len(request_id) > MAX_ID or not (request_id.isascii() and request_id.isprintable()):
        raise errors.BadInput(f"request_id must be at most {MAX_ID} printable ASCII characters", "ID")
    if len(message.outputs) > MAX_TENSORS:
        raise errors.BadInput(f"more than {MAX_TENSORS} inputs or outputs", "INPUTS")
    return read_request(message)._replace(outputs=tuple(message.outputs), request_id=request_id)


def read_request(message: pb.PredictRequest | pb.CompareRequest) -> Request:
    """Return what model, version and inputs of a message ask for. Raises BadInput."""
    if message.version < 0:
        raise errors.BadInput(f"version {message.version} is below 0", "VERSION")
    label = message.version_label
    if label and message.version:
        raise errors.BadInput("a request has version or version_label, not both", "VERSION")
    if label and not VERSION_LABEL.fullmatch(label):
        raise errors.BadInput(f"version_label {label[:32]!a} is no label: {VERSION_LABEL_RULE}", "VERSION")
    # Before anything is built of them: a million empty tensors fit into two megabytes.
    if len(message.inputs) > MAX_TENSORS:
        raise errors.BadInput(f"more than {MAX_TENSORS} inputs or outputs", "INPUTS")
    pairs = [_input(tensor) for tensor in message.inputs]
    return Request(
        model=message.model,
        version=message.version,
        inputs=tuple(tensor for tensor, _ in pairs),
        typed=any(typed for _, typed in pairs),
        version_label=label,
    )


def encode_request(request: Request, model: str, version: int) -> bytes:
    """Encode a PredictRequest with raw elements."""
    message = pb.PredictRequest(model=model, version=version, outputs=request.outputs, request_id=request.request_id)
    message.version_label = request.version_label
    message.inputs.extend(raw_tensors(request.inputs))
    return message.SerializeToString()


def raw_tensors(given: Iterable[Tensor]) -> Iterable[pb.Tensor]:
    """Return tensors as messages with raw elements."""
    return (pb.Tensor(name=each.name, dtype=each.dtype, shape=each.shape, raw=each.data) for each in given)


def encode_answer(request: Request, answer: Answer) -> bytes:
    """Encode a PredictResponse, typed where the request was and the dtype has a typed form."""
    message = pb.PredictResponse(request_id=request.request_id)
    write_answer(message, request, answer)
    return message.SerializeToString()


def write_answer(message: pb.PredictResponse | pb.ComparedPath, request: Request, answer: Answer) -> None:
    """Set outputs and origin of a message, typed where the request was and the dtype has a typed form."""
    served = answer.served
    for tensor in answer.outputs:
        _add_output(message.outputs.add(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape), tensor, request)
    message.served.model = served.model
    message.served.stack = served.stack
    message.served.engine = served.engine
    message.served.engine_version = served.engine_version
    message.served.version = served.version
    message.served.precision = served.precision
    message.served.sha256 = served.sha256
    if served.sha256:
        observed = served.sha256_observed
        message.served.sha256_source = pb.HASH_SOURCE_OBSERVED if observed else pb.HASH_SOURCE_MANIFEST
    message.served.gateway_us = served.gateway_us
    message.served.backend_us = served.backend_us
    message.served.queue_us = served.queue_us


def decode_answer(payload: bytes) -> Answer:
    """Read a PredictResponse with raw elements. Raises BackendBadReply."""
    try:
        message = pb.PredictResponse.FromString(payload)
    except DecodeError:
        raise errors.BackendBadReply("the reply is not a servepath.v1.PredictResponse") from None
    return read_answer(message)


def read_answer(message: pb.PredictResponse | pb.ComparedPath) -> Answer:
    """Return raw outputs and origin of a message."""
    outputs = tuple(Tensor(t.name, t.dtype, tuple(t.shape), t.raw) for t in message.outputs)
    served = message.served
    observed = served.sha256_source == pb.HASH_SOURCE_OBSERVED
    return Answer(
        outputs,
        Provenance(
            model=served.model,
            stack=served.stack,
            engine=served.engine,
            engine_version=served.engine_version,
            version=served.version,
            sha256=served.sha256,
            sha256_observed=observed,
            precision=served.precision,
            gateway_us=served.gateway_us,
            backend_us=served.backend_us,
            queue_us=served.queue_us,
        ),
    )


def _input(message: pb.Tensor) -> tuple[Tensor, bool]:
    """Convert a tensor to raw form, and say whether it came typed."""
    if len(message.shape) > MAX_RANK:
        raise errors.BadInput(f"input {message.name!r}: more than {MAX_RANK} dimensions", "SHAPE")
    name, dtype, shape = message.name, message.dtype, tuple(message.shape)
    given = [field.name for field, _ in message.ListFields() if field.name in TYPED]
    if not given:
        return Tensor(name, dtype, shape, message.raw), False
    if message.raw or len(given) > 1:
        raise errors.BadInput(f"input {name!r} has elements in more than one field", "INPUTS")
    if FIELDS.get(dtype) != given[0]:
        raise errors.BadInput(f"input {name!r}: elements in {given[0]} do not fit dtype {dtype!r}", "DTYPE")
    return Tensor(name, dtype, shape, tensors.pack(name, dtype, getattr(message, given[0]))), True


def _add_output(message: Any, tensor: Tensor, request: Request) -> None:
    if request.typed and tensor.dtype in FIELDS:
        getattr(message, FIELDS[tensor.dtype]).extend(tensors.unpack(tensor.dtype, tensor.data))
    else:
        message.raw = tensor.data
