"""What becomes of the scorecard that a run has already."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.cost.earlier import Earlier, read_earlier
from loadtest.cost.price import Price
from loadtest.loaded_run import LoadedRun

ABOUT = {"git_commit": "abc", "rate_rps": 500.0}
DEFAULT, TUNED = (
    {"model": "m", "stack": "onnx", "settings": said, "artifact": "ab", "figures": [{"name": "idle memory"}]}
    for said in ("default", "tuned 1")
)


def written(folder: Path, content: Any) -> Path:
    file = folder / "scorecard.json"
    file.write_text(json.dumps(content))
    return file


def run(artifact: str = "ab") -> LoadedRun:
    return LoadedRun(Path("run"), {"fairness": {"paths": {"m@onnx.gateway": {"artifact": {"value": artifact}}}}})


@pytest.mark.parametrize(("differs", "stays"), [({}, True), ({"git_commit": "def"}, False), ({"rate_rps": 9.0}, False)])
def test_cards_of_other_settings_stay_where_code_and_load_are_the_same(
    tmp_path: Path, differs: dict[str, Any], *, stays: bool
) -> None:
    earlier = read_earlier(written(tmp_path, {**ABOUT, "scorecard": [DEFAULT, TUNED]}))
    assert earlier.kept({**ABOUT, **differs}, [TUNED], run()) == [DEFAULT] * stays
    gone = [text.partition(": ")[0] for text in earlier.gone({**ABOUT, **differs}, [TUNED], run())]
    assert gone == ["the scorecard no longer has m@onnx (default)"] * (not stays)


def test_a_card_of_another_artifact_than_the_run_loaded_goes_and_one_that_says_none_stays(tmp_path: Path) -> None:
    old = {name: value for name, value in TUNED.items() if name != "artifact"}
    earlier = read_earlier(written(tmp_path, {**ABOUT, "scorecard": [DEFAULT, old]}))
    assert earlier.kept(ABOUT, [], run("cd")) == [old]
    why = "the scorecard no longer has m@onnx (default): the run loaded another engine or artifact"
    assert list(earlier.gone(ABOUT, [], run("cd"))) == [why]
    assert earlier.kept(ABOUT, [], LoadedRun(Path("run"), {})) == [DEFAULT, old]


def test_a_price_that_was_declared_is_known(tmp_path: Path) -> None:
    file = written(tmp_path, {"price": {"per_hour": 0.1, "currency": "EUR"}, "scorecard": []})
    assert read_earlier(file).price == Price(0.1, "EUR")
    assert read_earlier(written(tmp_path, {"scorecard": []})).price is None


def test_a_run_without_a_scorecard_has_none(tmp_path: Path) -> None:
    assert read_earlier(tmp_path / "scorecard.json") == Earlier()
    assert Earlier().kept(ABOUT, [TUNED], run()) == []


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"scorecard": [{}]},
        {"scorecard": [{"model": "m", "stack": "onnx", "figures": [{}]}]},
        {"scorecard": [{"model": [], "stack": "onnx", "figures": []}]},
        {"scorecard": [], "price": {"per_hour": "much", "currency": "EUR"}},
        {"scorecard": [], "price": 3},
    ],
)
def test_a_file_that_is_no_scorecard_is_named(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ValueError, match=r"scorecard\.json cannot be read .*; remove it"):
        read_earlier(written(tmp_path, content))
