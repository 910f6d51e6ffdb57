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
from servepath.artifacts.spec import Spec, Tolerance
from servepath.protocols.errors import BackendBadReply, BadInput, Internal, ServeError, TooLarge
from servepath.protocols.safetensors import parse
from servepath.protocols.tensors import ITEM_BYTES, row_offsets, unpack
from servepath.protocols.types import Answer, Provenance, Request, Tensor
from services.dataplane.batcher import Batcher, BatchLimits
from services.gateway.artifacts import Artifacts, ExternalArtifacts

log = logging.getLogger(__name__)
FORMAT, FILE = "reference", "reference.safetensors"
# Of an output that is wrong, in messages.
SHOWN = 4
# Rows of each group that are asked alone, and that batches are made of.
ALONE, KEPT = 2, 8
# What all batches together may take, by what the slowest row took. Elements of an answer that are compared: 2**18 take
# 0.1 s (x86_64, 2026-11-29).
BATCHES_S, MAX_ELEMENTS = 1.0, 2**20
# How long a server may be busy before its path counts as ready without a proof; how often one that is refused or not
# batched, or was not proven, is asked again.
PATIENCE_S, AGAIN_S = 30.0, 30.0
# Asks the server; the number is that of rows.
Ask = Callable[[Request, int], Awaitable[Answer | ServeError]]
Group = Mapping[str, Tensor]


class Proof(NamedTuple):
    """What a server showed. difference: the largest from the reference, of rows alone; None where none was asked.

    refused: what is wrong with its answers to rows alone, unbatched: with those to batches; "" where nothing is.
    version: that answered.
    """

    difference: float | None = None
    refused: str = ""
    unbatched: str = ""
    version: int = 0


class NotYet(Exception):
    """The server is busy, or gone: nothing is known of it. The text says why."""


