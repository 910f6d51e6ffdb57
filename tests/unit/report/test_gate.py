"""Decisions on simulated runs whose truth is known, on written runs, and what the command says and ends with."""

import itertools
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from report import gate, intervals
from report.__main__ import main
from report.documents import gate as gate_document
from report.gate import ALARM, NOT_SLOWER, PASSED, SLOWER, UNDECIDED, UNKNOWN, Decision
from report.rows import MeasurementName
from report.summary import build
from tests.synthetic_run import write_run

pytestmark = pytest.mark.slow

PATHS = [("simple_nn", "torchserve"), ("simple_nn", "onnx"), ("keras_dense", "tfserving"), ("keras_dense", "onnx")]
NAMES = [MeasurementName(*path, via) for path in PATHS for via in ("direct", "gateway")]
FIRST = NAMES[0]
RUNS = 60
Slower = Mapping[MeasurementName, float]


def decide(
    slower: Slower, seed: int, *, noise: float = 0.02, rounds: int = 12, requests: int = 662
) -> tuple[Decision, ...]:
    """Decide on a simulated run.

    Lognormal latencies, whole measurements off by `noise`, new ones slower by their factor.
    """
    random = np.random.default_rng(seed)
    pairs = [(name._replace(side="ref"), name._replace(side="tree")) for name in NAMES]
    latencies = {}
    for old, new in pairs:
        for name, factor in ((old, 1.0), (new, slower.get(new._replace(side=""), 1.0))):
            measurements = 1000 * factor * np.exp(noise * random.standard_normal((rounds, 1)))
            latencies[name.key] = list(measurements * random.lognormal(0, 0.25, (rounds, requests)))
    return gate.decide(gate.between_sides(latencies, pairs), 0.05)


def share(slower: Slower, code: int) -> tuple[float, float]:
    """Return the exact interval of how often simulated runs end with a code."""
    codes = [gate.outcome(decide(slower, seed), tail=False) for seed in range(RUNS)]
    return intervals.exact_interval(codes.count(code), RUNS)


def test_a_tree_that_is_as_fast_passes() -> None:
    low, _ = share({}, PASSED)
    assert low > 0.9


def test_a_path_that_is_ten_percent_slower_is_found_in_most_runs_and_passes_in_none() -> None:
    found, _ = share({FIRST: 1.1}, ALARM)
    _, passed = share({FIRST: 1.1}, PASSED)
    assert found > 0.6
    assert passed < 0.1


def test_a_path_that_is_fifteen_percent_slower_is_found() -> None:
    low, _ = share({FIRST: 1.15}, ALARM)
    assert low > 0.9


def test_paths_just_within_the_threshold_raise_an_alarm_in_at_most_one_of_twenty_runs() -> None:
    low, _ = share(dict.fromkeys(NAMES, 1.05), ALARM)
    assert low <= 0.05


def test_a_path_just_at_the_threshold_passes_in_at_most_one_of_twenty_runs() -> None:
    low, _ = share({FIRST: 1.05}, PASSED)
    assert low <= 0.05


def test_the_slower_path_is_named_and_no_other() -> None:
    found = decide({FIRST: 1.2}, seed=1)
    assert {each.measurement for each in found if each.found == SLOWER} == {FIRST}
    assert {each.found for each in found if each.metric == "p50" and each.measurement != FIRST} == {NOT_SLOWER}
    (p50,) = [each for each in found if (each.measurement, each.metric) == (FIRST, "p50")]
    assert 1.05 < p50.low < p50.ratio < p50.high
    assert p50.ratio == pytest.approx(1.2, rel=0.03)


def test_an_interval_that_straddles_the_threshold_cannot_tell_and_says_how_many_rounds_would() -> None:
    found = decide({FIRST: 1.05}, seed=3)
    assert gate.outcome(found, tail=False) == UNDECIDED
    (p50,) = [each for each in found if (each.measurement, each.metric) == (FIRST, "p50")]
    assert p50.found == UNKNOWN
    assert p50.low < 1.05 < p50.high
    assert p50.needed > 12


