"""Tensors as numpy arrays, for those who make or compute them; the gateway passes bytes on and does without."""

from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from servepath.protocols.errors import BadInput
from servepath.protocols.tensors import pack, split_strings
from servepath.protocols.types import Tensor

Array = npt.NDArray[Any]

# numpy's little-endian types by Open Inference Protocol name; BF16 has none, BYTES become objects.
DTYPES = MappingProxyType(
    {"BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1"}
    | {"INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"},
)
NAMES = MappingProxyType({np.dtype(code): name for name, code in DTYPES.items()})
# What may become what without a surprise: whole numbers become floats, never the other way round.
ACCEPTED_KINDS = MappingProxyType({"b": "b", "i": "biu", "u": "biu", "f": "biuf"})


def from_values(name: str, dtype: str, values: Any) -> Tensor:
    """Convert lists, numbers or an array to a tensor of `dtype`. Raises BadInput when they do not fit."""
    try:
        given = np.asarray(values, dtype=object if dtype == "BYTES" else None)
    except (TypeError, ValueError):
        raise BadInput(f"input {name!r}: rows differ in length", "SHAPE") from None
    if dtype == "BYTES":
        return Tensor(name, dtype, given.shape, pack(name, dtype, [_encoded(name, value) for value in given.flat]))
    if dtype not in DTYPES:
        raise BadInput(f"input {name!r}: numpy has no {dtype}", "DTYPE")
    return Tensor(name, dtype, given.shape, _cast(name, dtype, given).tobytes())


def to_array(tensor: Tensor) -> Array:
    """Convert a tensor to a writable array of its shape. Raises ValueError when its bytes do not fit its dtype."""
    if tensor.dtype == "BYTES":
        elements = split_strings(tensor.data)
        strings = np.empty(len(elements), object)
        strings[:] = elements
        return strings.reshape(tensor.shape)
    if tensor.dtype not in DTYPES:
        raise ValueError(f"numpy has no {tensor.dtype}")
    return np.frombuffer(tensor.data, DTYPES[tensor.dtype]).reshape(tensor.shape).copy()


def _cast(name: str, dtype: str, given: Array) -> Array:
    target = np.dtype(DTYPES[dtype])
    if given.size and given.dtype.kind not in ACCEPTED_KINDS[target.kind]:
        raise BadInput(f"input {name!r}: {NAMES.get(given.dtype, 'text or mixed')} elements, expected {dtype}", "DTYPE")
    with np.errstate(over="ignore"):
        array = given.astype(target)
    same = np.isfinite(array) == np.isfinite(given) if target.kind == "f" and given.size else array == given
    if not np.all(same):
        raise BadInput(f"input {name!r}: an element does not fit {dtype}", "RANGE")
    return array


def _encoded(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:  # half a surrogate pair, or a byte that was no text where it came from
            raise BadInput(f"input {name!r}: an element cannot be encoded as UTF-8", "RANGE") from None
    if isinstance(value, bytes):
        return value
    raise BadInput(f"input {name!r}: expected text, got {type(value).__name__}", "DTYPE")
