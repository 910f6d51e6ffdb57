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
BATCHES_S, MAX_ELEMENTS = 1.0, 2**18
# How long a server may be busy, or a proof last, before its path counts as ready without one (servepath.runner gives a
# running server 10 s); how often one that is refused or not batched, or was not proven, is asked again.
PATIENCE_S, PROOF_S, AGAIN_S = 8.0, 60.0, 30.0
# Asks the server; the number is that of rows.
Ask = Callable[[Request, int], Awaitable[Answer | ServeError]]
Group = Mapping[str, Tensor]
# A proof, whose it is, whether requests are merged by it, and up to which batches.
Known = tuple["Proof | None", Provenance | None, bool, BatchLimits]


class Proof(NamedTuple):
    """What a server showed. difference: the largest from the reference, of rows alone; None where none was asked.

    refused: what is wrong with its answers to rows alone, unbatched: with those to batches; "" where nothing is.
    batch_rows: of the batch that something is wrong with. version: that answered.
    """

    difference: float | None = None
    refused: str = ""
    unbatched: str = ""
    batch_rows: int = 0
    version: int = 0


class NotYet(Exception):
    """The server is busy, or gone, or fails: nothing is known of it yet. The text says why."""


class Failing(NotYet):
    """The server fails on a row; one that goes on failing is refused."""


