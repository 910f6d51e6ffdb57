"""Which protocol a block speaks: the gateway's, or its stack's own."""

from pathlib import Path
from types import MappingProxyType, ModuleType

from loadtest.calls import Metadata, Target
from loadtest.config import Settings
from loadtest.plan import Block
from services.wire import oip, servepath, torchserve
from services.wire.token import TokenFile
from services.wire.types import Answer

# Each module has METHOD, encode_request and decode_answer.
CODECS: MappingProxyType[str, ModuleType] = MappingProxyType({"torchserve": torchserve, "onnx": oip})


def target_of(block: Block, settings: Settings, exports: Path) -> Target:
    """Give the way to a block's path."""
    return _gateway(block, settings) if block.via == "gateway" else _direct(block, settings, exports)


def _gateway(block: Block, settings: Settings) -> Target:
    return Target(
        block=block,
        address=settings.gateway,
        method=servepath.METHOD,
        model=str(block.path),
        encode=servepath.encode_request,
        decode=lambda reply, _: servepath.decode_answer(reply),
        metadata=_nothing_to_send,
        refused=_nothing_to_do,
    )


def _direct(block: Block, settings: Settings, exports: Path) -> Target:
    del exports
    codec, path = CODECS[block.path.stack], block.path
    token = TokenFile(settings.torch_token) if path.stack == "torchserve" else None

    def decode(reply: bytes, trailing: Metadata) -> Answer:
        del trailing
        answer: Answer = codec.decode_answer(reply, path.model, path.stack)
        return answer

    return Target(
        block=block,
        address=settings.stacks[path.stack],
        method=codec.METHOD,
        model=path.model,
        encode=codec.encode_request,
        decode=decode,
        metadata=token.metadata if token else _nothing_to_send,
        refused=token.reload if token else _nothing_to_do,
    )


def _nothing_to_send() -> Metadata:
    return ()


def _nothing_to_do() -> None:
    pass
