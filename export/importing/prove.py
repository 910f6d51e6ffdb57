"""What a model is, found by trying it: axes, rows, repeatability, tolerance, and the answers that stacks must give.

A file's declaration is where this starts, and is believed in nothing that can be tried. `run` is the model in the
runtime that reads the file; whatever it raises is the runtime's word on the inputs that it was given.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType

import numpy as np

from export.importing.answers import cut, first_line, joined, largest, same
from export.importing.axes import FIX, Axes, Declared, find_outputs, find_sizes, name_axes
from export.importing.draw import Arrays, Sizes, is_mask, sized
from export.importing.errors import Refused
from export.importing.hints import Hints
from export.importing.rows import BATCH_ROWS, MOST_ROWS, find_padded, find_rows, find_tolerances
from export.importing.trial import Failed, Run, Trial
from export.parity import close
from servepath.artifacts.spec import BATCH, EXACT, FP32, Spec, TensorSpec, Tolerance
from servepath.protocols.arrays import DTYPES
from servepath.protocols.signature import MAX_RANK, MAX_TENSORS

__all__ = ["Declared", "Proof", "Run", "cut", "first_line", "prove"]

# A group of the reference has MOST_ROWS rows, or as many as fit the bytes.
GROUP_BYTES = 2**20
# Groups where a request has no rows.
SINGLE_GROUPS = 8
# The largest size of an open axis, by the input's public name and the axis' place.
Bounds = Mapping[tuple[str, int], int]
# By what numpy, PyTorch, ONNX, TensorFlow and TFLite call the dtypes. What is not here, such as an index, says nothing.
PRECISION_OF = MappingProxyType(
    {"float": FP32, "float32": FP32, "float16": "fp16", "bfloat16": "bf16", "float64": "fp64", "double": "fp64"}
    | {"int8": "int8", "uint8": "int8"}
)
NO_BOUNDS: Bounds = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found. groups: inputs and answers by name. notes: sentences for the user."""

    spec: Spec
    groups: Sequence[Arrays]
    notes: Sequence[str]


def prove(
    inputs: Sequence[Declared],
    run: Run,
    hints: Hints,
    samples: Sequence[Arrays] = (),
    outputs: Mapping[str, Axes] | None = None,
    *,
    weights: Iterable[tuple[str, int]],
    exact: Run | None = None,
    bounds: Bounds = NO_BOUNDS,
) -> Proof:
    """Try the model and return what it is.

    samples: requests that it must answer, in place of drawn ones: inputs by name, and the answers that are known.
    outputs: the axes of outputs as the file declares them. weights: dtype and number of elements of each. exact: the
    model in float64, whose answers are the reference where it can be run so. bounds: the largest sizes of axes, where
    the file has them. Raises Refused with the one reason why it cannot be served.
    """
    if not inputs:
        raise Refused("the model has no inputs, so there is nothing to ask it")
    trial = Trial(name_axes(inputs), run, hints, samples)
    try:
        proof = _prove(trial, samples, outputs or {}, exact, bounds)
    except Failed as error:
        what = "a sample" if samples else "some drawn inputs and not on all"
        raise Refused(f"the model does not run on {what}: {error}{'' if samples else FIX}") from error
    return replace(proof, spec=replace(proof.spec, precision=precision_of(weights)))


def precision_of(weights: Iterable[tuple[str, int]]) -> str:
    """Return what most of a model is computed in, from dtype and number of elements of its weights.

    The dtype is that in which a weight is stored, whatever it is cast to; of Keras layers, which say what they compute
    in, that. Of a model with several, the dtype of most elements counts: int8 with biases of float32 is int8.
    """
    counts: Counter[str] = Counter()
    for dtype, elements in weights:
        counts[PRECISION_OF.get(dtype.lower(), "")] += elements
    counts.pop("", None)
    return max(counts, key=counts.__getitem__, default=FP32)


