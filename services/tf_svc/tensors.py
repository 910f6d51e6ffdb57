"""TensorProto to numpy and back, strictly: what the bytes do not cover is refused and never allocated.

tensorflow_model_server repeats the last value up to whatever shape a request claims: 48 bytes can claim 64 MiB.
"""

from math import prod
from types import MappingProxyType

import ml_dtypes
import numpy as np

from servepath.protocols import arrays
from servepath.protocols.signature import MAX_ELEMENTS, MAX_RANK
from servepath.protocols.tfserving import DATA_TYPES, DTYPES, FIELDS
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from services.tf_svc.refusal import invalid
from services.tf_svc.servable import Array, Declared

BYTES = DATA_TYPES["BYTES"]
NUMPY = MappingProxyType(
    {DATA_TYPES[name]: np.dtype(code) for name, code in arrays.DTYPES.items()}
    | {DATA_TYPES["BF16"]: np.dtype(ml_dtypes.bfloat16), BYTES: np.dtype(object)},
)
DATA_TYPE_OF = MappingProxyType({dtype: number for number, dtype in NUMPY.items()})
# half_val holds the bits of its elements.
BITS = MappingProxyType(dict.fromkeys((DATA_TYPES["FP16"], DATA_TYPES["BF16"]), np.dtype("<u2")))
# tensorflow::DataTypeString
TENSORFLOW_NAMES = MappingProxyType(
    {"FP32": "float", "FP64": "double", "FP16": "half", "BF16": "bfloat16", "BYTES": "string"}
)


def read(message: pb.TensorProto, declared: Declared, position: int) -> Array:
    """Decode a request's tensor to a read-only array of the declared dtype and shape. Raises Refusal."""
    try:
        array = _array(message)
    except (KeyError, OverflowError, TypeError, ValueError):
        raise invalid(f"tensor parsing error: {declared.alias}") from None
    if message.dtype != declared.data_type:
        raise invalid(
            f"Expects arg[{position}] to be {_name(declared.data_type)} but {_name(message.dtype)} is provided"
        )
    if not _fits(array.shape, declared.shape):
        raise invalid(
            f"input {declared.alias} has shape {list(array.shape)}, its signature says {list(declared.shape or ())}"
        )
    return array


def write(array: Array, message: pb.TensorProto) -> None:
    """Fill `message` with an array in typed values, the server's default form."""
    number = DATA_TYPE_OF[array.dtype]
    message.dtype = number
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    values = array.view(BITS[number]) if number in BITS else array
    getattr(message, FIELDS[DTYPES[number]]).extend(values.ravel().tolist())


def _array(message: pb.TensorProto) -> Array:
    dims = message.tensor_shape.dim
    if message.tensor_shape.unknown_rank or len(dims) > MAX_RANK:
        raise ValueError("rank")
    shape = tuple(dim.size for dim in dims)
    # A zero among the sizes must not hide a size that a kernel would allocate by.
    if any(size < 0 for size in shape) or prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise ValueError("shape")
    dtype = NUMPY[message.dtype]
    if message.tensor_content and message.dtype != BYTES:
        return np.frombuffer(message.tensor_content, dtype).reshape(shape)
    values = getattr(message, FIELDS[DTYPES[message.dtype]])
    if len(values) != prod(shape):
        raise ValueError("number of values")
    array: Array = np.array(values, BITS.get(message.dtype, dtype)).view(dtype)
    return array.reshape(shape)


def _fits(shape: tuple[int, ...], declared: tuple[int, ...] | None) -> bool:
    if declared is None:
        return True
    return len(shape) == len(declared) and all(want in {-1, size} for size, want in zip(shape, declared, strict=True))


def _name(number: int) -> str:
    dtype = DTYPES.get(number)
    return TENSORFLOW_NAMES.get(dtype, dtype.lower()) if dtype else f"DataType({number})"
