"""Open Inference Protocol v2 over gRPC, ModelInfer only: bytes to our types and back.

Raw and typed contents are read, raw ones written, as Triton does: its client reads nothing else. Parameters that would
change what an answer means are refused, `timeout` is kept, all others are ignored.
Who answered travels in the response's parameters: stack, engine, engine_version, precision, sha256, sha256_source,
gateway_us, backend_us and queue_us (see servepath.v1.Served).
"""

from collections.abc import Container, Mapping, Sequence
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError
from grpc import StatusCode

from servepath.protocols import error_mapping, errors, tensors
from servepath.protocols.beginnings import Beginnings, WithContents
from servepath.protocols.names import VERSION_LABEL
from servepath.protocols.signature import MAX_RANK, MAX_TENSORS
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from servepath_pb.servepath.oip.oip_pb2 import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
    ModelRepositoryParameter,
)

SERVICE = "inference.GRPCInferenceService"
METHOD = f"/{SERVICE}/ModelInfer"
SOURCES = MappingProxyType({True: "observed", False: "manifest"})
# The source of a hash that is not there.
UNKNOWN_SOURCE = "unknown"
CONTENTS = MappingProxyType(
    dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents")
    | dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents")
    | {"BOOL": "bool_contents", "INT64": "int64_contents", "UINT64": "uint64_contents"}
    | {"FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"},
)
MAX_ID = 128
# A tensor's name, dtype and shape.
Shape = tuple[str, str, tuple[int, ...]]
# Parameters that would change what an answer means, and why they are refused. All others are hints, and ignored; but
# `timeout`, of the request, is kept.
UNSERVED = MappingProxyType(
    {
        "classification": "asks for class labels instead of values",
        "shared_memory_region": "puts the contents into memory that this server does not share",
        **dict.fromkeys(("sequence_id", "sequence_start", "sequence_end"), "needs a server that keeps state"),
    }
)
ERROR_BY_CODE = MappingProxyType({**error_mapping.BY_CODE, StatusCode.FAILED_PRECONDITION: error_mapping.bad()})


def parse_version(text: str) -> int:
    """Return a model version; "" is 0, the current one. Raises BadInput."""
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text)):  # noqa: PLR2004 - digits of 2**63
        raise errors.BadInput(f"model version {text[:32]!r} is not a whole number above 0", "VERSION")
    return int(text)


def parse_version_or_label(text: str) -> tuple[int, str]:
    """Return a model version and "", or 0 and a label. Raises BadInput for what is neither."""
    return (0, text) if VERSION_LABEL.fullmatch(text) else (parse_version(text), "")


def _parsed_request(payload: bytes) -> Request:
    try:
        message = ModelInferRequest.FromString(payload)
    except DecodeError:
        raise errors.BadInput("the message is not an inference.ModelInferRequest", "MESSAGE") from None
    if len(message.id) > MAX_ID:
        raise errors.BadInput(f"id is longer than {MAX_ID} characters", "ID")
    # Before anything is built of them: a million empty tensors fit into two megabytes.
    if max(len(message.inputs), len(message.outputs)) > MAX_TENSORS:
        raise errors.BadInput(f"more than {MAX_TENSORS} inputs or outputs", "INPUTS")
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise errors.BadInput(f"{len(raw)} raw_input_contents for {len(message.inputs)} inputs", "INPUTS")
    inputs = tuple(_raw_input(*pair) for pair in zip(message.inputs, raw)) if raw else _typed_inputs(message)  # noqa: B905 - checked above
    outputs = tuple([_output(output) for output in message.outputs]) if message.outputs else ()
    parameters = message.parameters
    timeout_us = _timeout_us(parameters) if parameters else 0
    version, label = parse_version_or_label(message.model_version)
    return Request(message.model_name, version, inputs, outputs, message.id, timeout_us=timeout_us, version_label=label)


def _output(output: ModelInferRequest.InferRequestedOutputTensor) -> str:
    if output.parameters:
        _refuse_unserved(f"output {output.name!r}", output.parameters)
    return output.name


