"""The run that a capacity or a scorecard is added to."""

from pathlib import Path
from typing import Any

import pytest

from loadtest.loaded_run import LoadedRun
from servepath.settings import SettingsError


def test_its_rate_is_that_of_its_load_and_by_default_the_load_tests() -> None:
    assert LoadedRun(Path("run"), {"arguments": {"rate": 40.0}}).rate_rps == 40.0
    assert LoadedRun(Path("run"), {}).rate_rps == 500.0


def payloads(*lengths: int) -> dict[str, Any]:
    shapes = [{"inputs": {"x": [1, length]}, "requests": 2} for length in lengths]
    return {"models": {"m": {"requests": 6, "shapes": shapes, "more_shapes": 0, "expected": "-"}}}


def test_the_same_requests_in_another_order_are_the_same() -> None:
    run = LoadedRun(Path("run"), {"payloads": payloads(2, 3, 4)})
    run.refuse_other_requests(payloads(4, 2, 3), ["m"], "")
    with pytest.raises(SettingsError, match="run has other requests of m: give no --payloads"):
        run.refuse_other_requests(payloads(2, 3, 5), ["m"], "give {file}")


def test_a_run_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(SettingsError, match=r"run\.json is not JSON .*; run: make loadtest"):
        LoadedRun.read(tmp_path)
