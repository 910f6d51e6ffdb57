"""Folders of made-up runs of three sides."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.synthetic_run import write_run

WriteSides = Callable[..., Path]


@pytest.fixture
def write_sides(tmp_path: Path) -> WriteSides:
    """Return what writes OUT/runs/NAME with sides of these slow-downs, beside a calibration of 20 rounds."""

    def write(name: str, sides: Mapping[str, float], *, complete: bool = True, late_us: float = 0) -> Path:
        runs = tmp_path / "runs"
        runs.mkdir(exist_ok=True)
        folder = write_run(runs / name, rounds=20, requests=670, medians_us={"simple_nn@onnx": 700.0}, sides=sides)
        facts = json.loads((folder / "run.json").read_text())
        facts["measurements"][0]["clock"]["drift_us"] += late_us
        (folder / "run.json").write_text(json.dumps(facts | {"complete": complete}))
        calibration = {"path": "simple_nn@onnx", "rounds": 20, "rate_rps": 500.0, "p50_us": 760.0, "delay_us": 38.0}
        (tmp_path / "calibration.json").write_text(json.dumps(calibration))
        return folder

    return write