def _prove(
    trial: Trial, samples: Sequence[Arrays], declared: Mapping[str, Axes], exact: Run | None, bounds: Bounds
) -> Proof:
    base = find_sizes(trial)
    asked = trial.ask(base, seed=0)
    answer = trial.answer(asked)
    _check_repeatable(trial, asked, answer, base)
    outputs, sizes = find_outputs(trial, base, answer, declared)
    tolerances = find_tolerances(trial, asked, answer)
    _check_samples(trial, samples, tolerances)
    most = _max_sizes(trial.inputs, bounds, trial.hints.max_sizes)
    spec = Spec(trial.inputs, outputs, row_independent=False, tolerance=EXACT, max_sizes=most)
    if spec.by_rows:
        try:
            rows = min(MOST_ROWS, most.get(BATCH, MOST_ROWS))
            independent, tolerances = find_rows(trial, base, tolerances, rows)
        except Failed as error:
            independent = False
            trial.notes.append(f"rows could not be tried alone and together ({error}): requests are never batched")
        spec = replace(spec, row_independent=independent)
    else:
        trial.notes.append("no batch axis that all tensors begin with: every request runs alone, none are batched")
    masks = [tensor.name for tensor in trial.inputs if is_mask(tensor) and tensor.name not in trial.ranges]
    trial.notes += [f"{name!r} was drawn as ones, then zeros: a row of zeros alone was not tried" for name in masks]
    spec = _with_tolerances(spec, tolerances)
    if spec.row_independent:
        try:
            spec, notes = find_padded(trial, base, spec)
        except Failed as error:  # as of a network that takes some lengths alone
            notes = [f"rows could not be filled up ({error}): requests of several sizes are never batched"]
        trial.notes += notes
        spec = _with_tolerances(spec, {t.name: t.tolerance for t in spec.outputs if t.tolerance})
    _check_limits(spec)
    groups = tuple(_groups(trial, spec, sizes))
    if exact is not None and (better := _in_float64(spec, groups, exact)):
        groups = better
        trial.notes.append("the reference is the model in float64")
    return Proof(spec, groups, tuple(trial.notes))


def _max_sizes(inputs: Sequence[TensorSpec], bounds: Bounds, said: Mapping[str, int]) -> dict[str, int]:
    """Return the largest size of each open axis that has one, by its name: the file's, or a smaller one said."""
    found: dict[str, int] = {}
    for tensor in inputs:
        for place, axis in enumerate(tensor.shape):
            known = [most for most in (bounds.get((tensor.name, place)), said.get(str(axis))) if most is not None]
            if isinstance(axis, str) and known:
                found[axis] = min(*known, found.get(axis, known[0]))
    return found


def _in_float64(spec: Spec, groups: Sequence[Arrays], exact: Run) -> tuple[Arrays, ...]:
    """Return the groups with the answers of the model in float64, none where it has none or others than its own.

    A graph that fixes a precision of its own inside fails, or answers in that.
    """
    trial = Trial(spec.inputs, exact, Hints(), ())
    found = []
    for group in groups:
        inputs = {tensor.name: group[tensor.name] for tensor in spec.inputs}
        try:
            answers = _row_by_row(trial, inputs) if spec.by_rows else trial.answer(inputs)
        except (Failed, Refused):
            return ()
        for tensor in spec.outputs:
            values, own = answers[tensor.name], group[tensor.name]
            wide = values.dtype == np.float64 or own.dtype.kind != "f"
            if not wide or not close(own, values, spec.tolerance_of(tensor)):
                return ()
        found.append({**group, **answers})
    return tuple(found)


def _with_tolerances(spec: Spec, tolerances: Mapping[str, Tolerance]) -> Spec:
    """Return the spec with each output's tolerance, and as the model's the widest of them."""
    outputs = tuple(replace(tensor, tolerance=tolerances.get(tensor.name)) for tensor in spec.outputs)
    widest = max(tolerances.values(), key=lambda each: (each.atol, each.rtol), default=EXACT)
    return replace(spec, outputs=outputs, tolerance=widest)


