"""The noise of stored runs: read from rows, and found again when it is known."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from report.verdicts import Latencies
from studies.simulation.fit import fit
from studies.simulation.generators import Generator, Lognormal, Noise, Plan, draw_latencies
from studies.simulation.stored import read_latencies

KNOWN = Generator(
    Lognormal(0.25), Noise(machine=0.05, machine_autocorrelation=0.98, path=0.04, path_autocorrelation=0.4, tail=0.1)
)


def drawn(generator: Generator, plan: Plan, factor: float = 3.0) -> Latencies:
    measurements = draw_latencies(generator, plan, np.random.default_rng(1))
    return {
        f"m@s{number}.direct": [factor**number * each for each in rounds] for number, rounds in enumerate(measurements)
    }


def test_a_fit_finds_the_noise_that_the_blocks_were_drawn_with() -> None:
    shape, noise = fit(drawn(KNOWN, Plan(1, 8, 200, 700)))
    levels = np.array([0.05, 0.5, 0.95])
    assert shape.log_quantile(levels) == pytest.approx(0.25 * np.array([-1.645, 0, 1.645]), abs=0.02)
    assert noise.path == pytest.approx(0.04, abs=0.008)
    assert noise.path_autocorrelation == pytest.approx(0.4, abs=0.1)
    assert noise.tail == pytest.approx(0.1, abs=0.02)
    assert noise.machine == pytest.approx(0.05, abs=0.02)
    assert noise.machine_autocorrelation == pytest.approx(0.98, abs=0.02)


def test_a_fit_to_blocks_without_noise_finds_next_to_none() -> None:
    noise = fit(drawn(Generator(Lognormal(0.25), Noise()), Plan(1, 8, 40, 700))).noise
    assert max(noise.machine, noise.path, noise.tail) < 0.015


def test_a_few_disturbed_blocks_stay_few_and_much_disturbed() -> None:
    latencies = drawn(KNOWN._replace(noise=Noise(path=0.02)), Plan(1, 4, 40, 700))
    for number, rounds in enumerate(latencies.values()):
        for place in (7, 23):
            rounds[place + number] = rounds[place + number] * 2
    form = fit(latencies).noise.form
    assert abs(form.log_quantile(np.array([0.25, 0.75]))).max() < 0.5
    assert form.log_quantile(np.array([0.99])) > 2.5


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(
        ValueError, match="10 rounds of 2 measurements, each with enough correct responses, are too few"
    ):
        fit(drawn(KNOWN, Plan(1, 2, 10, 700)))
    with pytest.raises(ValueError, match="0 rounds of 2 measurements"):
        fit(drawn(KNOWN, Plan(1, 2, 20, 600)))


def write(folder: Path, name: str, **columns: list[object]) -> None:
    rows = {"phase": ["measure"] * 4, "ok": [True] * 4, "wrong": [False] * 4, "service_us": [1.0, 2.0, 3.0, 4.0]}
    (folder / "rows").mkdir(exist_ok=True)
    parquet.write_table(pa.table(rows | columns), folder / f"rows/{name}.parquet")


def test_only_measured_right_answers_are_read(tmp_path: Path) -> None:
    phases = {"phase": ["warmup", "measure", "measure", "measure"]}
    write(tmp_path, "r00-m@s.direct", **phases, ok=[True, True, False, True], wrong=[False, False, False, True])
    assert [each.tolist() for each in read_latencies(tmp_path)["m@s.direct"]] == [[2.0]]


def test_where_there_was_a_schedule_response_times_are_read(tmp_path: Path) -> None:
    write(tmp_path, "r00-m@s.direct", response_us=[5.0, 6.0, 7.0, 8.0])
    write(tmp_path, "r01-m@s.direct", response_us=[None] * 4)
    read = read_latencies(tmp_path)["m@s.direct"]
    assert [each.tolist() for each in read] == [[5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0]]


def test_rounds_are_aligned_and_the_no_op_server_is_left_out(tmp_path: Path) -> None:
    for name in ("r00-m@s.direct", "r01-m@s.direct", "r01-m@s.gateway", "r00-null@null.direct"):
        write(tmp_path, name)
    read = read_latencies(tmp_path)
    assert {measurement: [len(each) for each in rounds] for measurement, rounds in read.items()} == {
        "m@s.direct": [4, 4],
        "m@s.gateway": [0, 4],
    }