class GoldenRows:
    """The golden rows of one version of a model."""

    def __init__(self, model: str, spec: Spec, groups: Sequence[Group]) -> None:
        """spec: of what the path serves; its tolerances are those that count."""
        self._model = model
        self._spec = spec
        self._groups = [group for group in groups if _elements(spec, group) <= MAX_ELEMENTS]

    async def prove(self, ask: Ask, max_rows: int, max_bytes: int, *, least_rows: int = 2) -> Proof:
        """Return what a server shows when it is asked rows alone and up to `max_rows`, of `max_bytes`, together.

        least_rows: of the batches, however long they take. A group whose rows it does not take, such as too large ones,
        shows nothing. Raises NotYet.
        """
        worst, slowest_s = None, 0.0
        answered = []
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
            else:
                answered.append(group)
        affordable = min(max_rows, max(least_rows, int(BATCHES_S / max(len(answered), 1) / max(slowest_s, 1e-9))))
        for group in answered if self._spec.by_rows else ():
            rows = min(affordable, max_bytes // max(self._row_bytes(group), 1), self._most_compared(group))
            if rows > 1:
                numbers = [row % self._count(group) for row in range(rows)]
                asked = {name: _rows(tensor, numbers) for name, tensor in group.items()}
                outcome = await ask(self._request(asked), rows)
                if isinstance(outcome, BackendBadReply | BadInput | Internal | TooLarge):
                    return Proof(worst, unbatched=f"a batch of {rows} rows is refused: {outcome.text}", batch_rows=rows)
                _, wrong = await self._compared(outcome, asked)
                if wrong:
                    what = f"in a batch of {rows} rows, {wrong}; rows alone are right"
                    return Proof(worst, unbatched=what, batch_rows=rows)
        return Proof(worst)

    async def _compared(self, outcome: Answer | ServeError, wanted: Group) -> tuple[float, str]:
        if isinstance(outcome, ServeError):
            raise (Failing if isinstance(outcome, BackendBadReply | Internal) else NotYet)(outcome.text)
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


def compared(
    spec: Spec, outputs: Sequence[Tensor], wanted: Group, known_by: str = "the reference", *, values_shown: bool = True
) -> tuple[float, str]:
    """Return the largest difference of numbers, and what is first beyond its tolerance, "" where nothing is.

    known_by: who says what is wanted, in that text. values_shown: whether it may hold values of the answers.
    """
    found, worst, wrong = {tensor.name: tensor for tensor in outputs}, 0.0, ""
    for output in spec.outputs:
        own, reference = found.get(output.name), wanted[output.name]
        if own is None or own.shape != reference.shape or own.dtype != output.dtype:
            shown = f"{own.dtype} {list(own.shape)}" if own else "missing"
            return math.inf, f"output {output.name!r} is {shown}, expected {output.dtype} {list(reference.shape)}"
        if own.dtype == "BF16":  # nobody here can read it, and no import takes it
            continue
        values, known = _values(own), _values(reference)
        apart = [_apart(one, other) for one, other in zip(values, known, strict=True)] if own.dtype != "BYTES" else []
        worst = max(worst, max(apart, default=0.0))
        tolerance = spec.tolerance_of(output)
        if not wrong and not _agrees(tolerance, values, known, reference.shape):
            if values_shown:
                wrong = f"is {_shown(values, apart)}, {known_by} says {_shown(known, apart)}"
                wrong += f": {max(apart):.2g} apart, beyond {tolerance}" if apart else ""
            else:
                off = f"is {max(apart):.2g} apart" if apart else "differs"
                wrong = f"{off} from that of {known_by}, beyond {tolerance}"
            wrong = f"output {output.name!r} {wrong}"
    return worst, wrong


def _apart(one: float, other: float) -> float:
    """Return how far two numbers are apart: infinitely where one alone is finite."""
    if math.isfinite(one) and math.isfinite(other):
        return abs(one - other)
    return 0.0 if one == other or (math.isnan(one) and math.isnan(other)) else math.inf


def _shown(values: Sequence[Any], apart: Sequence[float]) -> str:
    """Return some values, from the one on that is furthest off."""
    begin = apart.index(max(apart)) if apart else 0
    shown = (f"{value:.6g}" if isinstance(value, float) else repr(value) for value in values[begin : begin + SHOWN])
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
    highest = max((each for each, known in zip(own, reference, strict=True) if known == best), default=-math.inf)
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
        self._asked_at: float | None = None
        self._lives = 0

    @property
    def known(self) -> "Known":
        """Return what is known of the server."""
        return self.proof, self._proven, self._batcher.merging, self._limits

    def believe(self, known: "Known") -> None:
        """Take over what is known of the same server, until it is proven with the batches of this path."""
        self.proof, self._proven, merging, limits = known
        within = self._limits.max_rows <= limits.max_rows and self._limits.max_bytes <= limits.max_bytes
        self._batcher.merging = merging and within

    def forget(self) -> None:
        """Prove the path again when it is back: its server may be another one."""
        self._lives += 1
        self.proof = self._proven = self._asked_at = None

    def wanted(self, served: Provenance) -> bool:
        """Return whether who answers now has to be proven."""
        return self._proven != _who(served) or monotonic() >= self._again_at

    async def prove(self, ask: Ask, served: Provenance) -> None:
        """Prove who answers now; merging stops or goes on by it. Raises nothing."""
        life, began = self._lives, self._asked_at or monotonic()
        self._asked_at, again_s = began, AGAIN_S
        known = self.proof if self._proven == _who(served) else None
        try:
            async with asyncio.timeout(PROOF_S):
                found = await self._proof(ask, served, known)
        except NotYet as error:
            if monotonic() < began + PATIENCE_S:
                return
            log.warning("%s is not proven: %s", _path(served), error)
            found = known or Proof(refused=str(error) if isinstance(error, Failing) else "", version=served.version)
        except TimeoutError:
            log.warning("%s is not proven: it takes more than %g s", _path(served), PROOF_S)
            found = known or Proof(version=served.version)
        except Exception:
            log.exception("%s is not proven", _path(served))
            found = known or Proof(version=served.version)
        else:
            again_s = AGAIN_S if found.refused or found.unbatched else math.inf
        if life != self._lives:
            return  # the server went meanwhile
        _say(served, found, known)
        self.proof, self._proven, self._asked_at = found, _who(served), None
        self._again_at = monotonic() + again_s
        self._batcher.merging = not found.unbatched

    async def _proof(self, ask: Ask, served: Provenance, known: Proof | None) -> Proof:
        async def ask_same(request: Request, rows: int) -> Answer | ServeError:
            outcome = await ask(request, rows)
            if isinstance(outcome, Answer) and _who(outcome.served) != _who(served):
                raise NotYet("another version answers than a moment ago")
            return outcome

        golden, precision = await asyncio.to_thread(self._golden, served)
        # A verdict on batches is lifted by batches of that size alone, also where the server is slower now.
        least_rows = max(2, known.batch_rows if known else 0)
        limits = self._limits
        found = await golden.prove(ask_same, limits.max_rows, limits.max_bytes, least_rows=least_rows)
        external = isinstance(self._artifacts, ExternalArtifacts)
        if found.refused and external and served.precision not in {"", precision}:
            # Its own choice, which its operator has said; the tolerance is not of that. Nothing is known of batches.
            found = Proof(found.difference, unbatched=f"it computes in {served.precision}: {found.refused}")
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


def _say(served: Provenance, proof: Proof, known: Proof | None) -> None:
    """Log a verdict, unless it is the one that is known."""
    if known and (bool(known.refused), bool(known.unbatched)) == (bool(proof.refused), bool(proof.unbatched)):
        return
    who = f"{_path(served)}: {served.engine} {served.engine_version}, version {served.version}"
    if proof.refused:
        log.error("%s, is refused: %s; check what that server loaded, and on which device", who, proof.refused)
    elif proof.unbatched:
        log.warning("%s: requests are not batched: %s", who, proof.unbatched)
    elif proof.difference is not None:
        log.info("%s is proven: at most %.2g away from the reference", who, proof.difference)
