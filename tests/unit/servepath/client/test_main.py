import json
from typing import Any

import numpy as np
import pytest

from servepath.client import ComparedPath, Comparison, Prediction, Verdict
from servepath.client.__main__ import as_json, parse_args, paths_text, prediction_text, texts_text, values
from servepath.client.comparison import to_json
from servepath.protocols.paths import PathInfo, ShadowInfo, VersionLabel
from servepath.protocols.types import Provenance


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1 2", [[1, 2]]),
        ("1 2; 3 4", [[1, 2], [3, 4]]),
        ("1, 2.5", [[1, 2.5]]),
        ("-1 1e3", [[-1, 1000.0]]),
        ("[[1, 2]]", [[1, 2]]),
        ('{"a": [[1]]}', {"a": [[1]]}),
    ],
)
def test_x_is_rows_of_numbers_or_json(text: str, rows: Any) -> None:
    assert values(text) == rows


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["predict", "m", "one"], "'one' is not like '1 2'"),
        (["predict", "m", ""], "'' is not like '1 2'"),
        (["predict", "m", "1 2;"], "is not like '1 2'"),
        (["predict", "m", "[[1, 2]"], "is not like '1 2'"),
        (["predict", "m", "[" * 10**5], "is not like '1 2'"),
        (["predict", "m"], "one of the arguments x --text is required"),
        (["predict", "m", "1", "--timeout", "0"], "'0' is not a number of seconds above 0"),
        (["predict", "m", "1", "--timeout", "nan"], "'nan' is not a number of seconds above 0"),
        (["paths", "--addr", "localhost"], "'localhost' is not HOST:PORT"),
        (["paths", "--addr", "localhost:99999"], "'localhost:99999' is not HOST:PORT"),
        (["path"], "invalid choice: 'path'"),
        (["ask", "m", "--all"], "one of the arguments x --text is required"),
        (["predict", "m", "1", "--all"], "unrecognized arguments: --all"),
        ([], "required: predict|ask|paths"),
    ],
)
def test_a_bad_command_line_gets_one_line_and_code_2(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args(words)

    stderr = capsys.readouterr().err
    assert ended.value.code == 2
    assert text in stderr
    assert stderr.count("\n") == 1


def test_what_an_external_server_does_not_name_is_unknown() -> None:
    served = Provenance("m", "theirs", "mlserver", "1.7.1", 0, "", sha256_observed=False)
    text = prediction_text(Prediction({}, served))
    assert "served by m@theirs: mlserver 1.7.1, version unknown, sha256 unknown, " in text
    told = prediction_text(Prediction({}, served._replace(precision="tf32")))
    assert "served by m@theirs: mlserver 1.7.1, tf32, version unknown" in told
    path = PathInfo("m", "theirs", True, True, "mlserver", "1.7.1", 0, "", (), (), weight=100.0)  # noqa: FBT003 - booleans
    assert paths_text([path]).split("  ")[-1] == "mlserver 1.7.1, artifact unknown"


def test_what_came_of_a_shadow_is_printed() -> None:
    shadow = ShadowInfo(10.0, 990, 1, 0, 2, 0, 0, 0.25, "output 'y' is off")
    path = PathInfo("m", "onnx", False, True, "e", "1", 1, "a" * 64, (), (), shadow=shadow)  # noqa: FBT003 - as above
    said = paths_text([path, path._replace(shadow=ShadowInfo(2.5, 0, 0, 0, 0, 0, 0, 0.0, "", "waiting"))]).splitlines()
    assert said[0].endswith(
        "shadow of 10 %: 990 equal, 1 different, 2 late, at most 0.25 apart (last: output 'y' is off)"
    )
    assert said[1].endswith("shadow of 2.5 %: nothing yet, promotion: waiting")


def test_labels_are_printed_before_their_texts() -> None:
    labels = np.array([b"pay", b"remote_work"], object)
    prediction = Prediction({"label": labels}, Provenance("m", "onnx", "e", "1", 1, "a" * 64, sha256_observed=True))
    first, second, third = texts_text(["When?", "Where?"], prediction).splitlines()
    assert (first, second) == ("pay          When?", "remote_work  Where?")
    assert third.startswith("served by m@onnx: e 1")


@pytest.mark.parametrize("words", [["m", "--all", "--json", "1 2"], ["--all", "m", "1 2", "--json"]])
def test_all_and_json_stand_anywhere(words: list[str]) -> None:
    options = parse_args(["ask", *words])
    assert (options.model, options.x, options.every_path, options.json) == ("m", [[1, 2]], True, True)
    assert not parse_args(["ask", "m", "1 2"]).every_path


@pytest.mark.parametrize(
    ("word", "rows"), [("-1,2", [[-1, 2]]), ("-1 2; -.5 1e3", [[-1, 2], [-0.5, 1000]]), ("-1e3", [[-1000]])]
)
def test_rows_may_begin_with_a_negative_number(word: str, rows: list[list[float]]) -> None:
    assert parse_args(["predict", "m", word]).x == rows
    assert parse_args(["ask", "m", "--all", word, "--json"]).x == rows


def test_a_text_may_begin_with_a_negative_number() -> None:
    assert parse_args(["predict", "m", "--text", "-5 degrees", "--text", "-5"]).text == ["-5 degrees", "-5"]


def test_texts_and_numbers_exclude_each_other() -> None:
    assert parse_args(["predict", "m", "--text", "a", "--text", "b"]).text == ["a", "b"]
    with pytest.raises(SystemExit):
        parse_args(["predict", "m", "1 2", "--text", "a"])


@pytest.mark.parametrize(
    ("words", "version"),
    [([], 0), (["--version", "3"], 3), (["--version", "canary"], "canary"), (["--version", "9" * 20], "9" * 20)],
)
def test_a_version_is_a_number_or_a_label(words: list[str], version: int | str) -> None:
    assert parse_args(["predict", "m", "1 2", *words]).version == version


def test_labels_and_versions_of_a_path_are_printed() -> None:
    labels = (VersionLabel("stable", 3, 95.0), VersionLabel("canary", 4, 5.0), VersionLabel("old", 1))
    path = PathInfo("m", "tfserving", True, True, "", "", 3, "ab", (), (), versions=(1, 3, 4), version_labels=labels)  # noqa: FBT003
    said = "stable is version 3 (95 %), canary is version 4 (5 %), old is version 1, versions 1, 3, 4"
    assert said in paths_text([path])
    assert paths_text([path._replace(one_version=True)]).endswith(f"{said}, one at a time")


def test_json_has_names_for_what_is_no_number_of_its_own() -> None:
    served = Provenance("m", "onnx", "e", "1", 1, "a" * 64, sha256_observed=True)
    answer = Prediction(
        {"y": np.array([[np.nan, np.inf], [-np.inf, 1.5]]), "label": np.array([b"\xff"], object)}, served
    )
    compared = ComparedPath("onnx", Verdict.DIFFERENT, answer, difference=np.nan)
    found = {
        "outputs": answer.to_lists(),
        "comparison": to_json("m", Comparison(Verdict.DIFFERENT, "onnx", (compared,))),
    }
    read = json.loads(as_json(found), parse_constant=pytest.fail)
    assert read["outputs"] == {"y": [["NaN", "Infinity"], ["-Infinity", 1.5]], "label": ["\\xff"]}
    (path,) = read["comparison"]["paths"]
    assert (path["difference"], path["outputs"]) == ("NaN", read["outputs"])
    assert path["served"]["sha256_observed"] is True