def test_a_noisy_machine_cannot_tell() -> None:
    assert gate.outcome(decide({}, seed=1, noise=0.3), tail=False) == UNDECIDED


def test_fewer_than_eleven_rounds_cannot_tell() -> None:
    found = decide({FIRST: 2.0}, seed=1, rounds=10)
    assert {(each.found, each.ratio) for each in found} == {(UNKNOWN, None)}
    assert gate.outcome(found, tail=False) == UNDECIDED
    assert gate.outcome(decide({FIRST: 2.0}, seed=1, rounds=11), tail=False) == ALARM


def test_a_p99_without_its_floor_of_requests_is_no_reason_not_to_pass_unless_it_is_asked_for() -> None:
    found = decide({}, seed=1, requests=400)
    assert {each.found for each in found if each.metric == "p99"} == {UNKNOWN}
    assert gate.outcome(found, tail=False) == PASSED
    assert gate.outcome(found, tail=True) == UNDECIDED


def test_a_tail_alone_raises_the_alarm() -> None:
    decisions = (Decision(FIRST, "p50", 12, NOT_SLOWER), Decision(FIRST, "p99", 12, SLOWER))
    assert gate.outcome(decisions, tail=False) == ALARM


def test_nothing_measured_is_no_pass() -> None:
    assert gate.outcome((), tail=False) == UNDECIDED


def test_the_alarm_is_stricter_the_more_is_asked() -> None:
    estimate = gate.between_sides(
        {name: [np.full(662, value * step) for step in (1, 1.01) * 6] for name, value in (("a@b.direct", 1.0),)}
        | {"a@b.direct~new": [np.full(662, 1.1)] * 12},
        [(MeasurementName("a", "b", "direct"), MeasurementName("a", "b", "direct", "new"))],
    )[0]
    alone, crowded = gate.decide([estimate], 0.05)[0], gate.decide([estimate] * 50, 0.05)[0]
    assert crowded.low < alone.low
    assert crowded.high == alone.high


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (
            Decision(FIRST, "p50", 12, SLOWER, 1.2, 1.1, 1.3, 3),
            "slower by more than 5 %: p50 of simple_nn@torchserve direct by 20.0 % (at least 10.0 %)",
        ),
        (Decision(FIRST, "p50", 12, NOT_SLOWER, 1.0, 0.99, 1.01, 3), "passed: no path's p50 is slower by 5 % or more"),
        (
            Decision(FIRST, "p50", 12, UNKNOWN, 1.03, 0.99, 1.07, 48),
            "about 48 rounds would decide, if they vary as these: --rounds 48",
        ),
        (
            Decision(FIRST, "p50", 12, UNKNOWN, 1.05, 0.9, 1.2, 5000),
            "more than 150 rounds would be needed: use a quieter machine, or a higher --threshold",
        ),
        (
            Decision(FIRST, "p50", 4, UNKNOWN),
            "each needs at least 11 rounds with enough requests",
        ),
    ],
)
def test_the_last_line_says_the_outcome_and_the_fix(decision: Decision, said: str) -> None:
    code = gate.outcome((decision,), tail=False)
    line = gate_document.conclude((decision,), code, gate_document.Rules(5.0, tail=False, stored=False))
    assert line.split("; ")[-1] == said
    assert line.startswith("inconclusive: p50 of simple_nn@torchserve direct") == (code == UNDECIDED)


def slow_down(file: Path, factor: float) -> None:
    table = parquet.read_table(file)
    at = table.schema.get_field_index("response_us")
    slower = pa.array(table["response_us"].to_numpy() * factor)
    parquet.write_table(table.set_column(at, table.schema.field(at), slower), file)


