"""A model on trial: its inputs as far as they are known, and what it answers when it is asked."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from export.importing.answers import first_line
from export.importing.draw import Arrays, Sizes, draw, sized
from export.importing.errors import Refused
from export.importing.hints import Hints
from servepath.artifacts.spec import TensorSpec
from servepath.protocols.arrays import DTYPES, NAMES
from servepath.protocols.signature import MAX_ELEMENTS

Run = Callable[[Arrays], Arrays]
Limits = tuple[float, float]


class Failed(Exception):
    """The model does not run on one request; the text is the runtime's."""


class Trial:
    """A model and what has been found of it.

    inputs: with a name for each open axis. ranges: of elements, by input. samples: the user's requests, each with the
    sizes of its open axes. notes: sentences for the user.
    """

    def __init__(self, inputs: Sequence[TensorSpec], run: Run, hints: Hints, samples: Sequence[Arrays]) -> None:
        """Raise Refused for a sample that is no request of the model, and for hints about what it does not have."""
        self.inputs = tuple(inputs)
        self.hints = hints
        self.notes: list[str] = []
        self._run = run
        self._check_hints()
        own = [self._inputs_of(sample) for sample in samples]
        self.samples = [(inputs, self._sizes_of(inputs)) for inputs in own]
        for _, sizes in self.samples:
            self._check_within("a sample", sizes)
        self.ranges: dict[str, Limits] = {**_ranges(own), **hints.ranges}

    @property
    def axes(self) -> list[str]:
        """Return the names of the open axes, in the order of the inputs."""
        return list(dict.fromkeys(axis for t in self.inputs for axis in t.shape if isinstance(axis, str)))

    def ask(self, sizes: Sizes, seed: int) -> Arrays:
        """Return a request of these sizes: a sample, where one has them, else a drawn one. Raises Failed."""
        fitting = [sample for sample, own in self.samples if own == {axis: sizes[axis] for axis in own}]
        return fitting[seed % len(fitting)] if fitting else self.draw(sizes, seed)

    def draw(self, sizes: Sizes, seed: int) -> Arrays:
        """Return a drawn request of these sizes. Raises Failed for one that no call could carry."""
        for tensor in self.inputs:
            shape = sized(tensor, sizes)
            if prod(shape) > MAX_ELEMENTS:
                raise Failed(f"input {tensor.name!r} of shape {list(shape)} has more than {MAX_ELEMENTS} elements")
        return draw(self.inputs, sizes, self.ranges, seed)

    def answer(self, asked: Arrays) -> Arrays:
        """Return the model's answer. Raises Failed, and Refused for an output that no protocol here can carry."""
        try:
            answer = self._run(asked)
        except Refused:
            raise
        except Exception as error:  # each runtime has kinds of its own
            raise Failed(first_line(error)) from error
        for name, values in answer.items():
            if not isinstance(values, np.ndarray):
                raise Refused(f"output {name!r} is no tensor, and a reply carries tensors alone")
            if values.dtype not in NAMES:
                raise Refused(f"output {name!r} has elements of {values.dtype}, which cannot be compared here yet")
        if not answer:
            raise Refused("the model has no outputs")
        return answer

    def rename(self, axes: Sequence[str], name: str) -> None:
        """Put one name in the place of several axes; of their limits the smallest is its own."""
        if limits := [self.hints.max_sizes[axis] for axis in axes if axis in self.hints.max_sizes]:
            self.hints = replace(self.hints, max_sizes={**self.hints.max_sizes, name: min(limits)})
        self._change(lambda axis: name if axis in axes else axis)

    def fix(self, axis: str, size: int) -> None:
        """Make an open axis a fixed one, and note it."""
        self._change(lambda each: size if each == axis else each)
        declared = f"is declared open and the model runs at {size} alone"
        why = "may have at most 1" if self.hints.max_sizes.get(axis) == 1 else declared
        self.notes.append(f"axis {axis!r} {why}: it is fixed")

    def _change(self, changed: Callable[[int | str], int | str]) -> None:
        self.inputs = tuple(replace(t, shape=tuple(map(changed, t.shape))) for t in self.inputs)

    def _check_hints(self) -> None:
        names = [tensor.name for tensor in self.inputs]
        if unknown := sorted(self.hints.ranges.keys() - set(names)):
            raise Refused(f"[ranges] names {unknown[0]!r}; the model's inputs are {', '.join(names)}")
        for table, said in (("sizes", self.hints.sizes), ("max_sizes", self.hints.max_sizes)):
            if unknown := sorted(said.keys() - set(self.axes)):
                raise Refused(f"[{table}] names {unknown[0]!r}; the open axes are {', '.join(self.axes) or 'none'}")
        self._check_within("[sizes]", {axis: max(sizes) for axis, sizes in self.hints.sizes.items()})
        for tensor in self.inputs:
            kind = np.dtype(DTYPES[tensor.dtype])
            low, high = self.hints.ranges.get(tensor.name, (0, 0))
            if kind.kind in "iu" and not (np.iinfo(kind).min <= low <= high <= np.iinfo(kind).max):
                raise Refused(f"[ranges] {tensor.name!r}: {low:g} to {high:g} does not fit {tensor.dtype}")

    def _check_within(self, what: str, sizes: Sizes) -> None:
        """Raise Refused for a size above the largest of its axis."""
        for axis, size in sizes.items():
            if size > (most := self.hints.max_sizes.get(axis, size)):
                raise Refused(f"{what} has {size} along {axis!r}, which may have at most {most}")

    def _inputs_of(self, sample: Arrays) -> Arrays:
        """Return a sample's inputs. Raises Refused when one is missing, empty or of another dtype."""
        found = {}
        for tensor in self.inputs:
            if tensor.name not in sample:
                raise Refused(f"a sample has no input {tensor.name!r}; it has {', '.join(sample) or 'none'}")
            values = found[tensor.name] = np.asarray(sample[tensor.name])
            if NAMES.get(values.dtype) != tensor.dtype:
                raise Refused(
                    f"a sample's {tensor.name!r} is {values.dtype}, expected {np.dtype(DTYPES[tensor.dtype])}"
                )
        return found

    def _sizes_of(self, arrays: Arrays) -> Sizes:
        """Return the sizes of a sample's open axes. Raises Refused when it does not fit the declaration."""
        sizes: dict[str, int] = {}
        for tensor in self.inputs:
            shape = arrays[tensor.name].shape
            fits = len(shape) == len(tensor.shape) and all(
                sizes.setdefault(axis, size) == size if isinstance(axis, str) else axis == size
                for axis, size in zip(tensor.shape, shape, strict=True)
            )
            if not fits:
                raise Refused(f"a sample's {tensor.name!r} has the shape {list(shape)}, expected {list(tensor.shape)}")
        return sizes


def _ranges(samples: Sequence[Arrays]) -> dict[str, Limits]:
    """Return between what the elements of the samples lie, by name; nothing where all are one number."""
    found = {}
    for name in samples[0] if samples else ():
        finite = [sample[name][np.isfinite(sample[name])] for sample in samples]
        elements = np.concatenate([values.ravel() for values in finite])
        if elements.size and elements.min() < elements.max():
            found[name] = (float(elements.min()), float(elements.max()))
    return found