def _timeout_us(parameters: Mapping[str, InferParameter]) -> int:
    """Return the microseconds that the caller waits; 0 where it does not say. Raises BadInput."""
    _refuse_unserved("the request", parameters)
    if "timeout" not in parameters:
        return 0
    timeout = parameter_value(parameters["timeout"])
    if type(timeout) is not int or timeout < 0:
        raise errors.BadInput("parameter 'timeout' is not a whole number of microseconds", "PARAMETERS")
    return timeout


def _refuse_unserved(what: str, parameters: Mapping[str, InferParameter]) -> None:
    for name, parameter in parameters.items():
        # 0, false and "" say that nothing of the kind is asked for.
        if name in UNSERVED and parameter_value(parameter):
            raise errors.BadInput(f"{what} has parameter {name!r}, which {UNSERVED[name]}; leave it out", "PARAMETERS")


def parameter_value(parameter: InferParameter | ModelRepositoryParameter) -> Any:
    """Return what a parameter holds; None where nothing is set."""
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)


def _is_message(kind: type[ModelInferRequest | ModelInferResponse], payload: bytes) -> bool:
    """Return whether bytes are a message of this kind."""
    try:
        kind.FromString(payload)
    except DecodeError:
        return False
    return True


@lru_cache(4096)
def _varint(value: int) -> bytes:
    """Encode a protobuf varint: seven bits a byte, the lowest first."""
    if value < 0x80:  # noqa: PLR2004 - one byte is enough for nearly all of ours
        return bytes((value,))
    return bytes((value & 0x7F | 0x80,)) + _varint(value >> 7)


# raw_input_contents, field 7 of ModelInferRequest, and raw_output_contents, field 6 of ModelInferResponse.
_RAW_INPUT, _RAW_OUTPUT = bytes((7 << 3 | 2,)), bytes((6 << 3 | 2,))


def _input_contents(request: Request) -> tuple[bytes, WithContents[Request]] | None:
    """Return the elements of a request's only input, and the request with others."""
    if len(request.inputs) != 1 or request.request_id:  # those with an id all begin differently
        return None
    (tensor,) = request.inputs
    return tensor.data, partial(_request_of, request.model, request.version, tensor[:3], request[3:])


def _request_of(model: str, version: int, tensor: Shape, rest: tuple[Any, ...], data: bytes) -> Request:
    # Built: _replace takes twice as long.
    return Request(model, version, (Tensor(*tensor, data),), *rest)


# Reads a ModelInferRequest. Raises BadInput.
decode_request = Beginnings(
    _parsed_request, _input_contents, lambda size: _RAW_INPUT + _varint(size), partial(_is_message, ModelInferRequest)
).read


def encode_request(request: Request, model: str, version: int) -> bytes:
    """Encode a ModelInferRequest with raw contents; what is equal in many is serialised once (see encode_answer)."""
    inputs = request.inputs
    named = str(version) if version else request.version_label
    parts = [_request_head(model, named, tuple([tensor[:3] for tensor in inputs]), request.outputs)]
    if request.request_id:
        parts.append(ModelInferRequest(id=request.request_id).SerializeToString())
    for tensor in inputs:
        parts += (_RAW_INPUT, _varint(len(tensor.data)), tensor.data)
    return b"".join(parts)


@lru_cache(4096)
def _request_head(model: str, version: str, shapes: tuple[Shape, ...], outputs: tuple[str, ...]) -> bytes:
    message = ModelInferRequest(model_name=model, model_version=version)
    for name, dtype, shape in shapes:
        message.inputs.add(name=name, datatype=dtype, shape=shape)
    for name in outputs:
        message.outputs.add(name=name)
    return message.SerializeToString()


def encode_answer(request: Request, answer: Answer) -> bytes:
    """Encode a ModelInferResponse with raw contents, under the model name that the caller used.

    What is equal in many replies is serialised once and looked up: a message may be written in parts (protobuf, "Last
    One Wins" and concatenation), and parts cost a fifth of building it again.
    """
    outputs, served = answer
    if len(outputs) == 1:
        name, dtype, shape, data = outputs[0]
        parts = [
            _common_part(request.model, served[:8], ((name, dtype, shape),)),
            _RAW_OUTPUT,
            _varint(len(data)),
            data,
        ]
    else:
        parts = [_common_part(request.model, served[:8], tuple([tensor[:3] for tensor in outputs]))]
        for tensor in outputs:
            parts += (_RAW_OUTPUT, _varint(len(tensor.data)), tensor.data)
    if request.request_id:
        parts.append(ModelInferResponse(id=request.request_id).SerializeToString())
    if served.backend_us:
        parts += (
            _microseconds_field(_GATEWAY_US, served.gateway_us),
            _microseconds_field(_BACKEND_US, served.backend_us),
            _microseconds_field(_QUEUE_US, served.queue_us),
        )
    return b"".join(parts)


