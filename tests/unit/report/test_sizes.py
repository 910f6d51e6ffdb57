import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from report.documents import run
from report.schema import ReportError, validator
from report.sizes import Sizes, size_classes, sizes
from report.summary import Summary, build, to_dict
from tests.synthetic_run import write_run
from tests.unit.report.plain import plain

MANY = 2_700


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    medians_us = {"m@onnx": 700.0}
    return build(write_run(tmp_path_factory.mktemp("run") / "run", requests=300, medians_us=medians_us))


def ends(request_bytes: list[float]) -> list[tuple[int, int, int]]:
    return [each[:3] for each in size_classes(np.array(request_bytes), np.zeros(len(request_bytes)))]


def test_one_size_and_no_size_have_no_classes() -> None:
    assert ends([7.0] * 9) == []
    assert ends([math.nan] * 9) == []
    assert ends([]) == []


def test_up_to_four_sizes_are_a_class_each() -> None:
    assert ends([5, 7, 5, 9, 8]) == [(5, 5, 2), (7, 7, 1), (8, 8, 1), (9, 9, 1)]


def test_more_sizes_are_parted_at_quarters_of_the_requests_equal_ones_together() -> None:
    assert ends([*range(1, 101)]) == [(1, 25, 25), (26, 50, 25), (51, 75, 25), (76, 100, 25)]
    assert ends([1] * 60 + [*range(2, 42)]) == [(1, 1, 60), (2, 16, 15), (17, 41, 25)]


def test_a_class_has_the_latency_of_its_own_requests_and_none_below_the_floor() -> None:
    request_bytes = np.array([10.0] * MANY + [20.0] * 3)
    small, large = size_classes(request_bytes, np.array([1000.0] * MANY + [9000.0] * 3))
    assert (small.p50_ms, small.p99_ms) == (1.0, 1.0)
    assert (large.requests, large.p50_ms, large.p99_ms) == (3, None, None)


def test_sizes_are_of_what_was_recorded() -> None:
    assert sizes(np.array([1, math.nan, 2, 2])) == Sizes(1.7, 1, 2)
    assert sizes(np.array([math.nan])) is None


def test_the_summary_has_sizes_and_classes_of_each_path_and_obeys_its_schema(sized: Summary) -> None:
    found = to_dict(sized)
    assert [error.message for error in validator("summary").iter_errors(found)] == []
    for row in found["paths"]:
        assert row["request_bytes"] == {"mean": 925.6, "smallest": 36, "largest": 4100}
        assert row["reply_bytes"]["mean"] == (96.0 if row["via"] == "gateway" else 64.0)
        classes = row["size_classes"]
        assert [each["largest_bytes"] for each in classes] == [36, 420, 4100]
        assert sum(each["requests"] for each in classes) == row["requests"]
        assert classes[0]["p50_ms"] == pytest.approx(row["response_p50_ms"], rel=0.1)
    assert found["payloads"]["file"] == "requests.npz"


def test_a_class_counts_what_plain_sorting_gives(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", requests=300, medians_us={"m@onnx": 700.0})
    files = sorted((folder / "rows").glob("r*-m@onnx.direct.parquet"))
    rows = [row for file in files for row in parquet.read_table(file).to_pylist() if row["phase"] == "measure"]
    ordered_us = sorted(row["response_us"] for row in rows if row["request_bytes"] == 36)
    (direct,) = [row for row in build(folder).rows if row.via == "direct"]
    assert direct.size_classes[0].p99_ms == round(ordered_us[math.ceil(0.99 * len(ordered_us)) - 1] / 1000, 4)


def test_the_document_says_what_was_sent(sized: Summary) -> None:
    text = plain(run.document(sized))
    assert "Requests are those of requests.npz, sha256 cdcdcdcdcdcd, again and again." in text
    assert "x [1, 2] | x [1, 98] | x [1, 1018]; expected: the outputs in the file, within" in text
    assert "4,100" in text
    assert "valid: every path returned correct responses" in text


def test_answers_that_were_held_to_another_paths_are_not_called_correct(tmp_path: Path) -> None:
    found = build(write_run(tmp_path / "run", medians_us={"m@onnx": 700.0}))
    model = found.facts["payloads"]["models"]["m"]
    model |= {"expected": "answers of m@onnx.direct", "more_shapes": 3}
    text = plain(run.document(found))
    assert "and 3 more shapes; expected: the answers of m@onnx.direct before the load, within twice" in text
    assert "valid: every path returned the responses of m@onnx.direct" in text


def test_a_run_of_before_has_no_sizes_and_no_such_section(summary: Summary) -> None:
    assert {"request_bytes", "reply_bytes", "size_classes"} & to_dict(summary)["paths"][0].keys() == set()
    assert "payloads" not in to_dict(summary)
    assert "What was sent" not in plain(run.document(summary))


def test_an_impossible_size_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rounds=1, medians_us={"m@onnx": 700.0})
    file: Any = folder / "rows/r00-m@onnx.direct.parquet"
    table = parquet.read_table(file)
    at = table.schema.get_field_index("reply_bytes")
    parquet.write_table(table.set_column(at, "reply_bytes", [[-1] * table.num_rows]), file)
    with pytest.raises(ReportError, match="impossible values of reply_bytes, such as -1"):
        build(folder)
