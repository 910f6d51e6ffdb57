"""What a model is, found by trying it: axes, rows, repeatability, tolerance, and the answers that stacks must give.

A file's declaration is where this starts, and is believed in nothing that can be tried. `run` is the model in the
runtime that reads the file; whatever it raises is the runtime's word on the inputs that it was given.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.importing.draw import Arrays, Sizes, draw, integer_ranges, sized
from export.importing.errors import Refused
from export.importing.hints import Hints
from servepath.artifacts.spec import BATCH, Spec, TensorSpec, Tolerance, within
from servepath.protocols.arrays import DTYPES, NAMES
from servepath.protocols.signature import MAX_ELEMENTS

Run = Callable[[Arrays], Arrays]

ROWS = 2
# More rows than one, and no power of two.
BATCH_ROWS = 7
# Tried in turn for all open axes beside the rows, until the model runs: words, short sounds, pictures.
FIRST_SIZES = (8, 16, 64, 224, 1)
# A group of the reference has so many rows, or as many as fit the bytes.
GROUP_ROWS, GROUP_BYTES = 64, 2**20
# Groups where a request has no rows.
SINGLE_GROUPS = 8
# Of answers without a fraction.
EXACT = Tolerance(0.0, 0.0)
# What another order of additions may change, as a share of the largest answer.
NOISE = 1e-3
# Runtimes add in different orders: how much more than the effect of the last bit of every input they may differ.
MARGIN = 8.0
# What is passed on of a runtime's message.
LONGEST = 200
PLACES = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |\S+\.(?:cc|h|cpp):\d+ (?:.*\) )?")
FIX = "; say the ranges of its inputs' elements, or sizes of its axes, in a spec file (--spec)"


class Declared(NamedTuple):
    """A tensor as a file declares it. axes: a size, the name of an open axis, or None for an open one without."""

    name: str
    dtype: str
    axes: tuple[int | str | None, ...]


class _Seen(NamedTuple):
    """An answer to a request with one axis of another size; of none, where the axis is ""."""

    axis: str
    size: int
    answer: Arrays


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found. groups: inputs and answers by name. difference: largest, of a row alone and in a batch."""

    spec: Spec
    groups: Sequence[Arrays]
    difference: float
    notes: Sequence[str]


def prove(inputs: Sequence[Declared], run: Run, hints: Hints, samples: Sequence[Arrays] = ()) -> Proof:
    """Try the model and return what it is.

    samples: requests that it must answer, in place of drawn ones: inputs by name, and the answers that are known.
    Raises Refused with the one reason why it cannot be served.
    """
    try:
        return _Trial(inputs, run, hints, samples).prove()
    except _Failed as error:
        what = "a sample" if samples else "some drawn inputs and not on all"
        raise Refused(f"the model does not run on {what}: {error}{'' if samples else FIX}") from error


class _Failed(Exception):
    """The model does not run on one request; the text is the runtime's."""


