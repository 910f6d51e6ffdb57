"""A safetensors buffer as tensors, without numpy: 8 bytes little-endian header length, a JSON header, data.

https://github.com/huggingface/safetensors#format
"""

import json
from math import prod
from types import MappingProxyType
from typing import Any

from servepath.protocols.tensors import ITEM_BYTES
from servepath.protocols.types import Tensor

# By the format's names; it has no strings.
DTYPES = MappingProxyType(
    {"BOOL": "BOOL", "U8": "UINT8", "U16": "UINT16", "U32": "UINT32", "U64": "UINT64"}
    | {"I8": "INT8", "I16": "INT16", "I32": "INT32", "I64": "INT64"}
    | {"F16": "FP16", "BF16": "BF16", "F32": "FP32", "F64": "FP64"},
)
LENGTH_BYTES = 8
METADATA = "__metadata__"


def parse(buffer: bytes) -> tuple[tuple[Tensor, ...], Any]:
    """Return the tensors, in the order of their data, and the header's metadata, None where it has none.

    Raises ValueError whose text goes on from "it ...". Tensors must cover the data exactly, as the format demands.
    """
    begin = LENGTH_BYTES + int.from_bytes(buffer[:LENGTH_BYTES], "little")
    if len(buffer) < max(begin, LENGTH_BYTES):
        raise ValueError("is cut")
    try:
        header = json.loads(buffer[LENGTH_BYTES:begin])
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise ValueError("has no JSON header")  # noqa: TRY004 - as all else that is wrong
    metadata = header.pop(METADATA, None)
    return _tensors(header, buffer[begin:]), metadata


def _tensors(header: dict[str, Any], data: bytes) -> tuple[Tensor, ...]:
    found = sorted((_place(name, entry) for name, entry in header.items()), key=lambda place: place[3:])
    position, tensors = 0, []
    for name, dtype, shape, begin, end in found:
        if begin != position:
            raise ValueError("has overlapping tensors, or a gap between them")
        tensors.append(Tensor(name, dtype, shape, data[begin:end]))
        position = end
    if position != len(data):
        raise ValueError("holds more or less data than its tensors")
    return tuple(tensors)


def _place(name: str, entry: Any) -> tuple[str, str, tuple[int, ...], int, int]:
    try:
        dtype, shape, (begin, end) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ValueError("has a tensor that is not described") from None
    # type() and not isinstance: JSON's true is no size.
    if not name.isprintable() or any(type(size) is not int or size < 0 for size in (*shape, begin, end)):
        raise ValueError("has a tensor with an invalid name, shape or offset")
    if end - begin != prod(shape) * ITEM_BYTES[dtype]:
        raise ValueError("has a tensor whose bytes are not what its shape says")
    return name, dtype, shape, begin, end