def make_sides(stored: Any, *factors: float) -> None:
    """Turn a stored run of 12 rounds into one of two sides: round by round, the new side takes `factors` as long."""
    rows, facts = stored.folder / "rows", stored.facts()
    for path in [path for path in rows.glob("r*.parquet") if "null@null" not in path.name]:
        shutil.copy(path, rows / f"{path.stem}~tree.parquet")
        path.rename(rows / f"{path.stem}~ref.parquet")

    def sided(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        paths, null = (
            [each for each in entries if each["model"] != "null"],
            [each for each in entries if each["model"] == "null"],
        )
        return [each | {"side": side} for side in ("ref", "tree") for each in paths] + null

    fairness = facts["fairness"]["paths"]
    both = {f"{name}~{side}": values for side in ("ref", "tree") for name, values in fairness.items()}
    stored.change_facts(
        expected=sided(facts["expected"]),
        measurements=sided(facts["measurements"]),
        fairness=facts["fairness"] | {"paths": both},
        arguments=facts["arguments"] | {"side": ["ref=a.env", "tree=b.env"]},
    )
    for measurement in fairness:
        for file, factor in zip(stored.files(f"{measurement}~tree"), itertools.cycle(factors), strict=False):
            slow_down(file, factor)
    stored.record_again()


@pytest.mark.parametrize(
    ("factors", "code", "line"),
    [
        ((1.0,), PASSED, "passed: no path's p50 is slower by 5 % or more"),
        ((1.2,), ALARM, "slower by more than 5 %: p50 of keras_dense@tfserving direct by 20.0 % (at least 20.0 %)"),
        ((0.9, 1.2), UNDECIDED, "inconclusive: p50 of keras_dense@tfserving direct (1.039, 0."),
    ],
)
def test_the_command_ends_with_the_outcomes_code_and_line(
    stored: Any, capsys: pytest.CaptureFixture[str], factors: tuple[float, ...], code: int, line: str
) -> None:
    make_sides(stored, *factors)
    assert main(["gate", str(stored.folder)]) == code
    assert capsys.readouterr().out.splitlines()[-1].startswith(line)


def test_a_higher_threshold_lets_more_pass(stored: Any) -> None:
    make_sides(stored, 1.2)
    assert main(["gate", str(stored.folder), "--threshold=30"]) == PASSED


def test_a_run_that_is_not_valid_cannot_tell_and_says_why(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    make_sides(stored, 1.2)
    stored.change_facts(complete=False)
    assert main(["gate", str(stored.folder)]) == UNDECIDED
    assert "not valid: the run is incomplete" in capsys.readouterr().out


def test_a_run_without_sides_is_refused_with_the_fix(stored: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", str(stored.folder)]) == 1
    said = "run does not compare two sides; run: make gate REF=..., or give stored runs by --stored"
    assert said in capsys.readouterr().err


@pytest.fixture
def small(stored: Any, tmp_path: Path) -> Any:
    """A run of one path, which is quicker to read."""
    return type(stored)(write_run(tmp_path / "small", medians_us={"simple_nn@onnx": 700.0}))


def copies(stored: Any, folder: Path, *factors: float) -> list[str]:
    """Return stored runs whose response times are those of `stored` times a factor each."""
    found = []
    for number, factor in enumerate(factors):
        copy = type(stored)(folder / f"stored-{number}")
        shutil.copytree(stored.folder, copy.folder)
        copy.change_facts(run=f"stored-{number}")
        copy.record_again()
        for measurement in stored.facts()["fairness"]["paths"]:
            for file in copy.files(measurement) if factor != 1 else ():
                slow_down(file, factor)
        found.append(str(copy.folder))
    return found


@pytest.mark.parametrize(
    ("factors", "code"),
    [
        ((0.99, 1.0, 1.0, 1.0, 1.01), PASSED),
        ((0.79, 0.8, 0.8, 0.8, 0.81), ALARM),
        ((0.8, 0.9, 1.0, 1.1, 1.2), UNDECIDED),
        ((0.8, 0.8, 0.8, 0.8), UNDECIDED),
    ],
)
def test_stored_runs_decide_by_their_spread_and_only_when_there_are_five(
    small: Any, tmp_path: Path, factors: tuple[float, ...], code: int
) -> None:
    assert main(["gate", str(small.folder), "--stored", *copies(small, tmp_path, *factors)]) == code


def test_a_path_that_only_the_stored_runs_have_is_inconclusive_and_named(stored: Any, tmp_path: Path) -> None:
    runs = [build(Path(folder)) for folder in copies(stored, tmp_path, 0.99, 1.0, 1.0, 1.0, 1.01)]
    new = build(stored.folder)
    fewer = replace(new, rows=tuple(row for row in new.rows if row.stack == "onnx"))
    decisions = gate.decide(gate.against_stored(fewer, runs), 0.05)
    lost = [(each.found, each.samples) for each in decisions if each.measurement.stack == "tfserving"]
    assert lost == [(UNKNOWN, 0)] * 4
    code = gate.outcome(decisions, tail=False)
    assert code == UNDECIDED
    named = "p50 of keras_dense@tfserving direct, p50 of keras_dense@tfserving gateway"
    said = f"inconclusive: {named}; each needs a value in the new run and in at least 5 stored ones"
    assert gate_document.conclude(decisions, code, gate_document.Rules(5.0, tail=False, stored=True)) == said


def test_the_bounds_against_stored_runs_are_those_of_a_prediction(small: Any, tmp_path: Path) -> None:
    runs = [build(Path(folder)) for folder in copies(small, tmp_path, 0.98, 0.99, 1.0, 1.01, 1.02)]
    estimate = gate.against_stored(build(small.folder), runs)[0]
    logs = np.log([0.98, 0.99, 1.0, 1.01, 1.02])
    assert estimate.mean == pytest.approx(-logs.mean(), abs=1e-3)
    assert estimate.error == pytest.approx(logs.std(ddof=1) * np.sqrt(1.2), rel=1e-2)
    assert (estimate.samples, estimate.degrees) == (5, 4)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"run": "small"}, "small is given twice; every run counts once"),
        ({"git_commit": "1" * 40}, "the stored runs are of several commits (0000"),
        ({"complete": False}, "stored-4 is not valid and cannot be compared: the run is incomplete"),
    ],
)
def test_stored_runs_that_cannot_be_a_measure_are_refused(
    small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], facts: dict[str, Any], said: str
) -> None:
    folders = copies(small, tmp_path, *[1.0] * 5)
    last = type(small)(Path(folders[-1]))
    last.change_facts(**facts)
    last.record_again()
    assert main(["gate", str(small.folder), "--stored", *folders]) == 1
    assert said in capsys.readouterr().err


def test_stored_runs_of_uncommitted_files_are_refused(
    small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = copies(small, tmp_path, *[1.0] * 5)
    for folder in folders:
        type(small)(Path(folder)).change_facts(git_commit=f"{'1' * 40}-dirty")
    assert main(["gate", str(small.folder), "--stored", *folders]) == 1
    assert "with uncommitted changes" in capsys.readouterr().err


def test_a_must_equal_difference_to_a_stored_run_is_refused_unless_declared(
    small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = copies(small, tmp_path, *[1.0] * 5)
    facts = json.loads((Path(folders[0]) / "run.json").read_text())
    facts["fairness"]["run"]["rate_rps"]["value"] = 400.0
    (Path(folders[0]) / "run.json").write_text(json.dumps(facts))
    words = ["gate", str(small.folder), "--stored", *folders]
    assert main(words) == 1
    assert "rate_rps: 400.0 (A), 500.0 (B); this must be equal" in capsys.readouterr().err
    assert main([*words, "--allow=rate_rps"]) == PASSED
