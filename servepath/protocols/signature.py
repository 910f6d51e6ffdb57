"""A model's spec, compiled once into the check that every request passes before any server sees it."""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from math import prod

from servepath.artifacts.manifest import ArtifactError, Manifest
from servepath.artifacts.spec import BATCH, Spec, TensorSpec
from servepath.protocols.errors import BackendBadReply, BadInput
from servepath.protocols.tensors import ITEM_BYTES, fits
from servepath.protocols.types import Request, Tensor

# What any message may hold, before anybody knows of which model it is. The gateway's own limits, in deployments.toml,
# are at most these: a million empty tensors fit two megabytes, and 2**28 FP32 elements are 1 GiB.
MAX_RANK = 32
MAX_TENSORS = 256
MAX_ELEMENTS = 2**28

# Sizes of open axes, by name.
Sizes = dict[str, int]


class Signature:
    """What a model takes and gives.

    A model by rows has requests of so many rows, which may be cut and joined. Of any other a request is one row.
    """

    def __init__(self, spec: Spec, max_elements: int = MAX_ELEMENTS) -> None:
        """`max_elements`: of one input of a request."""
        self.spec = spec
        self._by_rows = spec.by_rows
        self._inputs = {tensor.name: _check_of(tensor, max_elements) for tensor in spec.inputs}
        self._outputs = {tensor.name: (tensor, tensor.sizes) for tensor in spec.outputs}
        self._row = _row_of(spec)

    def check(self, request: Request) -> int:
        """Return the number of rows, the same in every input; may be 0. Raises BadInput saying what is off."""
        sizes = self._sizes(request.inputs)
        if request.outputs:
            self._check_outputs(request.outputs)
        return sizes[BATCH] if self._by_rows else 1

    def check_answer(self, outputs: Sequence[Tensor], rows: int, names: Sequence[str]) -> None:
        """Raise BackendBadReply unless these are the outputs asked for (none named: all), each with `rows` rows."""
        if self._row is not None and len(outputs) == 1 and len(names) <= 1:
            # Most models' answers: the short way to the same.
            tensor, (name, dtype, inner, row_bytes) = outputs[0], self._row
            if tensor[:3] == (name, dtype, (rows, *inner)) and len(tensor.data) == rows * row_bytes:
                return
        wanted = names or self._outputs
        if len(outputs) != len(wanted) or {tensor.name for tensor in outputs} != set(wanted):
            raise BackendBadReply("the model server's reply lacks an output, or has an extra one")
        for tensor in outputs:
            spec, sizes = self._outputs[tensor.name]
            if not _is_one(tensor, spec.dtype, (rows, *sizes[1:]) if self._by_rows else sizes):
                what = f"{rows} rows of {spec.dtype}" if self._by_rows else f"{spec.dtype} {list(spec.shape)}"
                raise BackendBadReply(f"output {tensor.name!r} of the model server's reply is not {what}")

    def empty_outputs(self, request: Request) -> tuple[Tensor, ...]:
        """Return the outputs asked for (none named: all) of a valid request of zero rows."""
        sizes = self._sizes(request.inputs)
        return tuple(
            Tensor(tensor.name, tensor.dtype, _sized(tensor, sizes, 0), b"")
            for tensor in self.spec.outputs
            if not request.outputs or tensor.name in request.outputs
        )

    def zeros(self, rows: int) -> tuple[Tensor, ...]:
        """Return valid inputs of `rows` rows that hold zeros (empty strings for BYTES), other open axes of size 1."""
        shapes = ((tensor, _sized(tensor, {BATCH: rows}, 1)) for tensor in self.spec.inputs)
        return tuple(
            Tensor(t.name, t.dtype, shape, bytes(prod(shape) * ITEM_BYTES.get(t.dtype, 4))) for t, shape in shapes
        )

    def _sizes(self, inputs: Sequence[Tensor]) -> Sizes:
        """Check the inputs; return the sizes of the open axes."""
        if len(inputs) != len(self._inputs):
            raise BadInput(f"expected {len(self._inputs)} inputs {self._names()}, got {len(inputs)}", "INPUTS")
        sizes: Sizes = {}
        seen = set()
        for tensor in inputs:
            check = self._inputs.get(tensor.name)
            if check is None:
                raise BadInput(f"unexpected input {tensor.name!r}; the model takes {self._names()}", "INPUTS")
            seen.add(tensor.name)
            check(tensor, sizes)
        if len(seen) != len(inputs):
            raise BadInput("an input is given twice", "INPUTS")
        for axis, most in self.spec.max_sizes.items():
            if sizes[axis] > most:
                what = f"{sizes[axis]} rows" if axis == BATCH else f"{sizes[axis]} along {axis!r}"
                raise BadInput(f"the request has {what}; the model takes at most {most}", "SHAPE")
        return sizes

    def _check_outputs(self, names: Sequence[str]) -> None:
        unknown = next((name for name in names if name not in self._outputs), None)
        if unknown is not None:
            raise BadInput(
                f"unexpected output {unknown!r}; the model has the outputs {sorted(self._outputs)}", "OUTPUTS"
            )
        if len(set(names)) != len(names):
            raise BadInput("an output is requested twice", "OUTPUTS")

    def _names(self) -> list[str]:
        return sorted(self._inputs)


