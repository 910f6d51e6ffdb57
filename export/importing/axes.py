"""The axes of a model: which are open, which are one, and which of an output's follow which of an input's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from numpy.typing import NDArray

from export.importing.draw import Arrays, Sizes, integer_ranges
from export.importing.errors import Refused
from export.importing.trial import Failed, Trial
from servepath.artifacts.spec import BATCH, TensorSpec
from servepath.protocols.arrays import NAMES

ROWS = 2
# Tried in turn for all open axes beside the rows, until the model runs: words, short sounds, pictures.
FIRST_SIZES = (8, 16, 64, 224, 1)
FIX = "; say the ranges of its inputs' elements, or sizes of its axes, in a spec file (--spec)"
# A size, the name of an open axis, or None for an open one without.
Axes = tuple[int | str | None, ...]


class Declared(NamedTuple):
    """A tensor as a file declares it."""

    name: str
    dtype: str
    axes: Axes


class Seen(NamedTuple):
    """An answer to a request with one axis of another size; of none, where the axis is ""."""

    axis: str
    size: int
    answer: Arrays


def name_axes(declared: Sequence[Declared]) -> tuple[TensorSpec, ...]:
    """Return the inputs with a name for each open axis; "batch" is the first axis of all, if it has one name."""
    named: list[list[int | str]] = [
        [f"{name}_{place}" if axis is None else axis for place, axis in enumerate(axes)] for name, _, axes in declared
    ]
    firsts = {axes[0] if axes else 0 for axes in named}
    rows = next(iter(firsts)) if len(firsts) == 1 else None
    names: dict[int | str, str] = {rows: BATCH} if isinstance(rows, str) else {}
    if rows != BATCH:
        names[BATCH] = f"{BATCH}_axis"  # another axis of that name
    return tuple(
        TensorSpec(name, dtype, tuple(names.get(axis, axis) for axis in axes))
        for (name, dtype, _), axes in zip(declared, named, strict=True)
    )


def find_sizes(trial: Trial) -> Sizes:
    """Return sizes of all open axes at which the model runs. Raises Refused where it runs at none that is tried.

    First axes of several names are one, the batch axis, unless the model runs where they have different sizes. Where
    it runs for one row alone, the batch axis becomes a fixed one.
    """
    if trial.samples:
        return trial.samples[0][1]
    known, why = dict(trial.ranges), ""
    for guess in integer_ranges(trial.inputs, known):
        trial.ranges = known | guess
        for sizes in _candidates(trial):
            try:
                trial.answer(trial.ask(sizes, seed=0))
            except Failed as error:
                why = str(error)
                continue
            trial.notes += [f"{name!r} was drawn from {low:g} to {high:g}" for name, (low, high) in guess.items()]
            return _settled(trial, sizes)
    raise Refused(f"the model does not run on drawn inputs of the sizes {', '.join(map(str, FIRST_SIZES))}: {why}{FIX}")


def _candidates(trial: Trial) -> Sequence[Sizes]:
    firsts = _firsts(trial)
    free = [axis for axis in trial.axes if axis not in trial.hints.sizes and axis not in firsts and axis != BATCH]
    said = {axis: sizes[0] for axis, sizes in trial.hints.sizes.items()}
    found: list[Sizes] = []
    for size in FIRST_SIZES if free else FIRST_SIZES[:1]:
        others = {**dict.fromkeys(free, size), **said}
        if firsts:
            found.append({**{axis: ROWS + place for place, axis in enumerate(firsts)}, **others})
        found += [{**dict.fromkeys([*firsts, BATCH], rows), **others} for rows in (ROWS, 1)]
    most = trial.hints.max_sizes
    within = [{axis: min(size, most.get(axis, size)) for axis, size in sizes.items()} for sizes in found]
    # Within their limits, first axes that were to differ may be equal: that is the trial of one axis, BATCH.
    told = [sizes for sizes in within if BATCH in sizes or len({sizes[axis] for axis in firsts}) == len(firsts)]
    different = [sizes for place, sizes in enumerate(told) if sizes not in told[:place]]
    # One row alone is the last resort, for all sizes.
    return sorted(different, key=lambda sizes: 1 in {sizes.get(axis) for axis in (*firsts, BATCH)})


def _firsts(trial: Trial) -> list[str]:
    """Return the names of the inputs' first axes where all are open and there are several."""
    firsts = [tensor.shape[0] if tensor.shape else 0 for tensor in trial.inputs]
    names = list(dict.fromkeys(axis for axis in firsts if isinstance(axis, str)))
    return names if len(names) > 1 and all(isinstance(axis, str) for axis in firsts) else []


