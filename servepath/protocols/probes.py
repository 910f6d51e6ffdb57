"""Probe requests, whose answers are known: rows of a model's reference, asked of a server, and its answers checked.

The runner, the load test, the cost of paths and the studies know by it whether a path answers correctly.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import grpc
import numpy as np

from servepath.artifacts.manifest import AGAIN, artifact_folder, current_version, read_manifest
from servepath.artifacts.reference import Reference, read_reference
from servepath.artifacts.spec import BATCH, EXACT, FP32, Spec, Tolerance, within
from servepath.protocols.arrays import Array, from_values, to_array
from servepath.protocols.stacks import PATH_STACKS
from servepath.protocols.types import Answer, Request, Tensor

ROWS = 8
# As long as the gateway's own probe has, since a model may be slow; a server that is away refuses at once.
CALL_S = 15.0
OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a server that is started again is another one
)


class WrongAnswer(Exception):
    """A path answered something else than the reference; the text names it."""


class NotReady(Exception):
    """A call was not answered; the text says why."""


class Expected(NamedTuple):
    """One output that must come: values of `shape`, float64 where they have fractions, else of their own dtype.

    limits: how far each element may be off; tolerance: what is asked instead where it is by vector.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: Array
    limits: Array
    tolerance: Tolerance = EXACT


class ProbeRequest(NamedTuple):
    """A request, the version that must answer it, and the outputs that must come."""

    request: Request
    version: int
    expected: tuple[Expected, ...]


def probe_request(reference: Reference, pick: Any, group: int = 0) -> ProbeRequest:
    """Return the probe request of some rows of a reference's group. pick: a slice, their numbers, or ... for all."""
    spec, arrays = reference.spec, reference.groups[group]
    inputs = tuple(from_values(tensor.name, tensor.dtype, arrays[tensor.name][pick]) for tensor in spec.inputs)
    outputs = [(t, wanted(arrays[t.name][pick]), spec.tolerance_of(t)) for t in spec.outputs]
    expected = tuple(
        Expected(tensor.name, tensor.dtype, values.shape, values, tolerance.limits(values), tolerance)
        for tensor, values, tolerance in outputs
    )
    return ProbeRequest(Request(reference.model, 0, inputs), reference.version, expected)


def wanted(values: Array) -> Array:
    """Return what an output is compared with: float64, but for whole numbers, which that rounds beyond 2**53."""
    return values.astype(np.float64) if values.dtype.kind == "f" else values


def read_probe_request(exports: Path, model: str, stack: str) -> ProbeRequest:
    """Return the probe request of a path: the first rows of its model's current reference. Raises ArtifactError."""
    reference = read_reference(exports, model)
    spec = reduced_spec(exports, model, stack)
    rows = min(ROWS, reference.spec.max_sizes.get(BATCH, ROWS)) if spec is None or spec.row_independent else 1
    asked = probe_request(reference, slice(rows) if reference.spec.by_rows else ...)
    return asked if spec is None else asked._replace(expected=allowing(asked.expected, spec))


def reduced_spec(exports: Path, model: str, stack: str) -> Spec | None:
    """Return the model's spec in a path's reduced precision, None on a path of full precision. Raises ArtifactError."""
    on = PATH_STACKS.get(stack)
    if on is None or on.precision == FP32:
        return None
    return read_manifest(artifact_folder(exports, model, on.artifact_format, current_version(exports, model))).spec


def allowing(expected: tuple[Expected, ...], spec: Spec) -> tuple[Expected, ...]:
    """Return the same values within the tolerances of another spec of the model."""
    tolerances = {tensor.name: spec.tolerance_of(tensor) for tensor in spec.outputs}
    return tuple(
        want._replace(limits=tolerances[want.name].limits(want.values), tolerance=tolerances[want.name])
        for want in expected
    )


def fault(outputs: Sequence[Tensor], expected: Sequence[Expected]) -> str:
    """Return what is wrong with an answer, "" when it has exactly the expected outputs within their limits."""
    by_name = {tensor.name: tensor for tensor in outputs}
    wanted = {want.name for want in expected}
    if len(outputs) != len(expected) or by_name.keys() != wanted:
        return f"answered outputs {sorted(tensor.name for tensor in outputs)}, expected {sorted(wanted)}"
    return next(filter(None, (_difference(by_name[want.name], want) for want in expected)), "")


def check(path: str, answer: Answer, asked: ProbeRequest) -> None:
    """Raise WrongAnswer unless an answer is the expected one."""
    if what := fault(answer.outputs, asked.expected):
        raise WrongAnswer(f"{path} {what}")


class ProbeClient:
    """Calls one server; use it in a `with` statement. metadata: gives what to send along."""

    def __init__(self, address: str, metadata: Callable[[], Sequence[tuple[str, str]]] = tuple) -> None:
        self._channel = grpc.insecure_channel(address, OPTIONS)
        self._metadata = metadata

    def call(self, method: str, payload: bytes, timeout_s: float = CALL_S) -> bytes:
        """Return the reply's bytes. Raises NotReady."""
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
        try:
            return call(payload, timeout=timeout_s, metadata=tuple(self._metadata()))
        except grpc.RpcError as error:
            raise NotReady(f"{error.code().name}: {error.details()}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()


def _difference(tensor: Tensor, want: Expected) -> str:
    try:
        values = to_array(tensor)
    except ValueError:
        return f"answered {tensor.name} in bytes that do not match its dtype and shape"
    if tensor.dtype != want.dtype:
        return f"answered {tensor.name} as {tensor.dtype}, expected {want.dtype}"
    with np.errstate(invalid="ignore"):  # infinities have no difference
        if want.values.dtype.kind != "f":
            agrees = np.array_equal(values, want.values)
        elif want.tolerance.by_vector:
            agrees = want.tolerance.holds(values.astype(np.float64), want.values)
        else:
            agrees = within(values, want.values, want.limits)
    if not agrees:
        return (
            f"returned an incorrect response: {tensor.name} is {values.ravel()[:4].tolist()}, the reference says "
            f"{want.values.ravel()[:4].tolist()}; check what that server loaded, or {AGAIN}"
        )
    return ""
