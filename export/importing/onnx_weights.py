"""The weights of an ONNX file: every stored tensor is looked at, and what lies in files beside the model is read.

Nothing outside the file's folder is read, and nothing is made of a size that the file does not have.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from types import MappingProxyType

import onnx

from export.importing.errors import Refused

MAX_BYTES = 2**31 - 1  # one protobuf message
# Several elements of these lie in one byte: https://onnx.ai/onnx/technical/int4.html
BITS: Mapping[int, int] = MappingProxyType(
    {onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4, onnx.TensorProto.FLOAT4E2M1: 4}
    | {onnx.TensorProto.INT2: 2, onnx.TensorProto.UINT2: 2}
)
# Of initializers: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
KEYS = frozenset({"location", "offset", "length", "checksum"})


def read_weights(model: onnx.ModelProto, folder: Path) -> None:
    """Put all weights into the model, those too that lie in files of this folder. Raises Refused."""
    budget = MAX_BYTES
    for tensor in _weights(model):
        budget -= _check_size(tensor, budget)
        _read_external(tensor, folder)


def _weights(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every stored tensor: initializers and constants, in every graph and function."""
    yield from _in_graph(model.graph)
    for function in model.functions:
        yield from _in_attributes(function.attribute_proto)
        for node in function.node:
            yield from _in_attributes(node.attribute)


def _in_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from _parts(sparse)
    for node in graph.node:
        yield from _in_attributes(node.attribute)


def _in_attributes(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        yield from (attribute.t, *attribute.tensors) if attribute.HasField("t") else attribute.tensors
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for each in (*sparse, *attribute.sparse_tensors):
            yield from _parts(each)
        for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            yield from _in_graph(graph)


def _parts(sparse: onnx.SparseTensorProto) -> tuple[onnx.TensorProto, onnx.TensorProto]:
    """Return the tensors of a sparse one, which the runtime makes dense. Raises Refused."""
    name = sparse.values.name
    if onnx.TensorProto.EXTERNAL in {sparse.values.data_location, sparse.indices.data_location}:
        raise Refused(f"the sparse weights {name!r} are in another file, where only dense ones are read")
    _check_size(onnx.TensorProto(name=name, data_type=sparse.values.data_type, dims=sparse.dims, raw_data=b""))
    return sparse.values, sparse.indices


def _check_size(tensor: onnx.TensorProto, budget: int = MAX_BYTES) -> int:
    """Return the bytes of a stored tensor. Raises Refused when they are absurd or not there."""
    if any(size < 0 for size in tensor.dims):
        raise Refused(f"the weights {tensor.name!r} have the shape {list(tensor.dims)}")
    elements = prod(tensor.dims)
    try:
        size = _stored_bytes(tensor)
    except (KeyError, ValueError):
        raise Refused(f"the weights {tensor.name!r} are of an unknown type, {tensor.data_type}") from None
    if size > budget:
        raise Refused(f"the weights {tensor.name!r} have {elements} elements: more than 2 GiB with those before them")
    stored = tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.HasField("raw_data")
    if elements and not stored and not any(field.name.endswith("_data") for field, _ in tensor.ListFields()):
        raise Refused(f"the weights {tensor.name!r} have {elements} elements and no data")
    return size


def _stored_bytes(tensor: onnx.TensorProto) -> int:
    """Return the bytes of the elements, of a text the least. Raises KeyError and ValueError for an unknown type."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    bits = BITS.get(tensor.data_type, 8 if kind.hasobject else 8 * kind.itemsize)
    return int(prod(tensor.dims) * bits + 7) // 8


def _read_external(tensor: onnx.TensorProto, folder: Path) -> None:
    """Put weights that lie in a file beside the model into the model."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    said = {entry.key: entry.value for entry in tensor.external_data}
    location, what = said.get("location", ""), f"the weights {tensor.name!r}"
    if said.keys() - KEYS or not location:
        raise Refused(f"{what} are in another file, and it is not said which")
    root = folder.resolve()
    file = root / location
    if Path(location).is_absolute() or not file.resolve().is_relative_to(root) or file.is_symlink():
        raise Refused(f"{what} are outside the model's folder, or behind a link")
    if not file.is_file():
        raise Refused(f"{what} are missing: there is no {location} beside the model")
    wanted = _stored_bytes(tensor)
    try:
        offset, length = int(said.get("offset") or 0), int(said.get("length") or wanted)
    except ValueError:
        raise Refused(f"{what} have an offset or a length in {location} that is no number") from None
    if length != wanted or offset < 0 or offset + length > file.stat().st_size:
        raise Refused(f"{what} have {wanted} bytes, and {location} does not hold them where the model says")
    with file.open("rb") as opened:
        opened.seek(offset)
        tensor.raw_data = opened.read(length)
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.DEFAULT
