"""A model on an external server: the Open Inference Protocol in that server's own names, and who the server is.

What such a server says is taken as it comes: replies raw, typed or both, outputs that nobody wanted, versions that are
its own numbers or none at all. Where it does not name the hash of what it serves, nobody knows it.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from google.protobuf.message import DecodeError
from grpc import StatusCode

from servepath.artifacts.spec import Spec
from servepath.protocols import error_mapping, oip, tensors
from servepath.protocols.errors import ServeError
from servepath.protocols.types import Answer, Provenance, Request
from servepath_pb.servepath.oip.oip_pb2 import ModelInferRequest, ServerMetadataResponse

SERVER_METADATA = f"/{oip.SERVICE}/ServerMetadata"
# Of a server that does not answer ServerMetadata, or names nothing there.
UNKNOWN_ENGINE = ("unknown", "version not reported")
MAX_NAMED = 64
SHA256 = re.compile(r"[0-9a-f]{64}")
# A model that is not there is a mistake in deployments.toml, and not a version that ours will load in a moment.
BY_CODE = MappingProxyType({**oip.ERROR_BY_CODE, StatusCode.NOT_FOUND: error_mapping.misconfigured})
# What MLServer 1.7, KServe 0.21 and Triton mean by codes that say something else to us.
BY_TEXT: error_mapping.ByText = (
    (StatusCode.INVALID_ARGUMENT, "is not ready yet", error_mapping.loading),  # MLServer
    (StatusCode.UNKNOWN, "ModelNotReady", error_mapping.loading),  # KServe: findings/kserve-readiness-over-grpc.sh
    (StatusCode.UNAVAILABLE, "is not at ready state", error_mapping.loading),  # Triton, and the next two
    (StatusCode.UNAVAILABLE, "Exceeds maximum queue size", error_mapping.overloaded),
    (StatusCode.UNAVAILABLE, "Request timeout expired", error_mapping.overloaded),
)


@dataclass(frozen=True, slots=True)
class ExternalModel:
    """What an external server calls a model of ours.

    version: empty for the one that it chooses. inputs, outputs: its names by ours, where they differ. typed: it reads
    typed contents and no raw ones. precision: what it computes in, as its operator says, where its replies do not.
    """

    name: str
    version: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    typed: bool = False
    precision: str = ""


class ExternalCodec:
    """The codec of one path on an external server; see StackCodec."""

    METHOD = oip.METHOD

    def __init__(self, model: ExternalModel, spec: Spec) -> None:
        """Raise ValueError where the names of tensors do not fit the model; the text begins with the key."""
        self._model = model
        self._inputs = _theirs("inputs", model.inputs, [tensor.name for tensor in spec.inputs])
        self._outputs = _theirs("outputs", model.outputs, [tensor.name for tensor in spec.outputs])
        self._ours = {theirs: ours for ours, theirs in self._outputs.items()}

    def encode_request(self, request: Request, model: str, version: int) -> bytes:  # noqa: ARG002 - ours, not the server's
        """Encode a ModelInferRequest; raw where any input has no typed form, since one request cannot have both."""
        message = ModelInferRequest(
            model_name=self._model.name, model_version=self._model.version, id=request.request_id
        )
        typed = self._model.typed and all(tensor.dtype in oip.CONTENTS for tensor in request.inputs)
        for name, dtype, shape, data in request.inputs:
            tensor = message.inputs.add(name=self._inputs[name], datatype=dtype, shape=shape)
            if typed:
                getattr(tensor.contents, oip.CONTENTS[dtype]).extend(tensors.unpack(dtype, data))
            else:
                message.raw_input_contents.append(data)
        for name in request.outputs:
            message.outputs.add(name=self._outputs[name])
        return message.SerializeToString()

    def decode_answer(self, payload: bytes, model: str, stack: str) -> Answer:
        """Read a ModelInferResponse; outputs that the model does not have are left out. Raises BackendBadReply."""
        message = oip.parse_answer(payload)
        outputs = oip.outputs_of(message, self._ours)
        served = oip.provenance_of(message, model, stack, _number(message.model_version))
        renamed = tuple(tensor._replace(name=self._ours[tensor.name]) for tensor in outputs)
        checked = _checked(served)
        return Answer(renamed, checked._replace(stack=stack, precision=checked.precision or self._model.precision))

    def translate(self, code: StatusCode, details: str) -> ServeError:
        """Map the server's error to one of ours."""
        return error_mapping.translate(code, details, BY_CODE, BY_TEXT)


def engine_named(payload: bytes) -> tuple[str, str]:
    """Return (engine, engine_version) as a ServerMetadataResponse names them, unknown ones where it does not."""
    try:
        message = ServerMetadataResponse.FromString(payload)
    except DecodeError:
        return UNKNOWN_ENGINE
    return _word(message.name) or UNKNOWN_ENGINE[0], _word(message.version) or UNKNOWN_ENGINE[1]


def _theirs(key: str, differing: Mapping[str, str], ours: Collection[str]) -> dict[str, str]:
    """Return the server's name of every tensor. Raises ValueError for a tensor that is not there, or a name of two."""
    for name in differing:
        if name not in ours:
            raise ValueError(f"{key}: the model has no {name!r}; it has {', '.join(sorted(ours))}")
    theirs = {name: differing.get(name, name) for name in ours}
    for name in theirs.values():
        if list(theirs.values()).count(name) > 1:
            raise ValueError(f"{key}: two are called {name!r}")
    return theirs


def _number(version: str) -> int:
    """Return a version's number, 0 for none and for a version that is no number."""
    # Below 2**63, as an int64 holds it.
    return int(version) if version.isascii() and version.isdecimal() and len(version) < 19 else 0  # noqa: PLR2004


def _checked(served: Provenance) -> Provenance:
    """Return the origin without what is no engine's name or no hash."""
    engine, engine_version, precision = map(_word, (served.engine, served.engine_version, served.precision))
    sha256 = served.sha256 if SHA256.fullmatch(served.sha256) else ""
    return served._replace(engine=engine, engine_version=engine_version, precision=precision, sha256=sha256)


def _word(text: str) -> str:
    return text[:MAX_NAMED] if text.isprintable() else ""
