"""A path's proof: golden rows of the model's reference, asked of its server alone and as many as are merged.

The export proved both where it ran. A server elsewhere computes on another device, in another order, or has loaded
something else; of TorchServe, TensorFlow Serving and external servers, this is where that is seen. No numpy: a few rows
are compared.
"""

import asyncio
import logging
import math
import operator
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from struct import unpack as unpack_struct
from time import monotonic, perf_counter
from typing import Any, NamedTuple

from servepath.artifacts.manifest import ArtifactError, artifact_folder, verify
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.protocols.errors import BackendBadReply, BadInput, Internal, ServeError, TooLarge
from servepath.protocols.safetensors import parse
from servepath.protocols.tensors import ITEM_BYTES, row_offsets, unpack
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from services.dataplane.batcher import Batcher, BatchLimits
from services.gateway.artifacts import Artifacts, ExternalArtifacts

log = logging.getLogger(__name__)
FORMAT, FILE = "reference", "reference.safetensors"
# Rows of each group that are asked alone; what the batches may take, by what the slowest row took; and the elements of
# an answer that are compared at once: 0.1 s (x86_64, 2026-11-29).
ALONE, BATCHES_S, MAX_ELEMENTS = 2, 1.0, 2**18
# What says of a batch that it is computed otherwise than its rows; anything else, that the server is busy or gone.
OF_THE_BATCH = (BackendBadReply, BadInput, Internal, TooLarge)
# A refused server is asked again so often.
AGAIN_S = 30.0
# Asks the server; the number is that of rows.
Ask = Callable[[Request, int], Awaitable[Answer | ServeError]]
Group = Mapping[str, Tensor]


class Proof(NamedTuple):
    """What a server showed. difference: the largest from the reference, of rows alone; None where there is none.

    fault: what is wrong with its answers to rows alone, why_unbatched: with those to batches; "" where nothing is.
    """

    difference: float | None = None
    fault: str = ""
    why_unbatched: str = ""


class NotYet(Exception):
    """The server is busy, or gone: nothing is known of it. The text says why."""


