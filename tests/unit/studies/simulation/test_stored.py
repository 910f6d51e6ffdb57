"""Many stored runs become one kind of simulated run."""

import json
from pathlib import Path

import numpy as np
import pytest

from studies.simulation.__main__ import main
from studies.simulation.fit import fit
from studies.simulation.stored import read_stored
from tests.synthetic_run import write_run

pytestmark = pytest.mark.slow


def write(folder: Path, seed: int, slower: float = 1.0) -> Path:
    """Write a run of two sides and 11 rounds; b's servers may be slower."""
    medians_us, sides = {"simple_nn@onnx": 700.0}, {"a": 1.0, "b": slower}
    return write_run(folder, seed=seed, rounds=11, requests=670, medians_us=medians_us, sides=sides)


def test_a_difference_between_runs_is_no_noise_between_rounds(tmp_path: Path) -> None:
    write(tmp_path / "1", 1)
    write(tmp_path / "2", 2, slower=2.0)
    latencies = read_stored(tmp_path)
    assert {measurement: len(rounds) for measurement, rounds in latencies.items()} == {
        "simple_nn@onnx.direct~a": 22,
        "simple_nn@onnx.direct~b": 22,
    }
    assert np.median(np.concatenate(latencies["simple_nn@onnx.direct~b"])) == pytest.approx(1.0, abs=0.01)
    # Nothing but chance was drawn: the runs' difference, a factor of 2, is not in the measurements' noise.
    assert fit(latencies).noise.path < 0.02


def test_invalid_runs_are_left_out_and_none_at_all_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "1", 1) / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"complete": False}))
    assert main(["--stored", str(tmp_path)]) == 1
    assert "holds no valid run, and 1 in all" in capsys.readouterr().err
    write(tmp_path / "2", 2)
    assert {len(rounds) for rounds in read_stored(tmp_path).values()} == {11}


def test_runs_of_different_blocks_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "1", 1)
    write_run(tmp_path / "2", rounds=11, requests=670, medians_us={"keras_dense@onnx": 700.0})
    with pytest.raises(ValueError, match="runs of different measurements"):
        read_stored(tmp_path)
