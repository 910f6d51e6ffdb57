"""How a comparison is shown to people and to programs."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from servepath.client import ComparedPath, Comparison, Prediction, Verdict
from servepath.client.comparison import sentences, show, table, to_json
from servepath.protocols.arrays import Array
from servepath.protocols.comparison import PathError
from servepath.protocols.types import Provenance

SERVED = Provenance("m", "onnx", "onnxruntime", "1.27", 3, "abcdef0123", True, "fp32", 1250, 700, 40)  # noqa: FBT003
DOWN = PathError(14, "UNAVAILABLE", "BACKEND_DOWN", "the model server cannot be reached")


def equal(y: Array) -> ComparedPath[Prediction]:
    return ComparedPath("onnx", Verdict.EQUAL, Prediction({"y": y}, SERVED), difference=0.0, ulp=0)


def comparison(*more: ComparedPath[Prediction]) -> Comparison[Prediction]:
    worst = max((path.verdict for path in more), default=Verdict.EQUAL)
    return Comparison(worst, "onnx", (equal(np.array([[5]], np.float32)), *more))


def cells(found: Comparison[Prediction], model: str = "m") -> list[list[str]]:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(table(model, found))
    rows = [line for line in console.export_text().splitlines() if "m@" in line]
    return [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]


def test_a_row_has_answer_distances_times_origin_and_verdict() -> None:
    different = equal(np.array([[1.5]]))._replace(stack="tfserving", verdict=Verdict.DIFFERENT, difference=0.25, ulp=3)
    first, second = cells(comparison(different))
    assert first[:7] == ["m@onnx*", "y [5]", "0", "0", "1.25", "0.04", "0.70"]
    assert first[7:] == ["onnxruntime 1.27", "fp32", "3", "abcdef01", "EQUAL"]
    assert second[:4] == ["m@tfserving", "y [1.5]", "0.25", "3"]
    assert second[-1] == "DIFFERENT"


def test_long_answers_are_shortened_and_texts_are_read() -> None:
    outputs = {"y": np.arange(6.0) / 3, "label": np.array([b"pay"], object)}
    (row,) = cells(Comparison(Verdict.EQUAL, "", (ComparedPath("a", Verdict.EQUAL, Prediction(outputs, SERVED)),)))
    assert row[:4] == ["m@a", "y [0, 0.3333333, 0.6666667, 1, ...]; label [pay]", "-", "-"]


def test_a_path_that_failed_has_no_figures_and_a_sentence() -> None:
    found = comparison(ComparedPath("torchserve", Verdict.FAILED, error=DOWN))
    assert cells(found, "m@onnx")[1] == ["m@torchserve", *["-"] * 10, "FAILED"]
    assert list(sentences("m@onnx", found)) == [
        "m@torchserve: the model server cannot be reached (UNAVAILABLE, BACKEND_DOWN)",
        "FAILED: 2 paths, compared with m@onnx",
    ]


def test_where_answers_differ_is_said_beneath(capsys: pytest.CaptureFixture[str]) -> None:
    detail = "output 'y' is [6], onnx says [5]: 1 apart"
    show("m", comparison(equal(np.array([[6]]))._replace(stack="b", verdict=Verdict.DIFFERENT, detail=detail)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [f"m@b: {detail}", "DIFFERENT: 2 paths, compared with m@onnx"]
    show("m", Comparison(Verdict.FAILED, "", (ComparedPath("a", Verdict.FAILED, error=DOWN),)))
    assert capsys.readouterr().out.splitlines()[-1] == "FAILED: 1 path"


def test_programs_get_everything_as_json() -> None:
    failed = ComparedPath[Prediction]("b", Verdict.FAILED, error=DOWN)
    apart = equal(np.array([[1]]))._replace(verdict=Verdict.DIFFERENT, difference=math.inf, ulp=None)
    found = json.loads(json.dumps(to_json("m@onnx", comparison(failed, apart)), allow_nan=False))
    assert (found["model"], found["baseline"], found["verdict"]) == ("m", "onnx", "FAILED")
    first, second, third = found["paths"]
    assert (first["difference"], first["ulp"], first["outputs"]) == (0, 0, {"y": [[5]]})
    assert (first["served"]["sha256"], first["error"]) == ("abcdef0123", None)
    assert (second["error"], second["served"], second["outputs"]) == (DOWN._asdict(), None, None)
    assert (third["verdict"], third["difference"]) == ("DIFFERENT", None)
