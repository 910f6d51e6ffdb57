import json
from pathlib import Path
from typing import Any

from loadtest import run
from loadtest.plan import Measurement, ServingPath

MEASUREMENTS = [Measurement(ServingPath("simple_nn", "onnx"), via) for via in ("direct", "gateway")]


def read(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text())


def test_a_run_is_incomplete_until_it_is_said_to_be_complete(tmp_path: Path) -> None:
    started = run.start(tmp_path, MEASUREMENTS, {"seed": 3, "rounds": 20, "load_model": "closed loop"})
    assert read(started.folder)["complete"] is False
    assert read(started.folder)["expected"] == [
        {"model": "simple_nn", "stack": "onnx", "via": "direct"},
        {"model": "simple_nn", "stack": "onnx", "via": "gateway"},
    ]
    started.measurements.append({"requests": 5})
    started.save(complete=True)
    found = read(tmp_path / "latest")
    assert (found["complete"], found["measurements"], found["seed"]) == (True, [{"requests": 5}], 3)
    assert (found["schema"], found["rounds"], found["load_model"]) == (3, 20, "closed loop")


def test_latest_points_at_the_newest_of_runs_that_start_in_one_second(tmp_path: Path) -> None:
    runs = [run.start(tmp_path, MEASUREMENTS, {}) for _ in range(3)]
    for started in runs:
        started.measurements.append({"requests": 5})
        started.save(complete=False)
    names = [started.folder.name for started in runs]
    assert len(set(names)) == 3
    assert (tmp_path / "latest").resolve().name == names[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "latest"])


def test_latest_stays_at_the_run_before_until_a_new_one_has_measured_something(tmp_path: Path) -> None:
    before, new = (run.start(tmp_path, MEASUREMENTS, {}) for _ in range(2))
    before.measurements.append({"requests": 5})
    before.save(complete=True)
    new.warmup.append({"seconds": 1.0})
    new.save(complete=False)
    assert (tmp_path / "latest").resolve() == before.folder.resolve()
    new.measurements.append({"requests": 5})
    new.save(complete=False)
    assert (tmp_path / "latest").resolve() == new.folder.resolve()
