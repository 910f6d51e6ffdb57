"""servepath.v1.Gateway/Compare: what every path of a model made of one request, as plain types and as bytes."""

from collections.abc import Callable
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

from google.protobuf.message import DecodeError

from servepath.protocols.errors import BackendBadReply, ServeError
from servepath.protocols.servepath import raw_tensors, read_answer, write_answer
from servepath.protocols.status import code_of, text_of
from servepath.protocols.types import Answer, Request
from servepath_pb.servepath.v1 import gateway_pb2 as pb

# Of a response with outputs: the native listener gives up on a caller who has 4 MiB unread.
MAX_OUTPUT_BYTES = 2**21
# What an answer is: ours here, a prediction in the client.
A = TypeVar("A")
B = TypeVar("B")


class Verdict(IntEnum):
    """Whether answers agree; the numbers are those of the protocol."""

    EQUAL = pb.VERDICT_EQUAL
    DIFFERENT = pb.VERDICT_DIFFERENT
    FAILED = pb.VERDICT_FAILED


class PathError(NamedTuple):
    """How a path failed. code, code_name: of gRPC. reason: google.rpc.ErrorInfo.reason."""

    code: int
    code_name: str
    reason: str
    text: str


class ComparedPath(NamedTuple, Generic[A]):
    """What one path made of the request, and how far that is from the baseline's answer.

    answer: None where it failed, and then error is why. difference: the largest absolute one of numbers. ulp: the
    largest of floating-point numbers in units in the last place, None where there are none or where one alone is
    finite. detail: where it differs, "" where it does not.
    """

    stack: str
    verdict: Verdict
    answer: A | None = None
    error: PathError | None = None
    difference: float | None = None
    ulp: int | None = None
    detail: str = ""


class Comparison(NamedTuple, Generic[A]):
    """One request on every path of a model. baseline: the stack that the others are compared with, "" for none."""

    verdict: Verdict
    baseline: str
    paths: tuple[ComparedPath[A], ...]

    def converted(self, convert: Callable[[A], B]) -> "Comparison[B]":
        """Return the same comparison of what `convert` makes of each answer."""
        paths = tuple(
            ComparedPath(path.stack, path.verdict, None if path.answer is None else convert(path.answer), *path[3:])
            for path in self.paths
        )
        return Comparison(self.verdict, self.baseline, paths)


def failure(error: ServeError) -> PathError:
    """Return an error as a caller is told of it."""
    code: int = code_of(error).value[0]
    return PathError(code, code_of(error).name, error.reason, text_of(error))


def encode_request(request: Request) -> bytes:
    """Encode a CompareRequest with raw elements."""
    message = pb.CompareRequest(model=request.model, version=request.version, version_label=request.version_label)
    message.inputs.extend(raw_tensors(request.inputs))
    return message.SerializeToString()


def to_message(request: Request, comparison: Comparison[Answer]) -> pb.CompareResponse:
    """Return the CompareResponse, typed where the request was; without outputs where they are too many bytes."""
    message = pb.CompareResponse(baseline=comparison.baseline, verdict=pb.Verdict.Name(comparison.verdict))
    for path in comparison.paths:
        verdict = pb.Verdict.Name(path.verdict)
        _write(message.paths.add(stack=path.stack, verdict=verdict, detail=path.detail), request, path)
    if message.ByteSize() > MAX_OUTPUT_BYTES:
        for each in message.paths:
            del each.outputs[:]
    return message


def decode_answer(payload: bytes) -> Comparison[Answer]:
    """Read a CompareResponse with raw elements. Raises BackendBadReply."""
    try:
        message = pb.CompareResponse.FromString(payload)
        paths = tuple(map(_read, message.paths))
        return Comparison(Verdict(message.verdict), message.baseline, paths)
    except (DecodeError, ValueError):
        raise BackendBadReply("the reply is not a servepath.v1.CompareResponse") from None


def _write(message: pb.ComparedPath, request: Request, path: ComparedPath[Answer]) -> None:
    if path.answer is not None:
        write_answer(message, request, path.answer)
    if path.error is not None:
        message.error.CopyFrom(pb.PathError(**path.error._asdict()))
    if path.difference is not None:
        message.difference = path.difference
    if path.ulp is not None:
        message.ulp = path.ulp


def _read(message: pb.ComparedPath) -> ComparedPath[Answer]:
    error = message.error
    return ComparedPath(
        stack=message.stack,
        verdict=Verdict(message.verdict),
        answer=read_answer(message) if message.HasField("served") else None,
        error=PathError(error.code, error.code_name, error.reason, error.text) if message.HasField("error") else None,
        difference=message.difference if message.HasField("difference") else None,
        ulp=message.ulp if message.HasField("ulp") else None,
        detail=message.detail,
    )