_PARAMETERS = bytes((4 << 3 | 2,))
# Field 2 of InferParameter, int64_param, as a varint.
_INT64_PARAM = bytes((2 << 3 | 0,))
_GATEWAY_US, _BACKEND_US, _QUEUE_US = b"gateway_us", b"backend_us", b"queue_us"


@lru_cache(4096)
def _common_part(
    model: str,
    served: tuple[str, str, str, str, int, str, bool, str],
    shapes: tuple[Shape, ...],
) -> bytes:
    """Encode what is the same for every call; `served` is the Provenance without its times."""
    _, stack, engine, engine_version, version, sha256, sha256_observed, precision = served
    message = ModelInferResponse(model_name=model, model_version=str(version or ""))
    for name, dtype, shape in shapes:
        message.outputs.add(name=name, datatype=dtype, shape=shape)
    parameters = message.parameters
    parameters["stack"].string_param = stack
    parameters["engine"].string_param = engine
    parameters["engine_version"].string_param = engine_version
    if precision:
        parameters["precision"].string_param = precision
    parameters["sha256"].string_param = sha256
    parameters["sha256_source"].string_param = SOURCES[sha256_observed] if sha256 else UNKNOWN_SOURCE
    return message.SerializeToString()


@lru_cache(2**13)  # times of one load are near each other
def _microseconds_field(key: bytes, microseconds: int) -> bytes:
    """Encode an entry of field 4, parameters: a map entry of a string (field 1) and an InferParameter (field 2)."""
    value = _INT64_PARAM + _varint(microseconds)
    entry = b"".join((b"\x0a", bytes((len(key),)), key, b"\x12", bytes((len(value),)), value))
    return b"".join((_PARAMETERS, bytes((len(entry),)), entry))


def decode_answer(payload: bytes, model: str, stack: str) -> Answer:
    """Read a ModelInferResponse. `stack` is used when the server does not name its own. Raises BackendBadReply."""
    return _answers_of(model, stack).read(payload)


@lru_cache(256)
def _answers_of(model: str, stack: str) -> Beginnings[Answer]:
    """Return what reads the replies of one path."""
    parse, is_message = partial(_parsed_answer, model, stack), partial(_is_message, ModelInferResponse)
    return Beginnings(parse, _output_contents, lambda size: _RAW_OUTPUT + _varint(size), is_message)


def _output_contents(answer: Answer) -> tuple[bytes, WithContents[Answer]] | None:
    """Return the elements of an answer's only output, and the answer with others."""
    if len(answer.outputs) != 1:
        return None
    (tensor,) = answer.outputs
    return tensor.data, partial(_answer_of, tensor[:3], answer.served)


def _answer_of(tensor: Shape, served: Provenance, data: bytes) -> Answer:
    return Answer((Tensor(*tensor, data),), served)


def _parsed_answer(model: str, stack: str, payload: bytes) -> Answer:
    message = parse_answer(payload)
    try:
        version = int(message.model_version or 0)
    except ValueError:
        raise errors.BackendBadReply("the model server's reply names a version that is no number") from None
    return Answer(outputs_of(message), provenance_of(message, model, stack, version))


def parse_answer(payload: bytes) -> ModelInferResponse:
    """Read the message. Raises BackendBadReply."""
    try:
        return ModelInferResponse.FromString(payload)
    except DecodeError:
        raise errors.BackendBadReply("the model server's reply is not an inference.ModelInferResponse") from None


