"""TorchServe's native Predictions: our types to bytes and back.

A request carries each input's raw bytes under its name, and all shapes under SHAPES, as JSON. A reply's bytes are what
the handler made: a safetensors buffer (8 bytes little-endian header length, JSON header, data) whose header's
"__metadata__" says who answered, or what is wrong with this one request: TorchServe has no other way to fail one of a
batch over gRPC.
"""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NoReturn

from google.protobuf.message import DecodeError
from grpc import StatusCode

from servepath.protocols import error_mapping, errors, safetensors
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from servepath_pb.servepath.torchserve.torchserve_pb2 import PredictionResponse, PredictionsRequest

SERVICE = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
METHOD = f"/{SERVICE}/Predictions"
MAX_DIGITS = 19  # of 2**63
BAD_INPUT = "BAD_INPUT."
# As in services/torch_svc/handler.py; no tensor's name has a "#".
SHAPES = "#shapes"
MAX_REQUEST_BYTES = 6_553_500  # max_request_size, its default


def encode_request(request: Request, model: str, version: int) -> bytes:
    """Encode a PredictionsRequest. `version` 0 means the server's default.

    Raises TooLarge above TorchServe's limit: it resets the stream of such a call, which reads as if we had cancelled.
    """
    payload = PredictionsRequest(
        model_name=model,
        model_version=str(version) if version else "",
        input={SHAPES: _shapes(request.inputs), **{tensor.name: tensor.data for tensor in request.inputs}},
    ).SerializeToString()
    if len(payload) > MAX_REQUEST_BYTES:
        raise errors.TooLarge(f"{len(payload)} bytes for TorchServe, at most {MAX_REQUEST_BYTES} fit one request")
    return payload


def _shapes(tensors: Sequence[Tensor]) -> bytes:
    return json.dumps({tensor.name: tensor.shape for tensor in tensors}).encode()


def decode_answer(payload: bytes, model: str, stack: str) -> Answer:
    """Read a PredictionResponse. Raises BadInput when the handler refused this request, else BackendBadReply."""
    try:
        prediction = PredictionResponse.FromString(payload).prediction
    except DecodeError:
        raise errors.BackendBadReply("TorchServe's reply is not a PredictionResponse") from None
    try:
        tensors, metadata = safetensors.parse(prediction)
    except ValueError as error:
        _malformed(str(error))
    if not isinstance(metadata, dict) or not all(_is_text(value) for value in metadata.values()):
        _malformed("has no metadata")
    if "error" in metadata:
        _refused(metadata)
    served = _served(metadata, model, stack)
    return Answer(tensors, served)


def translate(code: StatusCode, details: str) -> errors.ServeError:
    """Map TorchServe's error to one of ours; `details` are read and never passed on.

    TorchServe's codes alone mislead: a full queue is INTERNAL, and a handler's exception UNAVAILABLE.
    """
    return error_mapping.translate(code, details, ERROR_BY_CODE, ERROR_BY_TEXT)


# What its texts tell apart, first match first: frontend's InferenceImpl, GRPCJob and WorkerThread in 0.12.
ERROR_BY_TEXT: error_mapping.ByText = (
    (StatusCode.INTERNAL, "has no worker to serve", error_mapping.overloaded),  # said of a full queue, too
    (StatusCode.INTERNAL, "Worker died", error_mapping.down),  # or did not answer in time
    (StatusCode.INTERNAL, "Out of resources", error_mapping.overloaded),  # memory, the accelerator's included
    (StatusCode.INTERNAL, "does not exist for model", error_mapping.loading),  # a version exported since it started
    (StatusCode.INTERNAL, "Model not found", error_mapping.misconfigured),  # our registry says that it is there
    (StatusCode.INTERNAL, "model_name is required", error_mapping.misconfigured),
    (StatusCode.UNAVAILABLE, "Prediction failed", error_mapping.failed),  # the handler raised
    (StatusCode.UNAVAILABLE, "Invalid model predict output", error_mapping.failed),
    (StatusCode.UNAVAILABLE, "number of batch response mismatched", error_mapping.failed),
    (StatusCode.UNAVAILABLE, "Unsupported model output", error_mapping.failed),
    (
        StatusCode.RESOURCE_EXHAUSTED,
        "exceeds maximum size",
        error_mapping.too_large,
    ),  # its gRPC library about our request
)
ERROR_BY_CODE = MappingProxyType(
    {
        **error_mapping.BY_CODE,
        StatusCode.NOT_FOUND: error_mapping.misconfigured,
        StatusCode.ABORTED: error_mapping.failed,
    },
)


def _malformed(what: str) -> NoReturn:
    raise errors.BackendBadReply(f"TorchServe's reply {what}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def _refused(metadata: Mapping[str, str]) -> NoReturn:
    reason = metadata.get("reason", "")
    what = reason.removeprefix(BAD_INPUT)
    if what == reason or not (what.isascii() and what.isidentifier() and what.isupper()):
        _malformed("has an error without its reason")
    raise errors.BadInput(metadata["error"], what)


def _served(metadata: Mapping[str, str], model: str, stack: str) -> Provenance:
    engine, engine_version, version, sha256 = (
        metadata.get(name, "") for name in ("engine", "engine_version", "version", "sha256")
    )
    if not (engine and engine_version and sha256):
        _malformed("does not identify the server")
    if not (version.isascii() and version.isdecimal() and len(version) <= MAX_DIGITS):
        _malformed("has no version")
    served = Provenance(model, stack, engine, engine_version, int(version), sha256, sha256_observed=True)
    return served._replace(precision=metadata.get("precision", ""))