def probe_inputs(manifest: Manifest) -> tuple[Tensor, ...]:
    """Return inputs that the model must be able to answer: the manifest's, or one row of zeros.

    Raises ArtifactError when the manifest's are not what its spec says.
    """
    if not manifest.probe:
        return Signature(manifest.spec).zeros(1)
    try:
        stored = {name: (tuple(raw["shape"]), b64decode(raw["data"])) for name, raw in manifest.probe.items()}
        inputs = tuple(Tensor(t.name, t.dtype, *stored[t.name]) for t in manifest.spec.inputs)
        Signature(manifest.spec).check(Request(manifest.model, 0, inputs))
    except (BadInput, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{manifest.model} as {manifest.format}, version {manifest.version}: the manifest's probe is no request of "
            f"the model ({error}); export or import the model again"
        ) from error
    return inputs


class _Check:
    """The check of one input: dtype, shape, and that the bytes are exactly what these say."""

    def __init__(self, spec: TensorSpec, max_elements: int) -> None:
        self._spec = spec
        self._max_elements = max_elements

    def __call__(self, tensor: Tensor, sizes: Sizes) -> None:
        """Add the sizes of the tensor's open axes to `sizes`. Raises BadInput."""
        self._check_dtype(tensor)
        shape, spec = tensor.shape, self._spec.shape
        known = len(shape) == len(spec) and min(shape, default=0) >= 0
        if not known or any(axis != size for axis, size in zip(spec, shape, strict=True) if not isinstance(axis, str)):
            raise self._wrong_shape(tensor)
        for axis, size in zip(spec, shape, strict=True):
            if isinstance(axis, str):
                self._bind(axis, size, sizes)
        if prod(shape) > self._max_elements:
            raise self._error(f"{prod(shape)} elements, at most {self._max_elements} fit one request", "SHAPE")
        self._check_data(tensor)

    def _bind(self, axis: str, size: int, sizes: Sizes) -> None:
        if sizes.setdefault(axis, size) != size:
            what = f"{size} rows" if axis == BATCH else f"{size} along {axis!r}"
            raise BadInput(f"input {self._spec.name!r} has {what}, another has {sizes[axis]}", "SHAPE")

    def _check_dtype(self, tensor: Tensor) -> None:
        if tensor.dtype != self._spec.dtype:
            raise self._error(f"dtype {tensor.dtype!r}, expected {self._spec.dtype}", "DTYPE")

    def _check_data(self, tensor: Tensor) -> None:
        try:
            fits(tensor)
        except ValueError as error:
            raise self._error(str(error), "BYTES") from None
        if tensor.dtype == "BOOL" and tensor.data.translate(None, b"\0\1"):
            raise self._error("a BOOL is a byte 0 or 1", "RANGE")

    def _wrong_shape(self, tensor: Tensor) -> BadInput:
        return self._error(f"shape {list(tensor.shape[: MAX_RANK + 1])}, expected {list(self._spec.sizes)}", "SHAPE")

    def _error(self, text: str, what: str) -> BadInput:
        return BadInput(f"input {self._spec.name!r}: {text}", what)


class _RowsCheck(_Check):
    """The check of an input whose only open axis is the batch axis: most models', and quicker."""

    def __init__(self, spec: TensorSpec, max_elements: int) -> None:
        super().__init__(spec, max_elements)
        self._inner = spec.sizes[1:]
        inner_elements = prod(self._inner)
        self._max_rows = max_elements // inner_elements if inner_elements else 0
        self._row_bytes = inner_elements * ITEM_BYTES[spec.dtype] if spec.dtype in ITEM_BYTES else None

    def __call__(self, tensor: Tensor, sizes: Sizes) -> None:
        self._check_dtype(tensor)
        shape = tensor.shape
        if shape[1:] != self._inner or not shape or shape[0] < 0:
            raise self._wrong_shape(tensor)
        rows = shape[0]
        if rows > self._max_rows:
            raise self._error(f"{rows} rows, at most {self._max_rows} fit one request", "SHAPE")
        if sizes.setdefault(BATCH, rows) != rows:
            self._bind(BATCH, rows, sizes)
        if self._row_bytes is None or tensor.dtype == "BOOL":
            self._check_data(tensor)
        elif len(tensor.data) != rows * self._row_bytes:
            raise self._error(f"{len(tensor.data)} bytes of data, its shape says {rows * self._row_bytes}", "BYTES")


def _check_of(spec: TensorSpec, max_elements: int) -> _Check:
    plain = spec.by_rows and not any(isinstance(axis, str) for axis in spec.shape[1:])
    return (_RowsCheck if plain else _Check)(spec, max_elements)


def _row_of(spec: Spec) -> tuple[str, str, tuple[int, ...], int] | None:
    """Return name, dtype, sizes and bytes of a row of a model's only output; None where that is not what it gives."""
    if len(spec.outputs) != 1 or not spec.by_rows:
        return None
    (tensor,) = spec.outputs
    inner = tensor.sizes[1:]
    if min(inner, default=0) < 0 or tensor.dtype not in ITEM_BYTES:
        return None
    return tensor.name, tensor.dtype, inner, prod(inner) * ITEM_BYTES[tensor.dtype]


def _is_one(tensor: Tensor, dtype: str, wanted: tuple[int, ...]) -> bool:
    """Return whether a reply's tensor is of a dtype and of the wanted sizes, where -1 is any, and has its bytes."""
    if tensor.dtype != dtype or min(tensor.shape, default=0) < 0:
        return False
    same = len(tensor.shape) == len(wanted)
    if not same or any(size not in {-1, found} for size, found in zip(wanted, tensor.shape, strict=True)):
        return False
    try:
        fits(tensor)
    except ValueError:
        return False
    return True


def _sized(tensor: TensorSpec, sizes: Mapping[str, int], otherwise: int) -> tuple[int, ...]:
    return tuple(sizes.get(axis, otherwise) if isinstance(axis, str) else axis for axis in tensor.shape)
