"""Which protocol a measurement speaks: the gateway's, or its stack's own."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from grpc import StatusCode

from loadtest import no_op, plan
from loadtest.calls import Target
from loadtest.config import GATEWAY, Settings
from loadtest.connection import Client
from loadtest.fairness import UNKNOWN
from loadtest.plan import Measurement, ServingPath
from servepath.artifacts.manifest import ArtifactError, any_manifest, artifact_folder, read_manifest
from servepath.http2.replies import Metadata
from servepath.protocols import oip, servepath
from servepath.protocols.codecs import STACK_CODECS, external_codec
from servepath.protocols.deployments import Deployments, DeploymentsError
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.external import SERVER_METADATA, UNKNOWN_ENGINE, engine_named
from servepath.protocols.identity import EngineOf, engine_of, precision_from
from servepath.protocols.stacks import PATH_STACKS
from servepath.protocols.token import credentials_of
from servepath.protocols.tuned import Tuned, worded
from servepath.protocols.types import Answer, Provenance, Tensor
from servepath.results.names import UNKNOWN_ARTIFACT
from servepath.settings import SettingsError

# How long an external server may take to say who it is.
METADATA_S = 10.0
NO_OP_SHA256 = hashlib.sha256(no_op.REPLY).hexdigest()


def target_of(measurement: Measurement, settings: Settings, exports: Path) -> Target:
    """Return the target of a measurement."""
    if measurement.via == "gateway":
        return _gateway(measurement, settings)
    if settings.deployments and measurement.path in settings.deployments.external:
        return _external(measurement, settings, settings.deployments, settings.exports or exports)
    return _direct(measurement, settings, settings.exports or exports)


def no_op_target(address: str) -> Target:
    """Return the target of a no-op server; the constant reply decodes to no outputs, any other to one."""
    served = Provenance(
        *plan.NO_OP.path, "no-op server", metadata.version("pygrpc-native"), 1, NO_OP_SHA256, sha256_observed=True
    )
    wrong = (Tensor("wrong", "BYTES", (0,), b""),)
    return Target(
        measurement=plan.NO_OP,
        address=address,
        method=no_op.METHOD,
        model="null",
        encode=oip.encode_request,
        decode=lambda reply, _: Answer(() if reply == no_op.REPLY else wrong, served),
        metadata=_nothing_to_send,
        refused=_nothing_to_do,
    )


def batching_of(measurement: Measurement, deployments: Path, tuned: Mapping[str, int] = MappingProxyType({})) -> str:
    """Return how requests are batched on a path, as far as it is known here. tuned: limits of the gateway's."""
    if measurement.via == "direct":
        return "the server's own"
    limits = {**asdict(read_deployments(deployments).paths[measurement.path]), **tuned}
    return ", ".join(["merged by the gateway", *(f"{name} {value}" for name, value in limits.items())])


def settings_of(path: str, files: Mapping[str, Mapping[str, Tuned] | None], artifact: str, engine: str) -> str:
    """Return whether a path has tuned settings, and which. files: those of each server on the way, None where unknown.

    artifact, engine: the sha256 of what answered, and the engine's name and version.
    """
    if None in files.values():
        return UNKNOWN
    found = {name: own[path] for name, own in files.items() if own and path in own}
    used = {name: tuned.limits if name == GATEWAY else tuned.of_server for name, tuned in found.items()}
    said = [f"{name}: {worded(settings)}" for name, settings in used.items() if settings]
    if not said:
        return "default"
    tuned = next(iter(found.values()))
    other = "" if tuned.artifact_sha256 == artifact else ", for another artifact"
    other += "" if tuned.engine == engine else ", for another engine"
    asked = f" with {tuned.requests}" if tuned.requests else ""
    return f"tuned {tuned.date} for {tuned.goal}{asked}{other}; {'; '.join(said)}"


