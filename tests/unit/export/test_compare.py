"""Whether a written format is asked in batches, whatever the golden rows are."""

import numpy as np
import pytest

from export.importing.compare import compare
from export.importing.draw import Arrays
from export.importing.errors import Refused
from export.importing.prove import Proof
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance

SPEC = Spec(
    (TensorSpec("x", "FP32", ("batch", 2)),),
    (TensorSpec("y", "FP32", ("batch", 2)),),
    row_independent=True,
    tolerance=Tolerance(1e-5, 1e-5),
)


def proof(rows: int) -> Proof:
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    return Proof(SPEC, ({"x": x, "y": x * 2},), ())


@pytest.mark.parametrize("rows", [1, 2, 3, 20])
def test_every_size_of_batch_is_asked_for_however_few_rows_there_are(rows: int) -> None:
    asked = []

    def right(inputs: Arrays) -> Arrays:
        asked.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2}

    assert compare(proof(rows), right) == 0
    assert {1, 2, 7} <= set(asked)


@pytest.mark.parametrize("size", [2, 7])
def test_a_format_that_is_wrong_in_batches_alone_is_refused_by_a_sample_of_one_row(size: int) -> None:
    def wrong(inputs: Arrays) -> Arrays:
        return {"y": inputs["x"] * 2 + np.float32(len(inputs["x"]) == size)}

    with pytest.raises(Refused, match=f"answers differ from the model's by 1 in batches of {size}"):
        compare(proof(1), wrong)
