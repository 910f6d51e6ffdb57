"""One step of an import in a process of its own: `python -m export.importing.child SOURCE WORK SPEC`.

Exporters depend on what was exported before them in the process, runtimes may end the process that they run in, and
what a model asks for is bounded here: its memory is this process'.
"""

import json
import os
import resource
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy

from export.importing import onnx_source
from export.importing.draw import Arrays
from export.importing.errors import Refused
from export.importing.hints import Hints, read_hints
from export.importing.prove import Proof, Run, Sample, agree, cut, first_line, joined, largest
from export.importing.store import FOUND
from servepath.artifacts.reference import FILE as REFERENCE

BATCHES = (1, 2, 7)
# Of this machine's memory, for what one model may ask for.
SHARE = 0.75


def main() -> int:
    """Do the step; exit code 1 and one line on stderr where the model is refused."""
    source, work, spec = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    memory = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * SHARE)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    warnings.simplefilter("ignore")
    try:
        import_source(source, work, read_hints(Path(spec) if spec else None))
    except Refused as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except MemoryError:
        sys.stderr.write(f"the model wants more memory than {memory // 2**30} GiB\n")
        return 1
    return 0


def import_source(source: Path, work: Path, hints: Hints, samples: Sequence[Sample] = ()) -> None:
    """Write WORK/onnx, WORK/reference and WORK/found.json. Raises Refused."""
    folder = work / "onnx"
    folder.mkdir()
    proof, facts = onnx_source.import_onnx(source, folder, hints, samples)
    difference = compare(proof, onnx_source.load(folder))
    write_reference(work / "reference", proof)
    found = {
        "spec": proof.spec.to_dict(),
        "notes": proof.notes,
        "batches": BATCHES if proof.spec.row_independent else BATCHES[:1],
        "rows": sum(len(next(iter(group.values()))) if proof.spec.by_rows else 1 for group in proof.groups),
        "formats": {"onnx": {"facts": facts, "difference": difference}},
    }
    (work / FOUND).write_text(json.dumps(found, indent=2))


def compare(proof: Proof, run: Run) -> float:
    """Return the largest difference of a format's answers from the reference, in batches of several sizes.

    Raises Refused beyond the tolerance.
    """
    names = [tensor.name for tensor in proof.spec.inputs]
    worst = 0.0
    for group in proof.groups:
        inputs, wanted = {n: group[n] for n in names}, {n: v for n, v in group.items() if n not in names}
        for size in BATCHES if proof.spec.row_independent else BATCHES[:1]:
            try:
                found = in_batches(inputs, run, size) if proof.spec.by_rows else run(inputs)
            except Exception as error:
                raise Refused(
                    f"the written file does not answer what the model answered: {first_line(error)}"
                ) from error
            difference = largest(found, wanted)
            if not agree(found, wanted, proof.spec.tolerance):
                limit = proof.spec.tolerance
                raise Refused(
                    f"answers differ from the reference by {difference:.3g} in batches of {size}, the tolerance is "
                    f"rtol {limit.rtol:.3g}, atol {limit.atol:.3g}"
                )
            worst = max(worst, difference)
    return worst


def in_batches(inputs: Arrays, run: Run, size: int) -> Arrays:
    """Return the answers to all rows in batches of a size. Raises Refused where they cannot be joined."""
    count = len(next(iter(inputs.values())))
    answers = joined([run(cut(inputs, slice(at, at + size))) for at in range(0, count, size)])
    if answers is None:
        raise Refused(f"answers to batches of {size} have different shapes")
    return answers


def write_reference(folder: Path, proof: Proof) -> None:
    """Write the groups as servepath.artifacts.reference reads them."""
    folder.mkdir()
    tensors = {
        name + (f"#{number}" if number else ""): np.asarray(values, order="C")
        for number, group in enumerate(proof.groups)
        for name, values in group.items()
    }
    (folder / REFERENCE).write_bytes(safetensors.numpy.save(tensors))


if __name__ == "__main__":
    sys.exit(main())
