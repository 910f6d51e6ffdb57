"""Requests joined along the batch axis, and the answer cut again: one copy of each member's bytes either way."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from math import prod

from servepath.protocols.tensors import ITEM_BYTES, row_offsets
from servepath.protocols.types import Answer, Request, Tensor
from services.dataplane.backend import Call

Key = tuple[object, ...]
Names = frozenset[str]
NONE: Names = frozenset()


def key_of(request: Request, padded: Names = NONE) -> Key:
    """Return the key that two requests must share to be batched; the order of the inputs does not matter.

    padded: inputs whose second axis may be filled up with zeros, so that its size is no part of the key. Nor is the
    name that the caller wrote: MODEL and MODEL@STACK of one path go together.
    """
    if padded:
        shapes = [(t.name, t.dtype, t.shape[2:] if t.name in padded else t.shape[1:]) for t in request.inputs]
        return (request.version, request.outputs, frozenset(shapes))
    if len(request.inputs) == 1:
        (tensor,) = request.inputs
        return (request.version, request.outputs, tensor.name, tensor.dtype, tensor.shape[1:])
    tensors = frozenset((tensor.name, tensor.dtype, tensor.shape[1:]) for tensor in request.inputs)
    return (request.version, request.outputs, tensors)


def size_of(request: Request) -> int:
    """Return the bytes of a request's inputs."""
    if len(request.inputs) == 1:
        return len(request.inputs[0].data)
    return sum(len(tensor.data) for tensor in request.inputs)


def lengths_of(request: Request, padded: Names) -> Mapping[str, int]:
    """Return the sizes of the padded axes, by input."""
    return {tensor.name: tensor.shape[1] for tensor in request.inputs if tensor.name in padded}


def concat(requests: Sequence[Request], padded: Names = NONE) -> Request:
    """Concatenate requests into one of all rows, in order. They have equal keys and have been validated.

    The padded inputs are filled up with zeros to the longest.
    """
    first = requests[0]
    joined = tuple(_joined(tensor, requests, padded=tensor.name in padded) for tensor in first.inputs)
    return first._replace(inputs=joined, request_id="")


def _joined(like: Tensor, requests: Sequence[Request], *, padded: bool) -> Tensor:
    parts = [tensor for request in requests for tensor in request.inputs if tensor.name == like.name]
    rows = sum(part.shape[0] for part in parts)
    if not padded:
        return like._replace(shape=(rows, *like.shape[1:]), data=b"".join([part.data for part in parts]))
    length, inner = max(part.shape[1] for part in parts), like.shape[2:]
    data = b"".join([_filled(part, length, ITEM_BYTES[like.dtype] * prod(inner)) for part in parts])
    return like._replace(shape=(rows, length, *inner), data=data)


def _filled(tensor: Tensor, length: int, item_bytes: int) -> bytes:
    """Return a tensor's bytes with every row filled up to `length` items of its second axis."""
    own = tensor.shape[1] * item_bytes
    if tensor.shape[1] == length:
        return tensor.data
    zeros = bytes((length - tensor.shape[1]) * item_bytes)
    return b"".join([tensor.data[row * own : (row + 1) * own] + zeros for row in range(tensor.shape[0])])


def split(answer: Answer, members: Sequence[Call]) -> list[Answer]:
    """Split an answer into each member's rows. Raises ValueError when an output lacks rows."""
    if not answer.outputs:
        raise ValueError("no outputs")
    starts = list(accumulate((member.rows for member in members), initial=0))
    columns = [_column(output, starts) for output in answer.outputs]
    return [Answer(outputs, answer.served) for outputs in zip(*columns, strict=True)]


def _column(output: Tensor, starts: Sequence[int]) -> list[Tensor]:
    """Return every member's part of one output."""
    name, dtype, shape, data = output
    offsets, inner = _offsets(output, starts[-1]), shape[1:]
    return [
        Tensor(name, dtype, (end - begin, *inner), data[offsets[begin] : offsets[end]])
        for begin, end in pairwise(starts)
    ]


def _offsets(output: Tensor, rows: int) -> Sequence[int]:
    if output.shape[:1] != (rows,):
        raise ValueError(f"output {output.name!r} has shape {output.shape}, expected {rows} rows")
    try:
        return row_offsets(output)
    except KeyError:
        raise ValueError(f"output {output.name!r} has no known dtype") from None
