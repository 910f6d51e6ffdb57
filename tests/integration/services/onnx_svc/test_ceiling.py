import json
from pathlib import Path

import pytest

from services.onnx_svc.ceiling import main
from tests.tiny_onnx import linear, make_export


def test_rows_a_second_are_measured_for_each_number_of_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_export(tmp_path, "m", content=linear(0))
    words = [str(tmp_path / "m" / "onnx" / "1"), "--device", "cpu", "--seconds", "0.05", "--rows", "1", "64"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert "CPUExecutionProvider" in found["engine_version"]
    assert found["rows_per_second"].keys() == {"1", "64"}
    assert all(rate > 0 for rate in found["rows_per_second"].values())


def test_a_folder_without_a_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--device", "cpu"]) == 1
    assert capsys.readouterr().err.startswith("python -m services.onnx_svc.ceiling: ")
