"""The simulation: its draws are what they say, and the statistics keep their promises on them."""

import numpy as np
import pytest
from scipy import stats

from report import intervals
from report.percentiles import per_round
from report.verdicts import METRICS, judge, primary_family
from studies.simulation import trial
from studies.simulation.__main__ import main
from studies.simulation.generators import (
    Generator,
    Lognormal,
    Noise,
    Plan,
    autoregressive,
    draw_latencies,
    log_percentiles,
)
from studies.simulation.kinds import KINDS
from studies.simulation.trial import INJECTED, MEASUREMENTS, SLOWED, Counts, try_out

pytestmark = pytest.mark.slow

DEFAULT = Plan(2000, len(MEASUREMENTS), 20, 662)
LABELS = {measurement: measurement for measurement in MEASUREMENTS}


@pytest.fixture(scope="module", params=KINDS)
def counts(request: pytest.FixtureRequest) -> Counts:
    return try_out(KINDS[request.param], DEFAULT, seed=1)


def test_95_percent_intervals_cover_the_truth_in_93_to_97_percent_of_runs(counts: Counts) -> None:
    assert 0.93 * counts.runs <= counts.covered_p50 <= 0.97 * counts.runs
    assert 0.93 * counts.runs <= counts.covered_p99 <= 0.97 * counts.runs


def test_equal_paths_are_told_apart_in_at_most_5_percent_of_runs(counts: Counts) -> None:
    assert counts.false_alarms <= 0.05 * counts.runs


@pytest.mark.parametrize("kind", ["lognormal, 1 % spikes", "drift", "correlated measurements"])
def test_a_planted_5_percent_is_found_on_p50_in_95_percent_of_runs_where_blocks_are_quiet(kind: str) -> None:
    assert try_out(KINDS[kind], DEFAULT, seed=1).found >= 0.95 * 2000


@pytest.mark.parametrize("memory", [0.2, 0.4])
def test_where_rounds_lean_on_one_another_plain_t_would_fail_and_ours_holds(memory: float) -> None:
    leaning = Generator(Lognormal(0.25), Noise(path=0.03, path_autocorrelation=memory))
    logs = log_percentiles(leaning, DEFAULT, np.random.default_rng(1))
    logs[:, :, MEASUREMENTS.index(SLOWED.a)] += np.log(INJECTED)
    ratios = trial.log_ratios(logs, primary_family(MEASUREMENTS))
    plain, ours = (
        trial.covers(intervals.t_interval(ratios, each))[:, 0].mean() for each in (0, trial.autocorrelation(ratios))
    )
    assert plain < 0.93 <= ours <= 0.97


@pytest.mark.parametrize("kind", KINDS)
def test_percentiles_drawn_directly_are_distributed_as_those_of_drawn_latencies(kind: str) -> None:
    generator = KINDS[kind]._replace(noise=Noise(path=0.02))
    plan, rng = Plan(30, len(MEASUREMENTS), 20, 662), np.random.default_rng(2)
    direct = log_percentiles(generator, plan, rng)
    runs = [draw_latencies(generator, plan, rng) for _ in range(plan.runs)]
    for position, percent in enumerate(METRICS.values()):
        raw = np.concatenate([np.log(per_round(rounds, percent) / 1000) for run in runs for rounds in run])
        assert stats.ks_2samp(direct[:, position].ravel(), raw).pvalue > 0.001


@pytest.mark.parametrize("kind", KINDS)
def test_the_trial_judges_percentiles_as_the_report_judges_latencies(kind: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(3):
        run = dict(zip(MEASUREMENTS, draw_latencies(KINDS[kind], DEFAULT, rng), strict=True))
        run[SLOWED.a] = [INJECTED * rounds for rounds in run[SLOWED.a]]
        logs = np.log([[per_round(rounds, percent) for rounds in run.values()] for percent in METRICS.values()])
        named = trial.winners(trial.log_ratios(logs[np.newaxis], primary_family(MEASUREMENTS)))[0]
        verdicts = judge(run, LABELS, seed=1)
        assert [each.verdict != "too close to call" for each in verdicts] == named.tolist()


def test_from_raw_latencies_on_the_interval_holds_the_planted_ratio_and_the_verdict_finds_it() -> None:
    generator, rng, runs = KINDS["lognormal, 1 % spikes"], np.random.default_rng(4), 60
    covered = found = 0
    for _ in range(runs):
        pair = dict(
            zip((SLOWED.a, SLOWED.b), draw_latencies(generator, DEFAULT._replace(measurements=2), rng), strict=True)
        )
        pair[SLOWED.a] = [INJECTED * rounds for rounds in pair[SLOWED.a]]
        verdict = judge(pair, LABELS, seed=1)[0]
        covered += verdict.low <= INJECTED <= verdict.high
        found += verdict.verdict == "b"
    # Under 95 % the chance of fewer than 51 of 60 is 0.2 %.
    assert covered >= 51
    assert found >= 0.95 * runs


def test_a_series_has_variance_one_and_the_memory_asked_for() -> None:
    series = autoregressive((50_000, 20), 0.6, np.random.default_rng(5))
    assert series.var(axis=0) == pytest.approx(np.ones(20), abs=0.03)
    assert (series[:, 1:] * series[:, :-1]).mean() == pytest.approx(0.6, abs=0.02)


def test_spikes_lift_the_p99_and_leave_the_median() -> None:
    plain, spiky = Lognormal(0.25), Lognormal(0.25, spikes=0.02, factor=8)
    levels = np.array([0.5, 0.99])
    assert plain.log_quantile(levels) == pytest.approx([0, 0.25 * 2.3263], abs=1e-3)
    assert spiky.log_quantile(levels) == pytest.approx([0, np.log(8)], abs=0.02)


def test_the_command_prints_a_line_for_each_kind_and_says_when_a_claim_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--runs", "100", "--rounds", "11"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[4:]] == list(KINDS)
    assert "**" in lines[-1]


def test_the_command_names_what_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    assert main(["--run", str(tmp_path)]) == 1
    assert "has no rows by round" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["--rounds", "10"])
