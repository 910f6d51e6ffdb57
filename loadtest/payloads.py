"""Requests encoded before the measuring starts, and the answers that they must get.

Inputs and float64 answers come from the model's reference artifact, so that no framework is needed here, or from a file
(loadtest/replay.py).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from servepath.artifacts.manifest import ArtifactError
from servepath.artifacts.reference import Reference, read_reference
from servepath.artifacts.spec import Spec
from servepath.protocols.arrays import DTYPES
from servepath.protocols.probes import Expected, allowing, probe_request, reduced_spec
from servepath.protocols.types import Request
from servepath.settings import SettingsError

# Of the shapes that a model is sent, run.json names so many.
MAX_SHAPES = 8

Encode = Callable[[Request, str, int], bytes]


class Payload(NamedTuple):
    """One request as bytes on the wire, its number of rows and the answer it must get."""

    request: bytes
    rows: int
    expected: tuple[Expected, ...]


class PlannedRequest(NamedTuple):
    """One request before it is encoded. expected: the outputs that must come; None while nobody knows them."""

    request: Request
    rows: int
    expected: tuple[Expected, ...] | None


def load_reference(exports: Path, model: str) -> Reference:
    """Read the current reference of a model after checking its hashes. Raises ArtifactError."""
    reference = read_reference(exports, model)
    for tensor in reference.spec.inputs + reference.spec.outputs:
        if tensor.dtype not in DTYPES:
            raise ArtifactError(f"{model}: the load test cannot send or check {tensor.dtype} ({tensor.name!r}) yet")
    return reference


def prepare(reference: Reference, model: str, encode: Encode, *, rows: int, seed: int) -> list[Payload]:
    """Return the requests that `from_reference` gives, encoded for `model`."""
    return encoded(from_reference(reference, rows=rows, seed=seed), model, encode)


def from_reference(reference: Reference, *, rows: int, seed: int) -> list[PlannedRequest]:
    """Return the reference cut into requests of `rows` rows, in an order drawn from the seed.

    A reference row is in one request at most, so a run repeats none before it has sent all of them; rows of a group
    that are too few for a last request are in none. The same seed gives every path of a model the same inputs in the
    same order. A request whose model has no rows is a group.
    """
    draw = np.random.default_rng(seed)
    picks: list[tuple[int, Any, int]] = []
    for group, arrays in enumerate(reference.groups):
        if not reference.spec.by_rows:
            picks.append((group, ..., 1))
            continue
        order = draw.permutation(len(arrays[reference.spec.inputs[0].name]))
        picks += [(group, order[start : start + rows], rows) for start in range(0, len(order) - rows + 1, rows)]
    if len(reference.groups) > 1:
        picks = [picks[place] for place in draw.permutation(len(picks))]
    asked = [(probe_request(reference, pick, group), count) for group, pick, count in picks]
    return [PlannedRequest(one.request, count, one.expected) for one, count in asked]


def encoded(planned: Sequence[PlannedRequest], model: str, encode: Encode) -> list[Payload]:
    """Return requests as bytes that ask for `model`; where nobody knows the answer, none is expected."""
    return [Payload(encode(one.request, model, 0), one.rows, one.expected or ()) for one in planned]


def payloads_of(payloads: Sequence[Payload], worker: int, workers: int) -> Sequence[Payload]:
    """Return one worker's part of the requests; all of them where it would have none."""
    return payloads[worker::workers] or payloads


def on_path(
    payloads: list[Payload], exports: Path, model: str, stack: str, known_by: Spec | None = None
) -> list[Payload]:
    """Return payloads with what must come on a path: a reduced precision has tolerances of its own, of rows alone.

    known_by: the spec of the path whose answers are expected, where they are not the reference's. Raises SettingsError
    for requests of several rows that depend on each other there.
    """
    spec = reduced_spec(exports, model, stack)
    if spec is None:
        return payloads
    if not spec.row_independent and (rows := max(payload.rows for payload in payloads)) > 1:
        raise SettingsError(
            f"{model}@{stack} answers a row otherwise beside others, so requests of {rows} rows cannot be checked; "
            "send one row per request"
        )
    own = [allowing(payload.expected, spec) for payload in payloads]
    if known_by is not None:
        own = [_apart(expected, known_by) for expected in own]
    return [payload._replace(expected=expected) for payload, expected in zip(payloads, own, strict=True)]


def _apart(expected: tuple[Expected, ...], known_by: Spec) -> tuple[Expected, ...]:
    """Return the same with wider limits: the path that gave the answers may be off by its tolerance, too."""
    off = {tensor.name: known_by.tolerance_of(tensor) for tensor in known_by.outputs}
    return tuple(want._replace(limits=want.limits + off[want.name].limits(want.values)) for want in expected)


def shapes(planned: Sequence[PlannedRequest]) -> dict[str, Any]:
    """Return how many requests there are and of which shapes, the most frequent first, as run.json has it.

    The order of the requests, which is drawn, does not change it.
    """
    counts = Counter(tuple((tensor.name, tensor.shape) for tensor in one.request.inputs) for one in planned)
    found = [
        {"inputs": {name: list(shape) for name, shape in inputs}, "requests": count}
        for inputs, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:MAX_SHAPES]
    ]
    return {"requests": len(planned), "shapes": found, "more_shapes": len(counts) - len(found)}