def provenance_of(message: ModelInferResponse, model: str, stack: str, version: int) -> Provenance:
    """Return what a reply's parameters say of its origin."""
    text = {name: value.string_param for name, value in message.parameters.items()}
    return Provenance(
        model=model,
        stack=text.get("stack", stack),
        engine=text.get("engine", ""),
        engine_version=text.get("engine_version", ""),
        version=version,
        sha256=text.get("sha256", ""),
        sha256_observed=text.get("sha256_source") == SOURCES[True],
        precision=text.get("precision", ""),
        gateway_us=_microseconds(message, "gateway_us"),
        backend_us=_microseconds(message, "backend_us"),
        queue_us=_microseconds(message, "queue_us"),
    )


def outputs_of(message: ModelInferResponse, names: Container[str] | None = None) -> tuple[Tensor, ...]:
    """Return the outputs in raw form, all or those in `names`. Raises BackendBadReply.

    Each may be raw or typed (KServe's authors choose); an empty one may be neither.
    """
    raw: Sequence[bytes] = message.raw_output_contents
    if len(raw) != len(message.outputs):
        raw = _spread(message)
    return tuple(
        Tensor(output.name, output.datatype, tuple(output.shape), data or _packed_output(output))
        for output, data in zip(message.outputs, raw, strict=True)
        if names is None or output.name in names
    )


def _spread(message: ModelInferResponse) -> list[bytes]:
    """Return each output its raw contents where only some have any: b"" to a typed one, and to one without elements."""
    filled = [data for data in message.raw_output_contents if data]
    bare = [output.name for output in message.outputs if not (output.HasField("contents") or 0 in output.shape)]
    if len(filled) != len(bare):
        text = f"the model server's reply has {len(filled)} raw contents for {len(bare)} outputs without typed ones"
        raise errors.BackendBadReply(text)
    contents = dict(zip(bare, filled, strict=True))
    return [contents.get(output.name, b"") for output in message.outputs]


def _packed_output(output: ModelInferResponse.InferOutputTensor) -> bytes:
    if not output.HasField("contents"):
        return b""
    try:
        return _packed(output, "output")
    except errors.BadInput as error:
        raise errors.BackendBadReply(f"the model server's reply: {error.text}") from error


def translate(code: StatusCode, details: str) -> errors.ServeError:
    """Map an OIP server's error to one of ours: the code of these servers says enough."""
    return error_mapping.translate(code, details, ERROR_BY_CODE)


def _raw_input(tensor: ModelInferRequest.InferInputTensor, data: bytes) -> Tensor:
    if tensor.HasField("contents"):
        raise errors.BadInput(f"input {tensor.name!r} has both contents and raw_input_contents", "INPUTS")
    return Tensor(tensor.name, tensor.datatype, _shape(tensor), data)


def _typed_inputs(message: ModelInferRequest) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(tensor.name, tensor.datatype, _shape(tensor), _packed(tensor, "input")) for tensor in message.inputs
    )


def _shape(tensor: ModelInferRequest.InferInputTensor) -> tuple[int, ...]:
    if tensor.parameters:
        _refuse_unserved(f"input {tensor.name!r}", tensor.parameters)
    if len(tensor.shape) > MAX_RANK:
        raise errors.BadInput(f"input {tensor.name!r}: more than {MAX_RANK} dimensions", "SHAPE")
    return tuple(tensor.shape)


def _packed(tensor: ModelInferRequest.InferInputTensor | ModelInferResponse.InferOutputTensor, kind: str) -> bytes:
    """Return a typed tensor's elements as raw bytes. Raises BadInput; kind: "input" or "output", for its text."""
    field = CONTENTS.get(tensor.datatype)
    if field is None:
        raise errors.BadInput(f"{kind} {tensor.name!r}: {tensor.datatype!r} has no typed form; send it raw", "DTYPE")
    others = [other.name for other, _ in tensor.contents.ListFields() if other.name != field]
    if others:
        raise errors.BadInput(f"{kind} {tensor.name!r}: {others[0]} given, {tensor.datatype} needs {field}", "DTYPE")
    values: Sequence[float] | Sequence[bytes] = getattr(tensor.contents, field)
    return tensors.pack(tensor.name, tensor.datatype, values)


def _microseconds(message: ModelInferResponse, name: str) -> int:
    return message.parameters[name].int64_param if name in message.parameters else 0
