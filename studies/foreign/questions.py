"""What is asked in a study of rows a second: requests of an imported model, and the answers that they must get."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servepath.artifacts.reference import Reference
from servepath.artifacts.spec import Spec
from servepath.demo.stages import StageFailed

COUNT, SEED = 64, 0
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Question:
    """One request and its answer, arrays by name."""

    inputs: Arrays
    answers: Arrays

    def check(self, found: Arrays, spec: Spec) -> None:
        """Raise StageFailed unless an answer is within the model's tolerance."""
        for tensor in spec.outputs:
            mine, other = (np.asarray(each[tensor.name], np.float64) for each in (found, self.answers))
            if not spec.tolerance_of(tensor).holds(mine, other):
                raise StageFailed(f"a wrong answer: {tensor.name!r} is {abs(mine - other).max():.3g} away")


def equal(reference: Reference, group: int, rows: int) -> list[Question]:
    """Return one request of so many rows, those of a group over and over. Raises StageFailed."""
    arrays = _group(reference, group)
    wanted = {name: np.resize(values, (rows, *values.shape[1:])) for name, values in arrays.items()}
    return [_question(reference.spec, wanted, wanted)]


def mixed(reference: Reference, low: int, high: int, run: Any) -> list[Question]:
    """Return requests of one row each whose lengths are drawn from LOW to HIGH, their logarithms uniformly.

    Half of them have at most sqrt(LOW * HIGH). run: answers arrays by name, of one row; the reference has no answers to
    rows that are cut. Raises StageFailed.
    """
    spec = reference.spec
    if any(len(tensor.shape) != 2 or tensor.shape != spec.inputs[0].shape for tensor in spec.inputs):  # noqa: PLR2004 - rows and lengths
        raise StageFailed(f"{reference.model} has other inputs than [rows, length]: no lengths can be mixed")
    longest = max(range(len(reference.groups)), key=lambda each: _group(reference, each)[spec.inputs[0].name].shape[1])
    arrays = _group(reference, longest)
    there = arrays[spec.inputs[0].name].shape[1]
    if there < high:
        raise StageFailed(f"the longest row of {reference.model}'s reference has {there}, --lengths asks for {high}")
    drawn = np.exp(np.random.default_rng(SEED).uniform(np.log(low), np.log(high + 1), COUNT)).astype(int)
    questions = []
    for number, length in enumerate(drawn):
        row = number % len(arrays[spec.inputs[0].name])
        inputs = {tensor.name: arrays[tensor.name][row : row + 1, :length] for tensor in spec.inputs}
        questions.append(_question(spec, inputs, run(inputs)))
    return questions


def padded(questions: Sequence[Question], spec: Spec, rows: int) -> list[Question]:
    """Return the same rows, sorted by length, in requests of several rows filled up with zeros to their longest."""
    first = spec.inputs[0].name
    ordered = sorted(questions, key=lambda each: each.inputs[first].shape[1])
    batches = []
    for start in range(0, len(ordered), rows):
        members = ordered[start : start + rows]
        longest = members[-1].inputs[first].shape[1]
        inputs = {
            tensor.name: np.concatenate(
                [np.pad(m.inputs[tensor.name], ((0, 0), (0, longest - m.inputs[first].shape[1]))) for m in members]
            )
            for tensor in spec.inputs
        }
        answers = {t.name: np.concatenate([m.answers[t.name] for m in members]) for t in spec.outputs}
        batches.append(Question(inputs, answers))
    return batches


def _question(spec: Spec, inputs: Arrays, answers: Arrays) -> Question:
    return Question({t.name: inputs[t.name] for t in spec.inputs}, {t.name: answers[t.name] for t in spec.outputs})


def _group(reference: Reference, group: int) -> Arrays:
    if not reference.spec.by_rows or group >= len(reference.groups):
        raise StageFailed(f"{reference.model} has no rows to ask, or fewer groups than {group + 1}")
    return reference.groups[group]
