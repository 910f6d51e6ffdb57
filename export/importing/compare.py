"""Whether a format that was written answers what the model answered."""

from export.importing.draw import Arrays
from export.importing.errors import Refused
from export.importing.prove import Proof, Run, agree, cut, first_line, joined, largest

BATCHES = (1, 2, 7)


def compare(proof: Proof, run: Run) -> float:
    """Return the largest difference of a format's answers from the golden rows, in batches of several sizes.

    Raises Refused beyond the tolerance.
    """
    names = [tensor.name for tensor in proof.spec.inputs]
    worst = 0.0
    for group in proof.groups:
        inputs, wanted = {n: group[n] for n in names}, {n: v for n, v in group.items() if n not in names}
        for size in BATCHES if proof.spec.row_independent else BATCHES[:1]:
            try:
                found = _in_batches(inputs, run, size) if proof.spec.by_rows else run(inputs)
            except Refused:
                raise
            except Exception as error:
                raise Refused(f"what was written does not answer what the model did: {first_line(error)}") from error
            difference = largest(found, wanted)
            if not agree(found, wanted, proof.spec.tolerance):
                limit = proof.spec.tolerance
                raise Refused(
                    f"answers differ from the model's by {difference:.3g} in batches of {size}, the tolerance is "
                    f"rtol {limit.rtol:.3g}, atol {limit.atol:.3g}"
                )
            worst = max(worst, difference)
    return worst


def _in_batches(inputs: Arrays, run: Run, size: int) -> Arrays:
    count = len(next(iter(inputs.values())))
    answers = joined([run(cut(inputs, slice(at, at + size))) for at in range(0, count, size)])
    if answers is None:
        raise Refused(f"answers to batches of {size} have different shapes")
    return answers
