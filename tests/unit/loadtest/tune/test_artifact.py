import pyarrow as pa
import pytest

from loadtest.plan import ServingPath
from loadtest.run import RunError
from loadtest.tune.artifact import refuse_other

PATH = ServingPath("m", "onnx")
OURS, OTHER = "ab" * 32, "cd" * 32


def test_answers_of_the_artifact_that_was_current_at_the_start_are_taken_and_failed_requests_have_none() -> None:
    refuse_other(pa.table({"sha256": [OURS, "", OURS]}), PATH, OURS)
    refuse_other(pa.table({"sha256": pa.array([], pa.string())}), PATH, OURS)


def test_an_answer_of_another_artifact_ends_the_search_with_what_happened() -> None:
    with pytest.raises(RunError) as caught:
        refuse_other(pa.table({"sha256": [OURS, "", OTHER]}), PATH, OURS)

    assert str(caught.value) == (
        "m@onnx answers from another artifact (cdcdcdcdcdcd) than at the start (abababababab): the model was exported "
        "meanwhile; give the same command again"
    )
