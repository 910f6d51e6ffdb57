import shutil
from pathlib import Path
from typing import Any

import pytest

from report.__main__ import main
from report.compare import compare
from report.schema import ReportError
from report.summary import build

pytestmark = pytest.mark.slow

DIRECT = "simple_nn@onnx.direct"


@pytest.fixture
def other(stored: Any, tmp_path: Path) -> Any:
    folder = tmp_path / "other"
    shutil.copytree(stored.folder, folder)
    found = type(stored)(folder)
    found.change_facts(run="other")
    found.record_again()
    return found


def changed(stored: Any, key: str, value: object, *, path: str | None = None) -> None:
    fairness = stored.facts()["fairness"]
    (fairness["run"] if path is None else fairness["paths"][path])[key]["value"] = value
    stored.change_facts(fairness=fairness)


def both(stored: Any, other: Any, allowed: tuple[str, ...] = ()) -> Any:
    return compare(build(stored.folder), build(other.folder), allowed=allowed)


def test_a_run_against_its_copy_is_one_everywhere(stored: Any, other: Any) -> None:
    found = both(stored, other)
    assert found.differences == ()
    assert len(found.ratios) == 4 * 2
    assert {each.ratio for each in found.ratios} == {1.0}


def test_the_ratio_is_the_second_runs_response_time_to_the_firsts(stored: Any, other: Any) -> None:
    other.change_rows(DIRECT, lambda rows: [row | {"response_us": row["response_us"] * 2} for row in rows])
    ratios = {(str(each.row.name), each.metric): each.ratio for each in both(stored, other).ratios}
    assert ratios["simple_nn@onnx direct", "p50_ms"] == pytest.approx(2, rel=1e-3)
    assert ratios["simple_nn@onnx gateway", "p50_ms"] == 1


@pytest.mark.parametrize(
    ("key", "value", "path", "said"),
    [
        ("rate_rps", 400.0, None, "rate_rps: 500.0 (A), 400.0 (B); this must be equal, --allow rate_rps declares"),
        (
            "cpu_model",
            "another",
            None,
            "cpu_model: synthetic: nobody measured this (A), another (B); this must be equal",
        ),
        ("payload_sha256", "0" * 64, DIRECT, f"payload_sha256 of {DIRECT}: cdcdcdcdcdcd (A), 000000000000 (B); this"),
    ],
)
def test_an_undeclared_must_equal_difference_is_refused_by_its_key(
    stored: Any, other: Any, *, key: str, value: object, path: str | None, said: str
) -> None:
    changed(other, key, value, path=path)
    if path is not None:
        other.change_facts(allowed=[key])  # inside the run it was declared; between runs it is not
    with pytest.raises(ReportError) as caught:
        both(stored, other)
    assert str(caught.value).startswith(said)
    assert [each.key for each in both(stored, other, (key,)).differences] == [key]


def test_all_undeclared_differences_are_named_at_once_each_by_its_first_path(stored: Any, other: Any) -> None:
    for path in (DIRECT, "simple_nn@onnx.gateway"):
        changed(other, "payload_sha256", "0" * 64, path=path)
    other.change_facts(allowed=["payload_sha256"])
    changed(other, "rate_rps", 400.0)
    with pytest.raises(ReportError) as caught:
        both(stored, other)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "rate_rps",
        f"payload_sha256 of {DIRECT}",
    ]


def test_a_local_run_and_one_elsewhere_are_compared_once_what_is_unknown_is_declared(stored: Any, other: Any) -> None:
    keys = ("cpu_quota", "threads")
    for run, environment, known in ((stored, "local", "2 CPUs"), (other, "compose", "unknown")):
        fairness = run.facts()["fairness"]
        fairness["run"]["environment"] = {"class": "subject", "value": environment}
        for manifest in fairness["paths"].values():
            manifest |= {key: {"class": "must-equal", "value": known} for key in keys}
        run.change_facts(fairness=fairness)
    with pytest.raises(ReportError) as caught:
        both(stored, other)
    assert sorted(line.split(" of ")[0] for line in str(caught.value).splitlines()) == sorted(keys)
    subjects = [str(each) for each in both(stored, other, keys).differences if each.kind == "subject"]
    assert subjects == ["environment: local (A), compose (B)"]


def test_subjects_are_allowed_and_given(stored: Any, other: Any) -> None:
    changed(other, "git_commit", "1" * 40)
    changed(other, "seed", 9)
    assert [str(each) for each in both(stored, other).differences] == ["git_commit: 000000000000 (A), 111111111111 (B)"]


def test_an_open_and_a_closed_loop_are_not_compared(stored: Any, other: Any) -> None:
    other.close_loop()
    with pytest.raises(ReportError, match="load_model: open loop, poisson"):
        both(stored, other)


def test_a_run_that_is_not_valid_is_not_compared(stored: Any, other: Any) -> None:
    other.change_facts(complete=False)
    with pytest.raises(ReportError, match="other is not valid and cannot be compared: the run is incomplete"):
        both(stored, other)


def test_a_key_that_no_run_has_cannot_be_allowed(stored: Any, other: Any) -> None:
    with pytest.raises(ReportError, match="--allow speed: neither run has this key; known: cpu_model, engine, git"):
        both(stored, other, ("speed",))


def test_the_command_describes_and_does_not_judge(stored: Any, other: Any, capsys: pytest.CaptureFixture[str]) -> None:
    changed(other, "git_commit", "1" * 40)
    assert main(["compare", str(stored.folder), str(other.folder)]) == 0
    said = capsys.readouterr().out
    assert "subject git_commit: 000000000000 (A), 111111111111 (B)" in said
    assert "1.000" in said
    assert "Described, not judged" in said
    assert "faster" not in said


def test_the_command_says_a_refusal_in_one_line_and_ends_with_1(
    stored: Any, other: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(other, "rate_rps", 400.0)
    assert main(["compare", str(stored.folder), str(other.folder)]) == 1
    assert capsys.readouterr().err.startswith("servepath report: rate_rps: 500.0 (A), 400.0 (B); this must be equal")
    assert main(["compare", str(stored.folder), str(other.folder), "--allow", "rate_rps"]) == 0


def test_two_runs_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["compare", "one"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("servepath report compare: ")