class GoldenRows:
    """The golden rows of one version of a model."""

    def __init__(self, model: str, spec: Spec, groups: Sequence[Group]) -> None:
        """spec: of what the path serves; its tolerances are those that count."""
        self._model = model
        self._spec = spec
        self._groups = [group for group in groups if _elements(spec, group) <= MAX_ELEMENTS]

    async def prove(self, ask: Ask, max_rows: int, max_bytes: int) -> Proof:
        """Return what a server shows when it is asked rows alone and up to `max_rows`, of `max_bytes`, together.

        A row that it does not take, such as one that is too large for it, shows nothing. Raises NotYet.
        """
        worst, slowest_s = None, 0.0
        for group in self._groups:
            for row in range(min(ALONE, self._count(group))):
                asked = {name: _rows(tensor, [row]) for name, tensor in group.items()} if self._spec.by_rows else group
                began = perf_counter()
                outcome = await ask(self._request(asked), 1)
                slowest_s = max(slowest_s, perf_counter() - began)
                if isinstance(outcome, BadInput | TooLarge):
                    break
                difference, wrong = await self._compared(outcome, asked)
                worst = max(worst or 0.0, difference)
                if wrong:
                    return Proof(worst, refused=wrong)
        affordable = min(max_rows, max(2, int(BATCHES_S / max(len(self._groups), 1) / max(slowest_s, 1e-9))))
        for group in self._groups if self._spec.by_rows and worst is not None else ():
            rows = min(affordable, max_bytes // max(self._row_bytes(group), 1), self._most_compared(group))
            if rows > 1:
                numbers = [row % self._count(group) for row in range(rows)]
                asked = {name: _rows(tensor, numbers) for name, tensor in group.items()}
                outcome = await ask(self._request(asked), rows)
                if isinstance(outcome, BackendBadReply | BadInput | Internal | TooLarge):
                    return Proof(worst, unbatched=f"a batch of {rows} rows is refused: {outcome.text}")
                _, wrong = await self._compared(outcome, asked)
                if wrong:
                    return Proof(worst, unbatched=f"in a batch of {rows} rows, {wrong}; rows alone are right")
        return Proof(worst)

    async def _compared(self, outcome: Answer | ServeError, wanted: Group) -> tuple[float, str]:
        if isinstance(outcome, ServeError):
            raise NotYet(outcome.text)
        return await asyncio.to_thread(compared, self._spec, outcome.outputs, wanted)

    def _row_bytes(self, group: Group) -> int:
        return sum(len(group[tensor.name].data) for tensor in self._spec.inputs) // max(self._count(group), 1)

    def _most_compared(self, group: Group) -> int:
        return MAX_ELEMENTS // max(_elements(self._spec, group), 1)

    def _count(self, group: Group) -> int:
        return group[self._spec.inputs[0].name].shape[0] if self._spec.by_rows else 1

    def _request(self, asked: Group) -> Request:
        return Request(self._model, 0, tuple(asked[tensor.name] for tensor in self._spec.inputs))


def read_golden(exports: Path, model: str, version: int, spec: Spec) -> GoldenRows:
    """Return the golden rows of a version, none where it has no reference. Raises ArtifactError."""
    folder = artifact_folder(exports, model, FORMAT, version)
    if not (folder / FILE).is_file():
        return GoldenRows(model, spec, ())
    try:
        verify(folder)
        found = {tensor.name: tensor for tensor in parse((folder / FILE).read_bytes())[0]}
    except OSError as error:
        raise ArtifactError(f"{folder / FILE} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ArtifactError(f"{folder / FILE} cannot be read: it {error}") from error
    names = [tensor.name for tensor in spec.inputs + spec.outputs]
    marks = ["", *(f"#{number}" for number in range(1, len(found) // max(len(names), 1)))]
    if missing := [name + mark for mark in marks for name in names if name + mark not in found]:
        raise ArtifactError(f"{folder / FILE} has no tensor {missing[0]!r}")
    groups = [{name: found[name + mark]._replace(name=name) for name in names} for mark in marks]
    if spec.by_rows:
        groups = [{n: _rows(t, range(min(KEPT, t.shape[0]))) for n, t in group.items()} for group in groups]
    return GoldenRows(model, spec, groups)


def compared(spec: Spec, outputs: Sequence[Tensor], wanted: Group) -> tuple[float, str]:
    """Return the largest difference of numbers, and what is beyond its tolerance, "" where nothing is."""
    found, worst = {tensor.name: tensor for tensor in outputs}, 0.0
    for output in spec.outputs:
        own, reference = found.get(output.name), wanted[output.name]
        if own is None or own.shape != reference.shape or own.dtype != output.dtype:
            shown = f"{own.dtype} {list(own.shape)}" if own else "missing"
            return math.inf, f"output {output.name!r} is {shown}, expected {output.dtype} {list(reference.shape)}"
        if own.dtype == "BF16":  # nobody here can read it, and no import takes it
            continue
        values, known = _values(own), _values(reference)
        apart = [abs(one - other) for one, other in zip(values, known, strict=True)] if own.dtype != "BYTES" else []
        worst = max(worst, *filter(math.isfinite, apart), 0.0)
        tolerance = spec.tolerance_of(output)
        if not _agrees(tolerance, values, known, reference.shape):
            return worst, (
                f"output {output.name!r} is {_shown(values)}, the reference says {_shown(known)}: "
                f"{worst:.2g} apart, beyond {tolerance}"
            )
    return worst, ""


def _shown(values: Sequence[Any]) -> str:
    shown = (f"{value:.6g}" if isinstance(value, float) else repr(value) for value in values[:SHOWN])
    return f"[{', '.join(shown)}]"


def _agrees(tolerance: Tolerance, own: Sequence[Any], reference: Sequence[Any], shape: Sequence[int]) -> bool:
    if not own or not isinstance(own[0], float):
        return list(own) == list(reference)
    if not tolerance.by_vector:
        return all(map(partial(_near, tolerance), own, reference))
    width = shape[-1] if shape else 1
    return all(
        _vector_agrees(tolerance, own[at : at + width], reference[at : at + width]) for at in range(0, len(own), width)
    )


def _near(tolerance: Tolerance, own: float, reference: float) -> bool:
    """Return whether two numbers agree: a NaN with a NaN alone, and an infinity with itself."""
    if math.isfinite(reference):
        return bool(abs(own - reference) <= tolerance.limits(reference))
    return own == reference or (math.isnan(own) and math.isnan(reference))


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


def _elements(spec: Spec, group: Group) -> int:
    """Return the elements of an answer, to one row where there are rows."""
    return sum(math.prod(group[tensor.name].shape[spec.by_rows :]) for tensor in spec.outputs)


def _rows(tensor: Tensor, numbers: Sequence[int]) -> Tensor:
    ends = row_offsets(tensor)
    data = b"".join([tensor.data[ends[row] : ends[row + 1]] for row in numbers])
    return tensor._replace(shape=(len(numbers), *tensor.shape[1:]), data=data)


class PathProver:
    """Proves one path, again when another engine or version answers; now and then while something is wrong with it."""

    def __init__(
        self, exports: Path, artifacts: Artifacts | ExternalArtifacts, batcher: Batcher, limits: BatchLimits
    ) -> None:
        self.proof: Proof | None = None
        self._exports = exports
        self._artifacts = artifacts
        self._batcher = batcher
        self._limits = limits
        self._proven: Provenance | None = None
        self._again_at = 0.0
        self._give_up_at: float | None = None

    def forget(self) -> None:
        """Prove the path again when it is back: its server may be another one."""
        self.proof = self._proven = self._give_up_at = None

    def wanted(self, served: Provenance) -> bool:
        """Return whether who answers now has to be proven."""
        return self._proven != _who(served) or monotonic() >= self._again_at

    async def prove(self, ask: Ask, served: Provenance) -> None:
        """Prove who answers now; merging stops or goes on by it. Raises nothing."""
        if self._give_up_at is None:
            self._give_up_at = monotonic() + PATIENCE_S
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await self._proof(ask, served)
        except (NotYet, TimeoutError) as error:
            if monotonic() < self._give_up_at:
                return
            log.warning("%s is not proven: %s", _path(served), error or f"it takes more than {PATIENCE_S:g} s")
            found = self.proof or Proof()
            self._again_at = monotonic() + AGAIN_S
        else:
            odd = found.refused or found.unbatched
            self._again_at = monotonic() + AGAIN_S if odd else math.inf
            if (found, _who(served)) != (self.proof, self._proven):
                _say(served, found)
        self.proof, self._proven, self._give_up_at = found, _who(served), None
        self._batcher.merging = not found.unbatched

    async def _proof(self, ask: Ask, served: Provenance) -> Proof:
        async def ask_same(request: Request, rows: int) -> Answer | ServeError:
            outcome = await ask(request, rows)
            if isinstance(outcome, Answer) and _who(outcome.served) != _who(served):
                raise NotYet("another version answers than a moment ago")
            return outcome

        golden, precision = await asyncio.to_thread(self._golden, served)
        found = await golden.prove(ask_same, self._limits.max_rows, self._limits.max_bytes)
        if found.refused and served.precision not in {"", precision}:
            # An external server's own choice: its operator has said so, and the tolerance is not of that.
            log.warning("%s computes in %s: %s", _path(served), served.precision, found.refused)
            found = found._replace(refused="")
        return found._replace(version=served.version)

    def _golden(self, served: Provenance) -> tuple[GoldenRows, str]:
        """Return the golden rows of what answers and its precision; no rows where the reference cannot be read."""
        own = self._artifacts.find_served(served.version) or self._artifacts.current
        try:
            return read_golden(self._exports, own.model, own.version, own.spec), own.spec.precision
        except ArtifactError as error:
            log.warning("%s is not proven: %s", _path(served), error)  # no server can help that
            return GoldenRows(own.model, own.spec, ()), own.spec.precision


def _who(served: Provenance) -> Provenance:
    return served._replace(gateway_us=0, backend_us=0, queue_us=0)


def _path(served: Provenance) -> str:
    return f"{served.model}@{served.stack}"


def _say(served: Provenance, proof: Proof) -> None:
    who = f"{_path(served)}: {served.engine} {served.engine_version}, version {served.version}"
    if proof.refused:
        log.error("%s, is refused: %s; check what that server loaded, and on which device", who, proof.refused)
    elif proof.unbatched:
        log.warning("%s: requests are not batched: %s", who, proof.unbatched)
    elif proof.difference is not None:
        log.info("%s is proven: at most %.2g away from the reference", who, proof.difference)
