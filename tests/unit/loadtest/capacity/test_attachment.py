"""What becomes of the capacities that a run has already."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from loadtest.capacity.attachment import Attachment
from loadtest.plan import Measurement, ServingPath
from servepath.settings import SettingsError

ONE_ROW, TWO_ROWS = (
    {"models": {"m": {"requests": 9, "shapes": [{"inputs": {"x": [rows, 2]}, "requests": 9}], "expected": "-"}}}
    for rows in (1, 2)
)
FACTS = {"slo_p99_ms": 5.0, "git_commit": "abc", "payloads": ONE_ROW}
MINE, OTHER = ({"model": "m", "stack": stack, "via": "direct"} for stack in ("onnx", "tfserving"))
NEW = MINE | {"rate_rps": 900}
MEASUREMENT = Measurement(ServingPath("m", "onnx"), "direct")


def begun(folder: Path, before: Any, found: Mapping[str, str] | None = None) -> Attachment:
    """Begin on a run that has capacities and their rows, and search; found: who answers."""
    if not (folder / "run.json").exists():
        (folder / "run.json").write_text("{}")
    (folder / "capacity.json").write_text(json.dumps({"capacity": before}))
    (folder / "capacity").mkdir()
    for stack in ("onnx", "tfserving"):
        for number in (0, 1):
            (folder / f"capacity/m@{stack}.direct-00{number}.parquet").write_text("before")
    attachment = Attachment(folder, dict(FACTS))
    attachment.begin({MEASUREMENT: found or {}})
    file = attachment.rows_file(MEASUREMENT, 0)
    file.parent.mkdir()
    file.write_text("new")
    return attachment


def paths(folder: Path) -> list[dict[str, Any]]:
    """Return what capacity.json has."""
    found: list[dict[str, Any]] = json.loads((folder / "capacity.json").read_text())["capacity"]["paths"]
    return found


def rows(folder: Path) -> dict[str, str]:
    """Return the files of rows, with what they hold."""
    return {
        str(file.relative_to(folder / "capacity")): file.read_text() for file in folder.glob("capacity/**/*.parquet")
    }


BEFORE = {f"m@{stack}.direct-00{number}.parquet": "before" for stack in ("onnx", "tfserving") for number in (0, 1)}


def test_until_its_search_has_ended_a_path_keeps_the_result_that_it_has(tmp_path: Path) -> None:
    attachment = begun(tmp_path, FACTS | {"paths": [MINE, OTHER]})
    assert paths(tmp_path) == [MINE, OTHER]
    assert BEFORE.items() <= rows(tmp_path).items()
    attachment.add(MEASUREMENT, NEW, ended=True)
    attachment.save()
    assert paths(tmp_path) == [OTHER, NEW]
    others = {name: text for name, text in BEFORE.items() if "tfserving" in name}
    assert rows(tmp_path) == {"m@onnx.direct-000.parquet": "new", **others}


def test_an_interrupted_search_takes_the_place_of_nothing(tmp_path: Path) -> None:
    attachment = begun(tmp_path, FACTS | {"paths": [MINE, OTHER]})
    attachment.add(MEASUREMENT, NEW, ended=False)
    attachment.save()
    assert (paths(tmp_path), rows(tmp_path), attachment.added) == ([MINE, OTHER], BEFORE, False)


def test_an_interrupted_search_is_kept_where_there_was_nothing(tmp_path: Path) -> None:
    attachment = begun(tmp_path, FACTS | {"paths": [OTHER]})
    attachment.add(MEASUREMENT, NEW, ended=False)
    attachment.save()
    assert paths(tmp_path) == [OTHER, NEW | {"ended": False}]
    assert rows(tmp_path)["m@onnx.direct-000.parquet"] == "new"


@pytest.mark.parametrize(("cut", "complete"), [({}, True), ({"ended": False}, False)])
def test_the_file_is_complete_where_every_search_in_it_has_ended(
    tmp_path: Path, cut: dict[str, bool], *, complete: bool
) -> None:
    attachment = begun(tmp_path, FACTS | {"paths": [MINE, OTHER | cut]})
    attachment.add(MEASUREMENT, NEW, ended=True)
    attachment.save()
    assert json.loads((tmp_path / "capacity.json").read_text())["capacity"]["complete"] is complete


def test_what_a_killed_search_left_is_no_row_of_the_next_one(tmp_path: Path) -> None:
    begun(tmp_path, FACTS | {"paths": [MINE]})
    Attachment(tmp_path, dict(FACTS)).begin({MEASUREMENT: {}})
    assert rows(tmp_path) == BEFORE


TUNED = {"settings": "tuned 2026-11-29 for rate; onnx: threads 4"}


def test_a_capacity_with_other_settings_stays(tmp_path: Path) -> None:
    attachment = begun(tmp_path, FACTS | {"paths": [MINE, MINE | TUNED]})
    attachment.add(MEASUREMENT, NEW, ended=True)
    assert attachment.paths == [MINE | TUNED, NEW]


def test_each_settings_of_a_path_have_rows_of_their_own(tmp_path: Path) -> None:
    attachment = begun(tmp_path, FACTS | {"paths": [MINE, OTHER]})
    for text in ("new", "newer"):
        searching = attachment.rows_file(MEASUREMENT, 0)
        searching.write_text(text)
        attachment.add(MEASUREMENT, NEW | TUNED, ended=True)
        (own,) = set(rows(tmp_path)) - set(BEFORE)
        assert own.startswith("m@onnx.direct~")
        assert rows(tmp_path) == BEFORE | {own: text}
    assert attachment.paths == [MINE, OTHER, NEW | TUNED]


def test_the_rows_of_results_that_do_not_stay_go(tmp_path: Path) -> None:
    attachment = begun(tmp_path, FACTS | {"git_commit": "def", "paths": [OTHER]})
    attachment.add(MEASUREMENT, NEW, ended=True)
    assert rows(tmp_path) == {"m@onnx.direct-000.parquet": "new"}


@pytest.mark.parametrize("differs", [{"slo_p99_ms": 6}, {"git_commit": "def"}])
def test_what_is_of_another_objective_or_commit_goes_with_the_first_result(
    tmp_path: Path, differs: dict[str, Any]
) -> None:
    attachment = begun(tmp_path, FACTS | differs | {"paths": [OTHER]})
    ((name, value),) = differs.items()
    word = {"slo_p99_ms": "objective in ms", "git_commit": "commit"}[name]
    why = f"their {word} is {value}, not {FACTS[name]}"
    assert list(attachment.gone()) == [
        f"with the first new result capacity.json no longer has m@tfserving direct (default): {why}"
    ]
    attachment.add(MEASUREMENT, NEW, ended=False)
    attachment.save()
    assert (paths(tmp_path), rows(tmp_path)) == ([OTHER], BEFORE)
    attachment.add(MEASUREMENT, NEW, ended=True)
    attachment.save()
    assert paths(tmp_path) == [NEW]


SERVED = {"engine": "embedded", "engine_version": "2.21", "artifact": "ab"}


def loaded(folder: Path, **differs: str) -> None:
    """Let the run say who answered it."""
    who = {key: {"class": "subject", "value": value} for key, value in (SERVED | differs).items()}
    manifest = {"paths": {"m@onnx.direct": who, "m@tfserving.direct": who}}
    (folder / "run.json").write_text(json.dumps({"fairness": manifest}))


@pytest.mark.parametrize(
    ("key", "value"), [("engine", "tensorflow_model_server"), ("engine_version", "2.20"), ("artifact", "cd")]
)
def test_a_capacity_of_another_server_than_the_run_loaded_is_refused(tmp_path: Path, key: str, value: str) -> None:
    loaded(tmp_path, **{key: value})
    said = rf"m@onnx.direct: {key} is {SERVED[key]} now and was {value} in .*; serve what the run loaded, or load"
    with pytest.raises(SettingsError, match=said):
        begun(tmp_path, FACTS | {"paths": [MINE]}, SERVED)
    assert paths(tmp_path) == [MINE]


def test_a_capacity_of_the_server_that_the_run_loaded_is_added_and_what_is_of_another_goes(tmp_path: Path) -> None:
    loaded(tmp_path)
    strange = OTHER | SERVED | {"artifact": "cd"}
    attachment = begun(tmp_path, FACTS | {"paths": [strange, OTHER | {"via": "gateway"}]}, SERVED)
    lost = "capacity.json no longer has m@tfserving direct (default): the run loaded another engine or artifact"
    assert list(attachment.gone()) == [f"with the first new result {lost}"]
    attachment.add(MEASUREMENT, NEW | SERVED, ended=True)
    assert attachment.paths == [OTHER | {"via": "gateway"}, NEW | SERVED]


def test_who_does_not_answer_or_say_is_not_refused(tmp_path: Path) -> None:
    loaded(tmp_path, engine_version="")
    assert begun(tmp_path, FACTS | {"paths": []}, SERVED | {"engine": ""}).paths == []


@pytest.mark.parametrize("before", [None, [], {}, FACTS | {"paths": [{}]}, FACTS | {"paths": None}, {"paths": [{}]}])
def test_a_file_that_is_no_capacity_is_named_and_its_rows_stay(tmp_path: Path, before: Any) -> None:
    with pytest.raises(SettingsError, match=r"capacity\.json cannot be read .*; remove it"):
        begun(tmp_path, before)
    assert rows(tmp_path) == BEFORE


FILE = {"source": "file", "file": "words.jsonl", "sha256": "aa"}


@pytest.mark.parametrize(
    ("sent", "missing"),
    [(TWO_ROWS, "--rows and no --payloads$"), (ONE_ROW | FILE, r"--rows and --payloads words\.jsonl$")],
)
def test_a_capacity_by_other_requests_than_the_run_sent_is_refused(
    tmp_path: Path, sent: dict[str, Any], missing: str
) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"payloads": sent}))
    with pytest.raises(SettingsError, match=f"has other requests of m: say what that run said, {missing}"):
        Attachment(tmp_path, dict(FACTS)).begin({MEASUREMENT: {}})
    assert not (tmp_path / "capacity.json").exists()


@pytest.mark.parametrize("sent", [ONE_ROW, {"models": {"other": {}}}, None])
def test_a_capacity_by_the_requests_of_the_run_is_added(tmp_path: Path, sent: Any) -> None:
    (tmp_path / "run.json").write_text(json.dumps({} if sent is None else {"payloads": sent}))
    attachment = Attachment(tmp_path, dict(FACTS))
    attachment.begin({MEASUREMENT: {}})
    attachment.add(MEASUREMENT, NEW, ended=True)
    attachment.save()
    assert (tmp_path / "capacity.json").exists()


def test_the_requests_of_models_searched_before_stay_written(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    before = FACTS | {"payloads": {"models": {"other": {"requests": 3}}}, "paths": [OTHER | {"model": "other"}]}
    (tmp_path / "capacity.json").write_text(json.dumps({"capacity": before}))
    attachment = Attachment(tmp_path, dict(FACTS))
    attachment.begin({MEASUREMENT: {}})
    attachment.add(MEASUREMENT, NEW, ended=True)
    attachment.save()
    written = json.loads((tmp_path / "capacity.json").read_text())["capacity"]
    assert [path["model"] for path in written["paths"]] == ["other", "m"]
    assert written["payloads"]["models"].keys() == {"m", "other"}
