"""A path's proof: golden rows of the model's reference, asked of its server alone and as many as are merged.

The export proved both where it ran. A server elsewhere computes on another device, in another order, or has loaded
something else; of TorchServe, TensorFlow Serving and external servers, this is where that is seen.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from servepath.artifacts.manifest import ArtifactError, artifact_folder, verify
from servepath.artifacts.spec import Spec
from servepath.protocols.errors import BackendBadReply, BadInput, Internal, ServeError, TooLarge
from servepath.protocols.safetensors import parse
from servepath.protocols.tensors import row_offsets
from servepath.protocols.types import Answer, Request, Tensor
from services.gateway.answers import MAX_ELEMENTS, compared

FORMAT, FILE = "reference", "reference.safetensors"
# Rows of each group that are asked alone, and that batches are made of.
ALONE, KEPT = 2, 8
# What all batches together may take, by what the slowest row took.
BATCHES_S = 1.0
# Asks the server; the number is that of rows.
Ask = Callable[[Request, int], Awaitable[Answer | ServeError]]
Group = Mapping[str, Tensor]


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


def _elements(spec: Spec, group: Group) -> int:
    """Return the elements of an answer, to one row where there are rows."""
    return sum(math.prod(group[tensor.name].shape[spec.by_rows :]) for tensor in spec.outputs)


def _rows(tensor: Tensor, numbers: Sequence[int]) -> Tensor:
    ends = row_offsets(tensor)
    data = b"".join([tensor.data[ends[row] : ends[row + 1]] for row in numbers])
    return tensor._replace(shape=(len(numbers), *tensor.shape[1:]), data=data)