class GoldenRows:
    """The golden rows of one version of a model."""

    def __init__(self, model: str, spec: Spec, groups: Sequence[Group]) -> None:
        """spec: of what the path serves; its tolerances are those that count."""
        self._model = model
        self._spec = spec
        self._groups = groups

    async def prove(self, ask: Ask, max_rows: int, max_bytes: int) -> Proof:
        """Return what a server shows when it is asked rows alone and up to `max_rows`, of `max_bytes`, together.

        Raises NotYet.
        """
        worst = slowest_s = 0.0
        for group in self._groups:
            for row in range(min(ALONE, self._count(group))):
                asked = {name: _row(tensor, row) for name, tensor in group.items()} if self._spec.by_rows else group
                began = perf_counter()
                outcome = await ask(self._request(asked), 1)
                slowest_s = max(slowest_s, perf_counter() - began)
                if isinstance(outcome, BadInput | TooLarge | BackendBadReply):
                    return Proof(worst, f"a row of the reference is refused: {outcome.text}")
                difference, right = await self._compared(outcome, asked)
                worst = max(worst, difference)
                if not right:
                    what = f"{difference:.2g} away from the reference, beyond {self._spec.tolerance}"
                    return Proof(worst, f"an answer is {what}")
        affordable = min(max_rows, int(BATCHES_S / max(len(self._groups), 1) / max(slowest_s, 1e-9)))
        for group in self._groups if self._spec.by_rows and max_rows > 1 else ():
            rows = self._batch_rows(group, affordable, max_bytes)
            asked = {name: _repeated(tensor, rows) for name, tensor in group.items()}
            outcome = await ask(self._request(asked), rows)
            if isinstance(outcome, OF_THE_BATCH):
                return Proof(worst, why_unbatched=f"a batch of {rows} rows is refused: {outcome.text}")
            difference, right = await self._compared(outcome, asked)
            if not right:
                what = f"{difference:.2g} away from the reference, rows alone {worst:.2g}"
                return Proof(worst, why_unbatched=f"in a batch of {rows} rows, an answer is {what}")
        return Proof(worst if self._groups else None)

    async def _compared(self, outcome: Answer | ServeError, wanted: Group) -> tuple[float, bool]:
        if isinstance(outcome, ServeError):
            raise NotYet(outcome.text)
        return await asyncio.to_thread(compared, self._spec, outcome.outputs, wanted)

    def _batch_rows(self, group: Group, affordable: int, max_bytes: int) -> int:
        row_bytes = sum(len(group[tensor.name].data) for tensor in self._spec.inputs) // max(self._count(group), 1)
        elements = sum(math.prod(group[tensor.name].shape[1:]) for tensor in self._spec.outputs)
        return max(2, min(affordable, max_bytes // max(row_bytes, 1), MAX_ELEMENTS // max(elements, 1)))

    def _count(self, group: Group) -> int:
        return group[self._spec.inputs[0].name].shape[0] if self._spec.by_rows else 1

    def _request(self, asked: Group) -> Request:
        return Request(self._model, 0, tuple(asked[tensor.name] for tensor in self._spec.inputs))


def read_golden(exports: Path, model: str, version: int, spec: Spec) -> GoldenRows:
    """Return the golden rows of a version, none where it has no reference. Raises ArtifactError."""
    folder = artifact_folder(exports, model, FORMAT, version)
    if not (folder / FILE).is_file():
        return GoldenRows(model, spec, ())
    verify(folder)
    try:
        found = {tensor.name: tensor for tensor in parse((folder / FILE).read_bytes())[0]}
    except OSError as error:
        raise ArtifactError(f"{folder / FILE} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ArtifactError(f"{folder / FILE} cannot be read: it {error}") from error
    names = [tensor.name for tensor in spec.inputs + spec.outputs]
    marks = ["", *(f"#{number}" for number in range(1, len(found) // max(len(names), 1)))]
    if missing := [name + mark for mark in marks for name in names if name + mark not in found]:
        raise ArtifactError(f"{folder / FILE} has no tensor {missing[0]!r}")
    return GoldenRows(model, spec, [{name: found[name + mark]._replace(name=name) for name in names} for mark in marks])


def compared(spec: Spec, outputs: Sequence[Tensor], wanted: Group) -> tuple[float, bool]:
    """Return the largest difference of numbers with fractions, and whether all outputs are within their tolerance."""
    found, worst, right = {tensor.name: tensor for tensor in outputs}, 0.0, True
    for output in spec.outputs:
        own, reference = found.get(output.name), wanted[output.name]
        if own is None or own.shape != reference.shape or own.dtype != output.dtype:
            return math.inf, False
        if own.dtype == "BF16":  # nobody here can read it, and no import takes it
            continue
        difference, agrees = _agrees(spec, output, _values(own), _values(reference))
        worst, right = max(worst, difference), right and agrees
    return worst, right


def _agrees(spec: Spec, output: TensorSpec, own: Sequence[Any], reference: Sequence[Any]) -> tuple[float, bool]:
    tolerance = spec.tolerance_of(output)
    if not own or not isinstance(own[0], float):
        return 0.0, list(own) == list(reference)
    apart = [abs(one - other) for one, other in zip(own, reference, strict=True)]
    worst = max((each for each in apart if math.isfinite(each)), default=0.0)
    if tolerance.by_vector:
        width = max(int(output.sizes[-1]), 1) if output.sizes and output.sizes[-1] > 0 else 0
        return worst, _by_vector(tolerance, own, reference, width or len(own))
    return worst, all(map(partial(_near, tolerance), own, reference))


def _near(tolerance: Tolerance, own: float, reference: float) -> bool:
    """Return whether two numbers agree: a NaN with a NaN alone, and an infinity with itself."""
    if math.isfinite(reference):
        return bool(abs(own - reference) <= tolerance.limits(reference))
    return own == reference or (math.isnan(own) and math.isnan(reference))


def _by_vector(tolerance: Tolerance, own: Sequence[float], reference: Sequence[float], width: int) -> bool:
    return all(
        _vector_agrees(tolerance, own[at : at + width], reference[at : at + width]) for at in range(0, len(own), width)
    )


def _vector_agrees(tolerance: Tolerance, own: Sequence[float], reference: Sequence[float]) -> bool:
    if not all(map(math.isfinite, own)):
        return False
    if tolerance.cosine is not None:
        one, other = math.hypot(*own), math.hypot(*reference)
        return (one > 0) == (other > 0) and sum(map(operator.mul, own, reference)) >= tolerance.cosine * one * other
    best = max(reference)
    highest = max(each for each, known in zip(own, reference, strict=True) if known == best)
    return sum(each > highest for each in own) < (tolerance.top_k or 1)


def _values(tensor: Tensor) -> Sequence[Any]:
    if tensor.dtype == "FP16":
        return unpack_struct(f"<{len(tensor.data) // ITEM_BYTES['FP16']}e", tensor.data)
    return unpack(tensor.dtype, tensor.data)


def _row(tensor: Tensor, row: int) -> Tensor:
    ends = row_offsets(tensor)
    return tensor._replace(shape=(1, *tensor.shape[1:]), data=tensor.data[ends[row] : ends[row + 1]])


def _repeated(tensor: Tensor, rows: int) -> Tensor:
    """Return so many rows, from the first on and, where there are no more, from the first again."""
    count, ends = tensor.shape[0], row_offsets(tensor)
    whole, rest = divmod(rows, count)
    return tensor._replace(shape=(rows, *tensor.shape[1:]), data=tensor.data * whole + tensor.data[: ends[rest]])


class PathProver:
    """Proves one path, again when another engine or version answers, and from time to time while it is refused."""

    def __init__(
        self, exports: Path, artifacts: Artifacts | ExternalArtifacts, batcher: Batcher, limits: BatchLimits
    ) -> None:
        self._exports = exports
        self._artifacts = artifacts
        self._batcher = batcher
        self._limits = limits
        self._proven: Provenance | None = None
        self._proof = Proof()
        self._tried_at = 0.0

    def forget(self) -> None:
        """Prove the path again when it is back: its server may be another one."""
        self._proven = None

    async def proof(self, ask: Ask, served: Provenance) -> Proof:
        """Return the proof of who answers now; merging stops or goes on by it. Raises NotYet."""
        who = served._replace(gateway_us=0, backend_us=0, queue_us=0)
        again = self._proof.fault and monotonic() - self._tried_at >= AGAIN_S
        if self._proven == who and not again:
            return self._proof

        async def ask_same(request: Request, rows: int) -> Answer | ServeError:
            outcome = await ask(request, rows)
            if isinstance(outcome, Answer) and (outcome.served.version, outcome.served.sha256) != (
                who.version,
                who.sha256,
            ):
                raise NotYet("another version answers than a moment ago")
            return outcome

        self._tried_at = monotonic()
        golden = await asyncio.to_thread(self._golden, served.version)
        self._proof = await golden.prove(ask_same, self._limits.max_rows, self._limits.max_bytes)
        self._proven = who
        self._batcher.merging = not self._proof.why_unbatched
        _say(f"{served.model}@{served.stack}", served, self._proof)
        return self._proof

    def _golden(self, version: int) -> GoldenRows:
        """Return the golden rows of what answers; none of a reference that cannot be read, which no server can help."""
        current = self._artifacts.current
        own = self._artifacts.find_served(version) or current
        try:
            return read_golden(self._exports, own.model, own.version, own.spec)
        except ArtifactError as error:
            log.warning("%s is not proven: %s", own.model, error)
            return GoldenRows(own.model, own.spec, ())


def _say(path: str, served: Provenance, proof: Proof) -> None:
    who = f"{path}: {served.engine} {served.engine_version}, version {served.version}"
    if proof.fault:
        log.error("%s, is refused: %s; check what that server loaded, and on which device", who, proof.fault)
    elif proof.why_unbatched:
        log.warning("%s: requests are not batched: %s", who, proof.why_unbatched)
    elif proof.difference is not None:
        log.info("%s is proven: at most %.2g away from the reference", who, proof.difference)