def _settled(trial: Trial, sizes: Sizes) -> Sizes:
    """Return the sizes that were found, with first axes that are one, or of one size, settled."""
    firsts = _firsts(trial)
    if firsts and BATCH in sizes:
        trial.rename(firsts, BATCH)
    if BATCH in trial.axes and sizes.get(BATCH) == 1:
        trial.fix(BATCH, 1)
    return {axis: sizes[axis] for axis in trial.axes}


def find_outputs(
    trial: Trial, base: Sizes, answer: Arrays, declared: Mapping[str, Axes]
) -> tuple[tuple[TensorSpec, ...], Sequence[Sizes]]:
    """Return the outputs with their axes, and the sizes that worked: each open axis was tried at up to three sizes."""
    seen = [Seen("", 0, trial.answer(trial.ask(base, seed=1)))]
    worked: list[Sizes] = [base]
    stuck = []
    for axis in list(base):
        found = _try_sizes(trial, base, [axis])
        if not found:
            stuck.append(axis)
        seen += found
        worked += [{**base, axis: one.size} for one in found if axis != BATCH]
    # Several that cannot move alone may be one axis by different names: a state's batch and a signal's.
    if len(stuck) > 1 and len({base[axis] for axis in stuck}) == 1 and (found := _try_sizes(trial, base, stuck)):
        name = BATCH if stuck[0] in trial.inputs[0].shape[:1] else stuck[0]
        trial.notes.append(f"the axes {', '.join(map(repr, stuck))} move together alone: they are one, {name!r}")
        trial.rename(stuck, name)
        base = {**{axis: size for axis, size in base.items() if axis not in stuck}, name: base[stuck[0]]}
        worked = [{**sizes, name: base[name]} for sizes in worked]
        seen += [one._replace(axis=name) for one in found]
        stuck = []
    for axis in stuck:
        trial.fix(axis, base[axis])
    outputs = [_output(name, values, base, seen, declared.get(name, ())) for name, values in answer.items()]
    return tuple(outputs), worked


def _try_sizes(trial: Trial, base: Sizes, axes: Sequence[str]) -> list[Seen]:
    """Return the answers at the other sizes that are to be tried of some axes, changed together."""
    tried = _other_sizes(trial, base[axes[0]], axes)
    found = []
    for size in tried:
        try:
            answer = trial.answer(trial.ask({**base, **dict.fromkeys(axes, size)}, seed=0))
        except Failed:
            continue
        found.append(Seen(axes[0], size, answer))
    if found and len(found) < len(tried):
        missed = ", ".join(str(size) for size in tried if size not in {one.size for one in found})
        trial.notes.append(f"axis {axes[0]!r}: the model runs at {found[0].size} and not at {missed}")
    return found


def _other_sizes(trial: Trial, size: int, axes: Sequence[str]) -> Sequence[int]:
    """Return the sizes to try of axes beside one: what is said, larger ones, or within their limit smaller ones."""
    if said := trial.hints.sizes.get(axes[0], (0,))[1:]:
        return said
    larger = (size * 2, size + 3)
    most = min(trial.hints.max_sizes.get(axis, max(larger)) for axis in axes)
    return [each for each in larger if each <= most] or [
        each for each in dict.fromkeys((most, size // 2, size - 1)) if 0 < each != size
    ]


def _output(name: str, values: NDArray[Any], base: Sizes, seen: Sequence[Seen], declared: Axes) -> TensorSpec:
    """Return an output whose axes are what they followed when an input's axis changed.

    One that the file declares open and that did not move stays open: the data may decide it.
    """
    shapes = [(axis, size, answer[name].shape) for axis, size, answer in seen]
    if any(len(shape) != values.ndim for _, _, shape in shapes):
        raise Refused(f"output {name!r} has not always the same number of axes")
    said_open = [not isinstance(axis, int) for axis in declared]
    said_open = said_open if len(said_open) == values.ndim else [False] * values.ndim
    axes: list[int | str] = []
    for place, found in enumerate(values.shape):
        moved = {axis for axis, _, shape in shapes if shape[place] != found}
        if not moved:
            axes.append(f"{name}_{place}" if said_open[place] else found)
            continue
        axis = next(iter(moved))
        follows = axis and len(moved) == 1 and found == base[axis]
        follows = follows and all(shape[place] == size for each, size, shape in shapes if each == axis)
        axes.append(axis if follows else f"{name}_{place}")
    return replace(TensorSpec(name, NAMES[values.dtype], ()), shape=tuple(axes))
