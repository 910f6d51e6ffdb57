"""Whether a format that was written answers what the model answered."""

import numpy as np

from export.importing.answers import agree, cut, first_line, joined, largest_of
from export.importing.draw import Arrays
from export.importing.errors import Refused
from export.importing.prove import Proof
from export.importing.trial import Run
from servepath.artifacts.spec import BATCH, Spec
from servepath.protocols.arrays import NAMES

BATCHES = (1, 2, 7)


def compare(proof: Proof, run: Run) -> float:
    """Return the largest difference of a format's answers from the golden rows, in batches of several sizes.

    Raises Refused beyond the tolerance.
    """
    spec, worst = proof.spec, 0.0
    tolerances = {tensor.name: spec.tolerance_of(tensor) for tensor in spec.outputs}
    for group in proof.groups:
        for size in batches_of(spec):
            rows = _filled(spec, group, size)
            inputs, wanted = ({t.name: rows[t.name] for t in tensors} for tensors in (spec.inputs, spec.outputs))
            found = _answers(spec, inputs, run, size)
            _check_dtypes(spec, found)
            difference = largest_of(found, wanted)
            if not agree(found, wanted, tolerances):
                raise Refused(
                    f"answers differ from the model's by {difference:.3g} in batches of {size}, beyond the tolerance; "
                    "say a [tolerance] in a spec file (--spec) if that is right"
                )
            worst = max(worst, difference)
    return worst


def answers_alone(spec: Spec, inputs: Arrays, run: Run) -> Arrays:
    """Return the answers to all rows, each asked alone; of a request without rows, its answer. Raises Refused."""
    found = _answers(spec, inputs, run, 1)
    _check_dtypes(spec, found)
    return found


def batches_of(spec: Spec) -> tuple[int, ...]:
    """Return the sizes of the batches in which a format is compared: those that the model may have."""
    sizes = BATCHES if spec.row_independent else BATCHES[:1]
    return tuple(size for size in sizes if size <= spec.max_sizes.get(BATCH, size))


def _filled(spec: Spec, group: Arrays, size: int) -> Arrays:
    """Return a group that fills a batch of a size: its rows again and again, where it has fewer."""
    if not spec.by_rows:
        return group
    count = len(next(iter(group.values())))
    rows = np.resize(np.arange(count), max(count, size))
    return {name: values[rows] for name, values in group.items()}


def _check_dtypes(spec: Spec, found: Arrays) -> None:
    for tensor in spec.outputs:
        if tensor.name in found and (dtype := NAMES.get(found[tensor.name].dtype)) != tensor.dtype:
            raise Refused(f"output {tensor.name!r} would be {dtype}, the model's is {tensor.dtype}")


def _answers(spec: Spec, inputs: Arrays, run: Run, size: int) -> Arrays:
    """Return the answers to all rows, in batches of a size."""
    count = len(next(iter(inputs.values()))) if spec.by_rows else 1
    parts = [cut(inputs, slice(at, at + size)) for at in range(0, count, size)] if spec.by_rows else [inputs]
    try:
        answers = [run(part) for part in parts]
    except Exception as error:
        raise Refused(f"what was written does not answer what the model did: {first_line(error)}") from error
    found = joined(answers) if spec.by_rows else answers[0]
    if found is None:
        raise Refused(f"answers to batches of {size} have different shapes")
    return found