def _check_limits(spec: Spec) -> None:
    """Raise Refused for a model that no call could reach."""
    if (count := max(len(spec.inputs), len(spec.outputs))) > MAX_TENSORS:
        raise Refused(f"the model has {count} inputs or outputs, a call has at most {MAX_TENSORS}")
    for tensor in spec.outputs:
        if not tensor.shape and spec.tolerance_of(tensor).by_vector:
            raise Refused(
                f"[tolerance]: output {tensor.name!r} has no axis along which {spec.tolerance} could be asked"
            )
    for tensor in spec.inputs + spec.outputs:
        if len(tensor.shape) > MAX_RANK:
            raise Refused(f"{tensor.name!r} has {len(tensor.shape)} axes, a tensor of a call has at most {MAX_RANK}")
    names = [tensor.name for tensor in spec.inputs + spec.outputs]
    for name in names:
        # "#" parts the groups of a reference, the other name is what safetensors has for itself.
        if not name or not name.isprintable() or "#" in name or name == "__metadata__":
            raise Refused(f"no tensor can be called {name!r} here: say another in [names] of a spec file")
    if twice := [name for name in names if names.count(name) > 1]:
        raise Refused(
            f"an input and an output are both called {twice[0]!r}: answers could not be told from requests; "
            "give one of them another name in the model"
        )


def _check_repeatable(trial: Trial, asked: Arrays, answer: Arrays, base: Sizes) -> None:
    """Raise Refused unless the same request has the same answer, at once and after another one."""
    if not same(answer, trial.answer(asked)):
        raise Refused("the same request twice gets two answers: the model draws random numbers or keeps state")
    try:
        trial.answer(trial.draw(base, seed=2))
    except Failed:
        if not trial.samples:
            raise
    if not same(answer, trial.answer(asked)):
        raise Refused("a request's answer depends on the request before it: the model keeps state")
    floats = [values for values in answer.values() if values.dtype.kind == "f" and values.size]
    if floats and all(np.isnan(values).all() for values in floats):
        raise Refused("every element of every answer is NaN; look at the model's weights")


def _check_samples(trial: Trial, samples: Sequence[Arrays], tolerances: Mapping[str, Tolerance]) -> None:
    """Raise Refused unless the model answers every sample as it must."""
    for (inputs, _), sample in zip(trial.samples, samples, strict=True):
        found = trial.answer(inputs)
        for name in sample.keys() - inputs.keys():
            wanted = np.asarray(sample[name])
            if name not in found:
                raise Refused(f"a sample has an answer {name!r}; the model's outputs are {', '.join(found)}")
            values, tolerance = found[name], tolerances.get(name, EXACT)
            if values.dtype != wanted.dtype or not close(values, wanted, tolerance):
                shapes = f"{wanted.dtype} {list(wanted.shape)}, the model gives {values.dtype} {list(values.shape)}"
                raise Refused(
                    f"a sample's answer {name!r} is {shapes}, {largest(values, wanted):.3g} away where finite; "
                    f"the tolerance is {tolerance}"
                )


def _groups(trial: Trial, spec: Spec, sizes: Sequence[Sizes]) -> Iterator[Arrays]:
    """Yield the groups of the reference: samples, or what is drawn of each shape; by rows, each row is asked alone."""
    if trial.samples:
        asked = [inputs for inputs, _ in trial.samples]
    elif spec.by_rows:
        asked = [trial.draw({**each, BATCH: _count(spec, each)}, seed) for seed, each in enumerate(sizes, start=10)]
    else:
        asked = [trial.draw(sizes[seed % len(sizes)], seed=10 + seed) for seed in range(SINGLE_GROUPS)]
    for inputs in asked:
        yield {**inputs, **(_row_by_row(trial, inputs) if spec.by_rows else trial.answer(inputs))}


def _count(spec: Spec, sizes: Sizes) -> int:
    """Return how many rows a group of these sizes has."""
    one = {**sizes, BATCH: 1}
    # An output's own axes, which the data decides, count as one.
    one |= {axis: 1 for t in spec.outputs for axis in t.shape if isinstance(axis, str) and axis not in one}
    row_bytes = sum(prod(sized(t, one)) * np.dtype(DTYPES[t.dtype]).itemsize for t in spec.inputs + spec.outputs)
    return max(BATCH_ROWS + 1, min(MOST_ROWS, GROUP_BYTES // max(row_bytes, 1)))


def _row_by_row(trial: Trial, inputs: Arrays) -> Arrays:
    """Return the answers to rows, each asked alone. Raises Refused for no rows, and answers that cannot be joined."""
    count = len(next(iter(inputs.values())))
    if not count:
        raise Refused("a sample has no rows")
    answers = joined([trial.answer(cut(inputs, slice(row, row + 1))) for row in range(count)])
    if answers is None:
        raise Refused("answers to single rows have different shapes, so that rows cannot be told apart")
    return answers