@dataclass
class _Trial:
    declared: Sequence[Declared]
    run: Run
    hints: Hints
    samples: Sequence[Arrays]
    notes: list[str] = field(default_factory=list)

    def prove(self) -> Proof:
        if not self.declared:
            raise Refused("the model has no inputs, so there is nothing to ask it")
        self.inputs = _name_axes(self.declared)
        own = [self.inputs_of(sample) for sample in self.samples]
        self.own_sizes = [(inputs, self.sizes_of(inputs)) for inputs in own]
        self.ranges = {**_ranges(own), **self.hints.ranges}
        base = self.base_sizes()
        asked = self.ask(base, seed=0)
        answer = self.answer(asked)
        self.check_repeatable(asked, answer, base)
        outputs, sizes = self.outputs(base, answer)
        spec = Spec(self.inputs, outputs, row_independent=False, tolerance=self.tolerance(asked, answer))
        self.check_samples(spec.tolerance)
        difference = 0.0
        if spec.by_rows:
            try:
                spec, difference = self.rows(spec, base)
            except _Failed as error:
                self.notes.append(f"rows could not be tried alone and together ({error}): requests are never batched")
        else:
            self.notes.append("no batch axis that all tensors begin with: every request runs alone, none are batched")
        return Proof(spec, tuple(self.groups(spec, sizes)), difference, tuple(self.notes))

    def ask(self, sizes: Sizes, seed: int) -> Arrays:
        """Return a request."""
        fitting = [sample for sample, own in self.own_sizes if own == {axis: sizes[axis] for axis in own}]
        if fitting:
            return fitting[seed % len(fitting)]
        for tensor in self.inputs:
            if prod(sized(tensor, sizes)) > MAX_ELEMENTS:
                raise Refused(
                    f"input {tensor.name!r} of shape {list(sized(tensor, sizes))} has more than {MAX_ELEMENTS} elements"
                )
        return draw(self.inputs, sizes, self.ranges, seed)

    def answer(self, asked: Arrays) -> Arrays:
        """Return the model's answer. Raises _Failed, and Refused for an output that no protocol here can carry."""
        try:
            answer = self.run(asked)
        except Refused:
            raise
        except Exception as error:  # each runtime has kinds of its own
            raise _Failed(first_line(error)) from error
        for name, values in answer.items():
            if not isinstance(values, np.ndarray):
                raise Refused(f"output {name!r} is no tensor, and a reply carries tensors alone")
            if values.dtype not in NAMES:
                raise Refused(f"output {name!r} has elements of {values.dtype}, which cannot be compared here yet")
        if not answer:
            raise Refused("the model has no outputs")
        return answer

    def base_sizes(self) -> Sizes:
        """Return sizes of all open axes at which the model runs; an axis that has one size only becomes fixed."""
        if self.samples:
            return self.own_sizes[0][1]
        axes = {axis for tensor in self.inputs for axis in tensor.shape if isinstance(axis, str)} - {BATCH}
        free = sorted(axes - self.hints.sizes.keys())
        said = {axis: sizes[0] for axis, sizes in self.hints.sizes.items() if axis in axes}
        known, why = dict(self.ranges), ""
        for guess in integer_ranges(self.inputs, known):
            self.ranges = known | guess
            for rows in (ROWS, 1) if self.has_rows() else (ROWS,):
                for size in FIRST_SIZES if free else FIRST_SIZES[:1]:
                    sizes = {BATCH: rows, **dict.fromkeys(free, size), **said}
                    try:
                        self.answer(self.ask(sizes, seed=0))
                    except _Failed as error:
                        why = str(error)
                        continue
                    self.notes += [f"{n!r} was drawn from {low:g} to {high:g}" for n, (low, high) in guess.items()]
                    if rows == 1:
                        self.fix(BATCH, 1)
                    return sizes
        tried = f" at {' = '.join(free)} = {', '.join(map(str, FIRST_SIZES))}" if free else ""
        raise Refused(f"the model does not run on drawn inputs{tried}: {why}{FIX}")

    def has_rows(self) -> bool:
        return all(tensor.by_rows for tensor in self.inputs)

    def inputs_of(self, sample: Arrays) -> Arrays:
        """Return a sample's inputs. Raises Refused when one is missing or of another dtype."""
        found = {}
        for tensor in self.inputs:
            if tensor.name not in sample:
                raise Refused(f"a sample has no input {tensor.name!r}; it has {', '.join(sample) or 'none'}")
            found[tensor.name] = np.asarray(sample[tensor.name])
            if NAMES.get(found[tensor.name].dtype) != tensor.dtype:
                said = f"{found[tensor.name].dtype}, expected {np.dtype(DTYPES[tensor.dtype])}"
                raise Refused(f"a sample's {tensor.name!r} is {said}")
        return found

    def sizes_of(self, arrays: Arrays) -> Sizes:
        """Return the sizes of a sample's open axes. Raises Refused when it does not fit the declaration."""
        sizes: dict[str, int] = {}
        for tensor in self.inputs:
            shape = arrays[tensor.name].shape
            fixed = len(shape) == len(tensor.shape) and all(
                sizes.setdefault(axis, size) == size if isinstance(axis, str) else axis == size
                for axis, size in zip(tensor.shape, shape, strict=True)
            )
            if not fixed:
                raise Refused(f"a sample's {tensor.name!r} has the shape {list(shape)}, expected {list(tensor.shape)}")
        return sizes

    def fix(self, axis: str, size: int) -> None:
        """Make an open axis a fixed one."""
        self.inputs = tuple(
            replace(tensor, shape=tuple(size if each == axis else each for each in tensor.shape))
            for tensor in self.inputs
        )
        self.notes.append(f"axis {axis!r} is declared open and the model runs at {size} alone: it is fixed")

    def rename(self, axes: Sequence[str], name: str) -> None:
        """Put one name in the place of several axes."""
        self.inputs = tuple(
            replace(tensor, shape=tuple(name if axis in axes else axis for axis in tensor.shape))
            for tensor in self.inputs
        )

    def outputs(self, base: Sizes, answer: Arrays) -> tuple[tuple[TensorSpec, ...], Sequence[Sizes]]:
        """Return the outputs with their axes, and the sizes that worked: each open axis was tried at three sizes."""
        seen = [_Seen("", 0, self.answer(self.ask(base, seed=1)))]
        worked: list[Sizes] = [base]
        stuck = []
        for axis in [axis for axis in base if self.is_open(axis)]:
            found = self.try_sizes(base, [axis])
            if not found:
                stuck.append(axis)
            seen += found
            worked += [{**base, axis: one.size} for one in found if axis != BATCH]
        # Several that cannot move alone may be one axis by different names: a state's batch and a signal's.
        if len(stuck) > 1 and len({base[axis] for axis in stuck}) == 1 and (found := self.try_sizes(base, stuck)):
            first = BATCH if stuck[0] in self.inputs[0].shape[:1] else stuck[0]
            self.notes.append(f"the axes {', '.join(map(repr, stuck))} move together alone: they are one, {first!r}")
            self.rename(stuck, first)
            base = {**base, first: base[stuck[0]]}
            seen += [one._replace(axis=first) for one in found]
            stuck = []
        for axis in stuck:
            self.fix(axis, base[axis])
        return tuple(_output(name, values, base, seen) for name, values in answer.items()), worked

    def try_sizes(self, base: Sizes, axes: Sequence[str]) -> list["_Seen"]:
        """Return the answers at the other sizes that are to be tried of some axes, changed together."""
        tried = self.hints.sizes.get(axes[0]) or (base[axes[0]] * 2, base[axes[0]] + 3)
        found = []
        for size in tried:
            try:
                found.append(_Seen(axes[0], size, self.answer(self.ask({**base, **dict.fromkeys(axes, size)}, seed=0))))
            except _Failed:
                continue
        if found and len(found) < len(tried):
            missed = ", ".join(str(size) for size in tried if size not in {one.size for one in found})
            self.notes.append(f"axis {axes[0]!r}: the model runs at {found[0].size} and not at {missed}")
        return found

    def is_open(self, axis: str) -> bool:
        return any(axis in tensor.shape for tensor in self.inputs)

    def check_repeatable(self, asked: Arrays, answer: Arrays, base: Sizes) -> None:
        """Raise Refused unless the same request has the same answer, at once and after another one."""
        if not same(answer, self.answer(asked)):
            raise Refused("the same request twice gets two answers: the model draws random numbers or keeps state")
        self.answer(self.ask(base, seed=2))
        if not same(answer, self.answer(asked)):
            raise Refused("a request's answer depends on the request before it: the model keeps state")
        floats = [values for values in answer.values() if values.dtype.kind == "f" and values.size]
        if floats and all(np.isnan(values).all() for values in floats):
            raise Refused("every element of every answer is NaN; look at the model's weights")

    def tolerance(self, asked: Arrays, answer: Arrays) -> Tolerance:
        """Return how far another runtime may be off: what the last bit of every input changes, and a margin."""
        if self.hints.tolerance is not None:
            return self.hints.tolerance
        kinds = [values.dtype for values in (*asked.values(), *answer.values()) if values.dtype.kind == "f"]
        if not any(values.dtype.kind == "f" for values in answer.values()):
            return EXACT
        eps = max(float(np.finfo(kind).eps) for kind in kinds)
        effect = 0.0
        for sign in (1, -1):
            nudged = {
                name: np.asarray(values * (1 + sign * eps), values.dtype) if values.dtype.kind == "f" else values
                for name, values in asked.items()
            }
            effect = max(effect, largest(self.answer(nudged), answer))
        return Tolerance(rtol=1000 * eps, atol=max(100 * eps, MARGIN * effect))

    def check_samples(self, tolerance: Tolerance) -> None:
        """Raise Refused unless the model answers every sample as it must."""
        for (inputs, _), sample in zip(self.own_sizes, self.samples, strict=True):
            found = self.answer(inputs)
            for name, values in sample.items():
                if name in inputs:
                    continue
                wanted = np.asarray(values)
                if name not in found:
                    raise Refused(f"a sample has an answer {name!r}; the model's outputs are {', '.join(found)}")
                if found[name].dtype != wanted.dtype or not _close(found[name], wanted, tolerance):
                    apart = largest({name: found[name]}, {name: wanted})
                    raise Refused(
                        f"a sample's answer {name!r} is {wanted.dtype} {list(wanted.shape)}, the model gives "
                        f"{found[name].dtype} {list(found[name].shape)}, {apart:.3g} away where both are numbers; the "
                        f"tolerance is rtol {tolerance.rtol:g}, atol {tolerance.atol:g}"
                    )

    def rows(self, spec: Spec, base: Sizes) -> tuple[Spec, float]:
        """Return the spec with what is true of its rows, and how far they differ alone and in a batch.

        In batches of one size a row's answer may not change with the other rows. Alone and in a batch it may change by
        the noise of another order of additions, which then is in the tolerance.
        """
        batch, others = (self.ask({**base, BATCH: BATCH_ROWS}, seed) for seed in (3, 5))
        count, tolerance = len(next(iter(batch.values()))), spec.tolerance
        mixed = {name: np.concatenate([values[:1], others[name][1:]]) for name, values in batch.items()}
        together, order = self.answer(batch), np.random.default_rng(4).permutation(count)
        shuffled = {name: values[order] for name, values in batch.items()}
        first, single = slice(1), joined([self.answer(cut(batch, slice(row, row + 1))) for row in range(count)])
        independent = agree(cut(self.answer(mixed), first), cut(together, first), tolerance)
        independent = independent and agree(
            self.answer(shuffled), {name: values[order] for name, values in together.items()}, tolerance
        )
        # An open axis that the data decides has another size in each answer: such rows cannot be joined.
        if not independent or single is None or count == 1 or not agree(together, single, _noise(together, tolerance)):
            self.notes.append("a row's answer depends on the other rows of its batch: requests are never batched")
            return spec, 0.0
        difference = largest(together, single)
        if self.hints.tolerance is None and tolerance != EXACT:
            tolerance = replace(tolerance, atol=max(tolerance.atol, MARGIN * difference))
        return replace(spec, row_independent=True, tolerance=tolerance), difference

    def groups(self, spec: Spec, sizes: Sequence[Sizes]) -> Iterator[Arrays]:
        """Yield the reference's groups: a few of each shape by rows, each row asked alone; or requests."""
        if self.samples:
            for inputs, _ in self.own_sizes:
                yield {**inputs, **self.answer(inputs)}
            return
        if not spec.by_rows:
            for seed in range(SINGLE_GROUPS):
                asked = self.ask(sizes[seed % len(sizes)], seed=10 + seed)
                yield {**asked, **self.answer(asked)}
            return
        for seed, each in enumerate(sizes):
            one = {**each, BATCH: 1}
            row_bytes = sum(prod(sized(t, one)) * np.dtype(DTYPES[t.dtype]).itemsize for t in spec.inputs)
            count = max(BATCH_ROWS + 1, min(GROUP_ROWS, GROUP_BYTES // max(row_bytes, 1)))
            asked = self.ask({**each, BATCH: count}, seed=10 + seed)
            answers = joined([self.answer(cut(asked, slice(row, row + 1))) for row in range(count)])
            if answers is None:
                raise Refused("answers to single rows have different shapes, so that rows cannot be told apart")
            yield {**asked, **answers}


def _ranges(samples: Sequence[Arrays]) -> dict[str, tuple[float, float]]:
    """Return between what the elements of the samples lie, by name, as far as they are finite."""
    found = {}
    for name in samples[0] if samples else ():
        finite = [values[np.isfinite(values)] for sample in samples for values in (sample[name],)]
        if any(values.size for values in finite):
            elements = np.concatenate([values.ravel() for values in finite])
            found[name] = (float(elements.min()), float(elements.max()))
    return found


def _name_axes(declared: Sequence[Declared]) -> tuple[TensorSpec, ...]:
    """Return the inputs with a name for each open axis; the first axes, where all are open, are tried as the rows."""
    named = [
        TensorSpec(name, dtype, tuple(f"{name}_{place}" if axis is None else axis for place, axis in enumerate(axes)))
        for name, dtype, axes in declared
    ]
    firsts = [tensor.shape[0] if tensor.shape else 0 for tensor in named]
    if not all(isinstance(first, str) for first in firsts):
        return tuple(named)
    return tuple(replace(t, shape=tuple(BATCH if axis in firsts else axis for axis in t.shape)) for t in named)


def _output(name: str, values: NDArray[Any], base: Sizes, seen: Sequence[_Seen]) -> TensorSpec:
    """Return an output whose axes are what they followed when an input's axis changed."""
    shapes = [(axis, size, answer[name].shape) for axis, size, answer in seen]
    if any(len(shape) != values.ndim for _, _, shape in shapes):
        raise Refused(f"output {name!r} has not always the same number of axes")
    axes: list[int | str] = []
    for place, found in enumerate(values.shape):
        moved = {axis for axis, _, shape in shapes if shape[place] != found}
        if not moved:
            axes.append(found)
            continue
        axis = next(iter(moved))
        follows = axis and len(moved) == 1 and found == base[axis]
        follows = follows and all(shape[place] == size for each, size, shape in shapes if each == axis)
        axes.append(axis if follows else f"{name}_{place}")
    return TensorSpec(name, NAMES[values.dtype], tuple(axes))


def _noise(answer: Arrays, tolerance: Tolerance) -> Tolerance:
    """Return the tolerance that another order of additions may need; none for answers without a fraction."""
    if tolerance == EXACT:
        return EXACT
    finite = [np.abs(v[np.isfinite(v)]) for v in answer.values() if v.dtype.kind == "f"]
    largest_answer = max((float(v.max()) for v in finite if v.size), default=0.0)
    return Tolerance(max(tolerance.rtol, NOISE), max(tolerance.atol, NOISE * largest_answer))


def cut(arrays: Arrays, rows: slice) -> Arrays:
    """Return some rows of every array."""
    return {name: values[rows] for name, values in arrays.items()}


def joined(answers: Sequence[Arrays]) -> Arrays | None:
    """Return answers one below the other, None where their shapes do not allow it."""
    if any(
        {n: v.shape[1:] for n, v in one.items()} != {n: v.shape[1:] for n, v in answers[0].items()} for one in answers
    ):
        return None
    return {name: np.concatenate([one[name] for one in answers]) for name in answers[0]}


def same(one: Arrays, other: Arrays) -> bool:
    """Return whether two answers are equal, a NaN to a NaN."""
    return one.keys() == other.keys() and all(
        np.array_equal(values, other[name], equal_nan=values.dtype.kind == "f") for name, values in one.items()
    )


def agree(one: Arrays, other: Arrays, tolerance: Tolerance) -> bool:
    """Return whether two answers are equal within a tolerance."""
    return one.keys() == other.keys() and all(_close(values, other[name], tolerance) for name, values in one.items())


def _close(values: NDArray[Any], other: NDArray[Any], tolerance: Tolerance) -> bool:
    wanted = other.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return within(values.astype(np.float64), wanted, tolerance.limits(wanted))


def largest(one: Arrays, other: Mapping[str, NDArray[Any]]) -> float:
    """Return the largest difference of two answers of equal shapes, leaving out what is not finite; 0 for none."""
    found = 0.0
    for name, values in one.items():
        if name in other and values.shape == other[name].shape and values.size:
            with np.errstate(invalid="ignore"):
                apart = np.abs(values.astype(np.float64) - other[name].astype(np.float64))
            found = max(found, float(np.max(apart, where=np.isfinite(apart), initial=0.0)))
    return found


def first_line(error: Exception) -> str:
    """Return the beginning of what a runtime said, without its codes and the places in its sources."""
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    text = PLACES.sub("", text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