def _gateway(measurement: Measurement, settings: Settings) -> Target:
    return Target(
        measurement=measurement,
        address=settings.addresses[GATEWAY],
        method=servepath.METHOD,
        model=str(measurement.path),
        encode=servepath.encode_request,
        decode=lambda reply, _: _artifact_named(servepath.decode_answer(reply)),
        metadata=_nothing_to_send,
        refused=_nothing_to_do,
    )


def _direct(measurement: Measurement, settings: Settings, exports: Path) -> Target:
    path = measurement.path
    stack, codec = PATH_STACKS[path.stack], STACK_CODECS[path.stack]
    credentials = credentials_of(stack, settings.files)
    return Target(
        measurement=measurement,
        address=settings.addresses[plan.server_of(measurement)],
        method=codec.METHOD,
        model=stack.name_of(path.model),
        encode=codec.encode_request,
        decode=_completing(path, exports, engine_of(stack, settings.files)) if stack.identity else _decoder(path),
        metadata=credentials.metadata,
        refused=credentials.reload,
    )


def _external(measurement: Measurement, settings: Settings, deployments: Deployments, exports: Path) -> Target:
    """Return the target of a path on an external server. Raises SettingsError, or ArtifactError."""
    path, address = measurement.path, settings.addresses[measurement.path.stack]
    try:
        codec = external_codec(deployments, *path, any_manifest(exports, path.model).spec)
    except DeploymentsError as error:
        raise SettingsError(str(error)) from error
    engine, engine_version = _engine_at(address)

    def decode(reply: bytes, _: Metadata) -> Answer:
        answer = codec.decode_answer(reply, *path)
        if not answer.served.engine:
            served = answer.served._replace(engine=engine, engine_version=engine_version)
            answer = answer._replace(served=served)
        return _artifact_named(answer)

    return Target(
        measurement=measurement,
        address=address,
        method=codec.METHOD,
        model=path.model,
        encode=codec.encode_request,
        decode=decode,
        metadata=_nothing_to_send,
        refused=_nothing_to_do,
    )


def _engine_at(address: str) -> tuple[str, str]:
    """Return engine and version of an external server; of one that does not answer, unknown ones."""
    client = Client(address, SERVER_METADATA)
    try:
        reply = client.call(b"", (), METADATA_S).reply
    finally:
        client.close()
    return engine_named(reply.payload) if reply.code is StatusCode.OK else UNKNOWN_ENGINE


def _artifact_named(answer: Answer) -> Answer:
    """Return an answer whose hash says that it is unknown where an external server does not name it."""
    served = answer.served
    return answer if served.sha256 else answer._replace(served=served._replace(sha256=UNKNOWN_ARTIFACT))


def _decoder(path: ServingPath) -> Callable[[bytes, Metadata], Answer]:
    decode = STACK_CODECS[path.stack].decode_answer
    return lambda reply, _: decode(reply, path.model, path.stack)


def _completing(path: ServingPath, exports: Path, engine_from: EngineOf) -> Callable[[bytes, Metadata], Answer]:
    """Return a decoder that adds the engine, which the reply does not name, hash and precision from the manifest."""
    decode_answer = STACK_CODECS[path.stack].decode_answer
    artifact_of = cache(lambda version: _artifact(path, exports, version))

    def decode(reply: bytes, trailing: Metadata) -> Answer:
        answer = decode_answer(reply, path.model, path.stack)
        engine, engine_version, precision = engine_from(trailing)
        sha256, own = artifact_of(answer.served.version)
        served = answer.served._replace(engine=engine, engine_version=engine_version, sha256=sha256)
        return answer._replace(served=served._replace(precision=precision_from(precision, own)))

    return decode


def _artifact(path: ServingPath, exports: Path, version: int) -> tuple[str, str]:
    """Return hash and precision by the manifest, both "" for a version that was not exported here.

    The report refuses rows without a hash.
    """
    folder = artifact_folder(exports, path.model, PATH_STACKS[path.stack].artifact_format, version)
    try:
        manifest = read_manifest(folder)
    except ArtifactError:
        return "", ""
    return manifest.sha256, manifest.spec.precision


def _nothing_to_send() -> Metadata:
    return ()


def _nothing_to_do() -> None:
    pass
