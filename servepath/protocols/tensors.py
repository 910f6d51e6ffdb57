"""Tensors as bytes: element sizes, typed elements to raw ones and back, where the rows begin.

Data types and the raw form are the Open Inference Protocol's. No numpy: the gateway passes bytes on. The wire is
little-endian and so is every machine that the servers have wheels for, so array's native order is the wire's.
"""

import struct
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import prod
from types import MappingProxyType
from typing import Any

from servepath.protocols.errors import BadInput
from servepath.protocols.types import Tensor

# Bytes of one element; BYTES elements have no fixed size.
ITEM_BYTES = MappingProxyType(
    {"BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8}
    | {"FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8},
)
# array.array's type codes; FP16 and BF16 have no typed form in any of our protocols.
TYPE_CODES = MappingProxyType(
    {"BOOL": "B", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q"}
    | {"INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "FP32": "f", "FP64": "d"},
)
LENGTH = struct.Struct("<I")


def pack(name: str, dtype: str, values: Iterable[Any]) -> bytes:
    """Encode typed elements (numbers, or bytes for BYTES) as raw bytes. Raises BadInput when one does not fit."""
    if dtype == "BYTES":
        return b"".join(LENGTH.pack(len(value)) + value for value in values)
    try:
        return array(TYPE_CODES[dtype], values).tobytes()
    except KeyError:
        raise BadInput(f"tensor {name!r}: {dtype!r} has no typed form; send its elements raw", "DTYPE") from None
    except (OverflowError, TypeError, ValueError):
        raise BadInput(f"tensor {name!r}: an element does not fit {dtype}", "RANGE") from None


def unpack(dtype: str, data: bytes) -> Sequence[Any]:
    """Decode raw bytes to typed elements. Raises ValueError when the bytes are not whole elements."""
    if dtype == "BYTES":
        return split_strings(data)
    values = array(TYPE_CODES[dtype])
    values.frombytes(data)
    return values


def split_strings(data: bytes) -> list[bytes]:
    """Return the elements of a raw BYTES tensor. Raises ValueError when a length prefix does not fit."""
    elements, position = [], 0
    while position < len(data):
        if position + LENGTH.size > len(data):
            raise ValueError("a length prefix is truncated")
        begin = position + LENGTH.size
        position = begin + LENGTH.unpack_from(data, position)[0]
        if position > len(data):
            raise ValueError("a length prefix is longer than the data")
        elements.append(data[begin:position])
    return elements


def fits(tensor: Tensor) -> None:
    """Raise ValueError unless the data is exactly what dtype and shape say."""
    elements = prod(tensor.shape)
    if tensor.dtype == "BYTES":
        found = len(split_strings(tensor.data))
        if found != elements:
            raise ValueError(f"{found} elements, the shape says {elements}")
    elif len(tensor.data) != (size := elements * ITEM_BYTES[tensor.dtype]):
        raise ValueError(f"{len(tensor.data)} bytes of data, its shape says {size}")


def row_offsets(tensor: Tensor) -> Sequence[int]:
    """Return where each row of a tensor begins in its data, and the end: rows + 1 offsets in bytes.

    This is the only way to cut a tensor. Raises ValueError when the data is not what dtype and shape say.
    """
    if not tensor.shape:
        raise ValueError("no batch axis to split along")
    rows, inner = tensor.shape[0], prod(tensor.shape[1:])
    if tensor.dtype == "BYTES":
        sizes = [LENGTH.size + len(element) for element in split_strings(tensor.data)]
        if len(sizes) != rows * inner:
            raise ValueError(f"{len(sizes)} elements, the shape says {rows * inner}")
        ends = list(accumulate(sizes, initial=0))
        return ends[:: inner or 1][: rows + 1] if inner else [0] * (rows + 1)
    row_bytes = inner * ITEM_BYTES[tensor.dtype]
    if len(tensor.data) != rows * row_bytes:
        raise ValueError(f"{len(tensor.data)} bytes, the shape says {rows * row_bytes}")
    return range(0, rows * row_bytes + 1, row_bytes) if row_bytes else [0] * (rows + 1)
