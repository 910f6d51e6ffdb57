"""A model's spec, compiled once into the check that every request passes before any server sees it."""

from collections.abc import Sequence
from math import prod

from servepath.artifacts.spec import BATCH, Spec, TensorSpec
from servepath.protocols.errors import BackendBadReply, BadInput
from servepath.protocols.tensors import ITEM_BYTES, row_offsets
from servepath.protocols.types import Request, Tensor

MAX_RANK = 8
MAX_TENSORS = 16
# 2**24 FP32 elements are 64 MiB, the largest message that any of our servers takes.
MAX_ELEMENTS = 2**24


class Signature:
    """What a model takes and gives. Every input's first dimension is the batch axis."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._inputs = {tensor.name: _InputCheck(tensor) for tensor in spec.inputs}
        self._outputs = {tensor.name: _OutputCheck(tensor) for tensor in spec.outputs}

    def check(self, request: Request) -> int:
        """Return the number of rows, the same in every input; may be 0. Raises BadInput saying what is off."""
        inputs = request.inputs
        if len(inputs) != len(self._inputs):
            raise BadInput(f"expected {len(self._inputs)} inputs {self._names()}, got {len(inputs)}", "INPUTS")
        rows = -1
        seen = set()
        for tensor in inputs:
            check = self._inputs.get(tensor.name)
            if check is None:
                raise BadInput(f"unexpected input {tensor.name!r}; the model takes {self._names()}", "INPUTS")
            seen.add(tensor.name)
            found = check(tensor)
            if rows not in {-1, found}:
                raise BadInput(f"input {tensor.name!r} has {found} rows, another has {rows}", "SHAPE")
            rows = found
        if len(seen) != len(inputs):
            raise BadInput("an input is given twice", "INPUTS")
        if request.outputs:
            self._check_outputs(request.outputs)
        return rows

    def check_answer(self, outputs: Sequence[Tensor], rows: int, names: Sequence[str]) -> None:
        """Raise BackendBadReply unless these are the outputs asked for (none named: all), each with `rows` rows."""
        wanted = names or self._outputs
        if len(outputs) != len(wanted) or {tensor.name for tensor in outputs} != set(wanted):
            raise BackendBadReply("the model server's reply lacks an output, or has an extra one")
        for tensor in outputs:
            self._outputs[tensor.name].check_reply(tensor, rows)

    def empty_outputs(self, names: Sequence[str]) -> tuple[Tensor, ...]:
        """Return the outputs asked for (none named: all) with zero rows."""
        return tuple(
            Tensor(tensor.name, tensor.dtype, (0, *tensor.shape[1:]), b"")
            for tensor in self.spec.outputs
            if not names or tensor.name in names
        )

    def zeros(self, rows: int) -> tuple[Tensor, ...]:
        """Return valid inputs of `rows` rows that hold zeros (empty strings for BYTES): what a probe sends."""
        shapes = ((tensor, (rows, *tensor.shape[1:])) for tensor in self.spec.inputs)
        return tuple(
            Tensor(t.name, t.dtype, shape, bytes(prod(shape) * ITEM_BYTES.get(t.dtype, 4))) for t, shape in shapes
        )

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


class _InputCheck:
    """The check of one input: dtype, shape, and that the bytes are exactly what these say."""

    def __init__(self, spec: TensorSpec) -> None:
        if not spec.shape or spec.shape[0] != BATCH or BATCH in spec.shape[1:]:
            raise ValueError(
                f"input {spec.name!r}: the first dimension, and only the first, must be {BATCH}, got {spec.shape}"
            )
        self._spec = spec
        self._inner = spec.shape[1:]
        inner_elements = prod(self._inner)
        self._max_rows = MAX_ELEMENTS // inner_elements if inner_elements else 0
        self._row_bytes = inner_elements * ITEM_BYTES[spec.dtype] if spec.dtype in ITEM_BYTES else None

    def __call__(self, tensor: Tensor) -> int:
        if tensor.dtype != self._spec.dtype:
            raise self._error(f"dtype {tensor.dtype!r}, expected {self._spec.dtype}", "DTYPE")
        shape = tensor.shape
        if shape[1:] != self._inner or not shape or shape[0] < 0:
            raise self._error(f"shape {list(shape[: MAX_RANK + 1])}, expected {list(self._spec.shape)}", "SHAPE")
        if shape[0] > self._max_rows:
            raise self._error(f"{shape[0]} rows, at most {self._max_rows} fit one request", "SHAPE")
        if self._row_bytes is None:
            self._check_strings(tensor)
        elif len(tensor.data) != shape[0] * self._row_bytes:
            raise self._error(f"{len(tensor.data)} bytes of data, its shape says {shape[0] * self._row_bytes}", "BYTES")
        elif tensor.dtype == "BOOL" and tensor.data.translate(None, b"\0\1"):
            raise self._error("a BOOL is a byte 0 or 1", "RANGE")
        return shape[0]

    def _check_strings(self, tensor: Tensor) -> None:
        try:
            row_offsets(tensor)
        except ValueError as error:
            raise self._error(str(error), "BYTES") from None

    def _error(self, text: str, what: str) -> BadInput:
        return BadInput(f"input {self._spec.name!r}: {text}", what)


class _OutputCheck:
    """The check of one output in a reply: dtype, inner dimensions where the spec fixes them, rows and bytes."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec

    def check_reply(self, tensor: Tensor, rows: int) -> None:
        spec = self._spec
        fits = len(tensor.shape) == len(spec.shape) and tensor.shape[:1] == (rows,) and tensor.dtype == spec.dtype
        fits = (
            fits
            and min(tensor.shape) >= 0
            and all(size in {BATCH, found} for size, found in zip(spec.shape, tensor.shape, strict=True))
        )
        try:
            if fits and row_offsets(tensor)[-1] == len(tensor.data):
                return
        except ValueError:
            pass
        raise BackendBadReply(f"output {tensor.name!r} of the model server's reply is not {rows} rows of {spec.dtype}")
