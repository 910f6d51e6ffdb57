"""Which protocol a block speaks: the gateway's, or its stack's own."""

import hashlib
import tomllib
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path

from loadtest import null, plan
from loadtest.calls import Target
from loadtest.config import GATEWAY, Settings
from loadtest.connection import Metadata
from loadtest.plan import Block, ServingPath
from services.wire import oip, servepath, tfserving
from services.wire.codecs import STACK_CODECS
from services.wire.stacks import STACKS
from services.wire.token import TokenFile
from services.wire.types import Answer, Served, Tensor
from services.wire.version_file import VersionFile
from store.manifest import ArtefactError, artefact_folder, read_manifest

NULL_SHA256 = hashlib.sha256(null.REPLY).hexdigest()


def target_of(block: Block, settings: Settings, exports: Path) -> Target:
    """Give the way to a block's path."""
    if block.via == "gateway":
        return _gateway(block, settings)
    return _direct(block, settings, settings.exports or exports)


def null_target(address: str) -> Target:
    """Give the way to a null endpoint; its answer has no outputs when it is the constant, and one when it is not."""
    served = Served(
        *plan.NULL.path, "null endpoint", metadata.version("pygrpc-native"), 1, NULL_SHA256, sha256_observed=True
    )
    wrong = (Tensor("wrong", "BYTES", (0,), b""),)
    return Target(
        block=plan.NULL,
        address=address,
        method=null.METHOD,
        model="null",
        encode=oip.encode_request,
        decode=lambda reply, _: Answer(() if reply == null.REPLY else wrong, served),
        metadata=_nothing_to_send,
        refused=_nothing_to_do,
    )


def batching_of(block: Block, deployments: Path) -> str:
    """Give how requests are put together on a path, as far as it is known here."""
    if block.via == "direct":
        return "the server's own"
    limits = tomllib.loads(deployments.read_text())["models"][block.path.model]["stacks"][block.path.stack]
    return ", ".join(["merged by the gateway", *(f"{name} {value}" for name, value in limits.items())])


def _gateway(block: Block, settings: Settings) -> Target:
    return Target(
        block=block,
        address=settings.addresses[GATEWAY],
        method=servepath.METHOD,
        model=str(block.path),
        encode=servepath.encode_request,
        decode=lambda reply, _: servepath.decode_answer(reply),
        metadata=_nothing_to_send,
        refused=_nothing_to_do,
    )


def _direct(block: Block, settings: Settings, exports: Path) -> Target:
    path = block.path
    codec = STACK_CODECS[path.stack]
    token = TokenFile(settings.torch_token) if path.stack == "torchserve" else None
    return Target(
        block=block,
        address=settings.addresses[path.stack],
        method=codec.METHOD,
        model=path.model,
        encode=codec.encode_request,
        decode=_tfserving_decoder(path, exports, VersionFile(settings.tf_version))
        if path.stack == "tfserving"
        else _decoder(path),
        metadata=token.metadata if token else _nothing_to_send,
        refused=token.reload if token else _nothing_to_do,
    )


def _decoder(path: ServingPath) -> Callable[[bytes, Metadata], Answer]:
    decode = STACK_CODECS[path.stack].decode_answer
    return lambda reply, _: decode(reply, path.model, path.stack)


def _tfserving_decoder(path: ServingPath, exports: Path, version: VersionFile) -> Callable[[bytes, Metadata], Answer]:
    """Its replies name only the version: the engine is in the trailing metadata, the hash in the manifest."""
    sha256_of = cache(lambda version: _sha256(path, exports, version))

    def decode(reply: bytes, trailing: Metadata) -> Answer:
        answer = tfserving.decode_answer(reply, path.model, path.stack)
        engine, engine_version = tfserving.engine_of(trailing, version.version())
        sha256 = sha256_of(answer.served.version)
        return answer._replace(
            served=answer.served._replace(engine=engine, engine_version=engine_version, sha256=sha256)
        )

    return decode


def _sha256(path: ServingPath, exports: Path, version: int) -> str:
    """Give the manifest's hash, or "" for a version that was not exported here; the report refuses such rows."""
    folder = artefact_folder(exports, path.model, STACKS[path.stack].artefact_format, version)
    try:
        return read_manifest(folder).sha256
    except ArtefactError:
        return ""


def _nothing_to_send() -> Metadata:
    return ()


def _nothing_to_do() -> None:
    pass
