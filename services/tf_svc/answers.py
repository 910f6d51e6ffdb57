"""The RPCs of PredictionService and ModelService over the loaded versions: a request message in, a reply message out.

Order of checks, codes and texts are those of tensorflow_serving (servables/tensorflow/predict_util.cc, core/manager.h,
model_servers/get_model_status_impl.cc); every one raises Refusal.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from google.protobuf.any_pb2 import Any as AnyMessage
from grpc import StatusCode

from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from services.tf_svc import tensors
from services.tf_svc.refusal import Refusal, invalid
from services.tf_svc.servable import Array, Servable, Signature
from services.tf_svc.versions import Status

DEFAULT_SIGNATURE = "serving_default"
SIGNATURES = "signature_def"
SIGNATURES_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"


class Model(Protocol):
    """What these answers need of services.tf_svc.versions.Versions."""

    @property
    def servable(self) -> Servable | None:
        """Return the version that serves now."""

    @property
    def statuses(self) -> Mapping[int, Status]:
        """Return the state of every version seen."""


class Answers:
    """Answers to each RPC. models: by the name that clients use. labels: version by label, of models that have any."""

    def __init__(self, models: Mapping[str, Model], labels: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self._models = models
        self._labels = labels or {}

    def predict(self, request: pb.PredictRequest) -> pb.PredictResponse:
        """Run one signature on the request's tensors."""
        return run(self._find(request), request)

    def metadata(self, request: pb.GetModelMetadataRequest) -> pb.GetModelMetadataResponse:
        """Return the signatures as the SavedModel declares them."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURES:
                raise invalid(f"Metadata field {field} is not supported")
        servable = self._find(request)
        response = pb.GetModelMetadataResponse()
        response.metadata[SIGNATURES].CopyFrom(AnyMessage(type_url=SIGNATURES_URL, value=servable.definitions))
        _identify(response.model_spec, request.model_spec.name, servable)
        return response

    def status(self, request: pb.GetModelStatusRequest) -> pb.GetModelStatusResponse:
        """Return the state of one version, or of all."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        name = request.model_spec.name
        statuses = self._models[name].statuses if name in self._models else {}
        if request.model_spec.HasField("version"):
            version = request.model_spec.version.value
            if version not in statuses:
                raise Refusal(StatusCode.NOT_FOUND, f"Could not find version {version} of model {name}")
            statuses = {version: statuses[version]}
        if not statuses:
            raise Refusal(StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
        response = pb.GetModelStatusResponse()
        for version, (state, code, text) in statuses.items():
            said = pb.StatusProto(error_code=code.value[0], error_message=text)
            response.model_version_status.add(version=version, state=state, status=said)
        return response

    def _find(self, request: pb.PredictRequest | pb.GetModelMetadataRequest) -> Servable:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        version = self._version(spec)
        model = self._models.get(spec.name)
        servable = model.servable if model else None
        if version is not None:
            if servable is None or servable.version != version:
                raise _not_found(f"Specific({spec.name}, {version})")
        elif servable is None:
            raise _not_found(f"Latest({spec.name})")
        return servable

    def _version(self, spec: pb.ModelSpec) -> int | None:
        """Return the version that a request names, by number or by label; None for the newest."""
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            labelled = self._labels.get(spec.name, {}).get(spec.version_label)
            if labelled is None:
                raise invalid(f"Unrecognized servable version label: {spec.version_label}")
            return labelled
        return spec.version.value if choice else None


def run(servable: Servable, request: pb.PredictRequest) -> pb.PredictResponse:
    """Run one signature of a version on the request's tensors. Raises Refusal."""
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise Refusal(StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    inputs = _inputs(signature, request)
    wanted = _wanted(signature, request.output_filter)
    results = dict(zip(signature.outputs, signature.run(inputs), strict=True))
    response = pb.PredictResponse()
    for alias in wanted:
        tensors.write(results[alias], response.outputs[alias])
    _identify(response.model_spec, request.model_spec.name, servable)
    response.model_spec.signature_name = name
    return response


def _not_found(what: str) -> Refusal:
    return Refusal(StatusCode.NOT_FOUND, f"Servable not found for request: {what}")


def _identify(spec: pb.ModelSpec, name: str, servable: Servable) -> None:
    spec.name = name
    spec.version.value = servable.version


def _inputs(signature: Signature, request: pb.PredictRequest) -> list[Array]:
    given = request.inputs
    aliases = {declared.alias for declared in signature.inputs}
    if len(given) != len(aliases):
        raise invalid(_sizes_differ(set(given), aliases))
    inputs = []
    for position, declared in enumerate(signature.inputs):
        if declared.alias not in given:
            raise invalid(
                f"Signature input alias: {declared.alias}(feed name: {declared.feed}) not found in request"
                f" and no default value provided. Inputs expected to be in the request {_set(set(given))},"
                " or default input alias set: "
            )
        inputs.append(tensors.read(given[declared.alias], declared, position))
    return inputs


def _sizes_differ(given: set[str], wanted: set[str]) -> str:
    return (
        f"input size does not match signature: {len(given)}!={len(wanted)} len({_set(given)}) != len({_set(wanted)})."
        f" Sent extra: {_set(given - wanted)}. Missing but required: {_set(wanted - given)}."
    )


def _wanted(signature: Signature, names: Sequence[str]) -> Sequence[str]:
    seen: set[str] = set()
    for alias in names:
        if alias not in signature.outputs:
            expected = _set(set(signature.outputs))
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set {expected}."
            )
        if alias in seen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return names or signature.outputs


def _set(names: set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
